"""The complete settings of a training run, and their file."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w

from ..files import write_text
from ..optimizers import load_weights, parse_hand_designed
from ..settings import check_fields
from .augmentation import Augmentation
from .curriculum import Schedule
from .objective import LOG_EPSILON, SEGMENT_LENGTH, ObjectiveSettings
from .technique import ImitationSettings, RandomLengths, SelfImprovingSettings, Technique

Objective = Literal["sum", "log"]
Estimator = Literal["backpropagation", "es", "pes"]


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that determines the outcome of training, written to `config.toml` of the run."""

    technique: Technique
    optimizer: str = "l2o-dm"
    """The learned optimizer, by the name of its architecture or as package.module:factory."""
    on: tuple[str, ...] = ("mlp-orig",)
    """Optimizees, by name or as package.module:factory; of several, each epoch draws one."""
    initial_weights: str | None = None
    """What training begins with: a name in the zoo, a run directory or a file of weights; None for random ones."""
    seed: int = 0
    num_tasks: int = 1
    """Optimizees trained on at once; 1 is the paper."""
    meta_optimizer: str = "adam:learning_rate=0.001"
    """A hand-designed optimizer, for the learned optimizer's weights."""
    gradient_clip: float | None = None
    """Largest global norm of the meta-gradient; without it, no clipping."""
    elementwise_clip: float | None = None
    """Largest absolute value of the meta-gradient's elements; without it, no clipping."""
    objective: Objective = "sum"
    """Sum of the losses, or mean of the logarithms of the losses relative to the initial one."""
    log_epsilon: float | None = None
    """ε added to what logarithms are taken of, there and in validations on several optimizees; None for 1e-6."""
    objective_batches: int = 0
    """Batches, drawn once a segment, that the objective's losses are means over; with 0, each step's own batch."""
    segment_length: int | None = None
    """Steps between two steps of the meta-optimizer; None for 20, or as many as the technique draws."""
    estimator: Estimator = "backpropagation"
    """Of the meta-gradient: truncated backpropagation, or (persistent) evolution strategies."""
    perturbation: float = 0.01
    """Standard deviation σ of the noise on the weights, for evolution strategies."""
    second_derivatives: bool = False
    """Whether the meta-gradient goes through the optimizee's gradient too."""
    num_validation: int = 20
    """Fresh optimizees that a validation averages over."""
    validate_on: tuple[str, ...] | None = None
    """Optimizees that validations are on; None for those of training."""
    max_epochs: int | None = None
    """Epochs after which training stops wherever it is."""

    def __post_init__(self):
        for name, given in (
            ("on", self.on),
            ("validate_on", ("mlp-orig",) if self.validate_on is None else self.validate_on),
        ):
            if isinstance(given, str) or not given:
                raise ValueError(f'{name} is a tuple of at least one optimizee, as in ("mlp-orig",).')
        check_fields(self)
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0, not {value}.")
        if not 0 <= self.seed < 2**32:  # of a larger number JAX takes the last 32 bits, without a word
            raise ValueError(f"seed must be from 0 to {2**32 - 1}, not {self.seed}.")
        if self.objective_batches < 0:
            raise ValueError(f"objective_batches must be 0 or more, not {self.objective_batches}.")
        if self.segment_length is not None:
            self._check_segment_length(self.segment_length)
        if self.second_derivatives and self.estimator != "backpropagation":
            raise ValueError(
                f"{self.estimator} does not differentiate, so second derivatives make no difference: leave one out."
            )
        parse_hand_designed(self.meta_optimizer)

    def _check_segment_length(self, steps: int) -> None:
        if self.technique.random_lengths:
            raise ValueError("This technique draws the lengths of its segments: leave segment_length out.")
        for unroll in self.technique.schedule.unroll_lengths:
            if unroll % steps:
                raise ValueError(f"An unroll is a whole number of segments: {unroll} steps are none of {steps}.")

    @property
    def optimizees(self) -> tuple[str, ...]:
        """All that it names: those of training and those of validation."""
        return (*self.on, *(self.validate_on or ()))

    @property
    def objective_settings(self) -> ObjectiveSettings:
        """Of the unroll."""
        lengths = self.technique.random_lengths
        return ObjectiveSettings(
            log_objective=self.objective == "log",
            log_epsilon=self.log_epsilon or LOG_EPSILON,
            objective_batches=self.objective_batches,
            augmentation=self.technique.augmentation,
            segment_length=lengths.longest if lengths else self.segment_length or SEGMENT_LENGTH,
        )

    def save(self, path: Path) -> None:
        """Write as TOML; what is None is left out."""
        write_text(path, tomli_w.dumps(without_none(asdict(self))))

    @staticmethod
    def load(path: Path) -> "TrainingConfig":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is not such a configuration.
        """
        try:
            return TrainingConfig.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is not a valid training configuration ({error}).") from error

    @staticmethod
    def of_weights(path: Path) -> "TrainingConfig":
        """The settings that weights were taught with, from the header of their file.

        Raises:
            ValueError: a damaged file, or one that does not say.
        """
        _, provenance = load_weights(path)
        try:
            return TrainingConfig.from_dict(provenance["config"])
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{path} does not say with what settings it was taught ({error}).") from error

    @staticmethod
    def from_dict(table: dict[str, Any]) -> "TrainingConfig":
        """From the settings as plain data, as TOML has them or the header of a weights file.

        Raises:
            TypeError, KeyError: they are not complete, or others.
        """
        settings = _tuples(without_none(table))
        technique = settings.pop("technique")
        parts = {name: kind(**technique.pop(name)) for name, kind in _PARTS.items() if name in technique}
        return TrainingConfig(technique=Technique(**parts, **technique), **settings)


_POSITIVE = (
    "num_tasks",
    "num_validation",
    "log_epsilon",
    "segment_length",
    "perturbation",
    "gradient_clip",
    "elementwise_clip",
    "max_epochs",
)

_PARTS: dict[str, Any] = {
    "schedule": Schedule,
    "imitation": ImitationSettings,
    "self_improving": SelfImprovingSettings,
    "augmentation": Augmentation,
    "random_lengths": RandomLengths,
}


def without_none(table: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: what is None is left out."""
    return {
        key: without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else _tuples(value) if isinstance(value, dict) else value
        for key, value in table.items()
    }
