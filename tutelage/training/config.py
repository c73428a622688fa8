"""The complete settings of a training run, and their file."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w

from .curriculum import Schedule
from .technique import ImitationSettings, Technique


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that determines the outcome of training, written to `config.toml` of the run."""

    technique: Technique
    optimizer: str = "l2o-dm"
    """Name of the learned optimizer's architecture."""
    on: str = "mlp-orig"
    """Name of the optimizee."""
    seed: int = 0
    num_tasks: int = 1
    """Optimizees trained on at once; 1 is the paper."""
    meta_learning_rate: float = 1e-3
    """Of the meta-optimizer, Adam."""
    gradient_clip: float | None = None
    """Largest global norm of the meta-gradient; without it, no clipping."""
    second_derivatives: bool = False
    """Whether the meta-gradient goes through the optimizee's gradient too."""
    num_validation: int = 20
    """Fresh optimizees that a validation averages over."""
    max_epochs: int | None = None
    """Epochs after which training stops wherever it is."""

    def __post_init__(self):
        for name in ("num_tasks", "num_validation", "meta_learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0, not {getattr(self, name)}.")
        if self.gradient_clip is not None and self.gradient_clip <= 0:
            raise ValueError(f"gradient_clip must be greater than 0, not {self.gradient_clip}.")

    def save(self, path: Path) -> None:
        """Write as TOML; what is None is left out."""
        path.write_text(tomli_w.dumps(_without_none(asdict(self))))

    @staticmethod
    def load(path: Path) -> "TrainingConfig":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is not such a configuration.
        """
        try:
            table = tomllib.loads(path.read_text())
            technique = table.pop("technique")
            schedule = Schedule(**_tuples(technique.pop("schedule")))
            imitation = technique.pop("imitation", None)
            if imitation is not None:
                imitation = ImitationSettings(**_tuples(imitation))
            return TrainingConfig(technique=Technique(schedule, imitation, **technique), **table)
        except (tomllib.TOMLDecodeError, TypeError, KeyError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a complete training configuration ({error}).") from error


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
