"""The paper's experiments, and what goes beyond it, as data: a file each in `figures/`."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from ..naming import unknown_name
from ..training import TrainingConfig, recipe
from ..weights import find_weights

FIGURES = files(__name__.rpartition(".")[0]) / "figures"


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper that a table can bear out or not."""

    says: str
    better: str
    """The optimizer that is said to be better."""
    worse: tuple[str, ...]
    """What it is better than: of several, the best on each optimizee."""
    measure: Literal["final loss", "training steps"] = "final loss"
    factor: float = 1.0
    """For training steps: so many times fewer."""
    on: tuple[str, ...] = ()
    """Optimizees; without any, all of the experiment."""


@dataclass(frozen=True)
class Experiment:
    """A figure of the paper: what is trained, tuned and evaluated for it, and what it is to show."""

    name: str
    title: str
    paper: str
    """Which figure or section it is."""
    on: tuple[str, ...]
    """Optimizees to evaluate on."""
    taught: dict[str, TrainingConfig]
    tuned: dict[str, str] = field(default_factory=dict)
    """Hand-designed optimizers whose learning rate is searched for each optimizee; `STEPS` is the number of steps."""
    continues: dict[str, str] = field(default_factory=dict)
    """Taught optimizers whose training goes on where that of another ended."""
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    """The paper's final log-losses, digitised, by optimizer and optimizee."""
    claims: tuple[Claim, ...] = ()

    def __post_init__(self):
        known = (*self.taught, *self.tuned)
        named = {name for claim in self.claims for name in (claim.better, *claim.worse)} | set(self.published)
        for name in named - set(known):
            raise unknown_name(f"optimizer in experiment {self.name}", name, known)


def experiment_names() -> tuple[str, ...]:
    """Of all experiments there are."""
    return tuple(sorted(Path(file.name).stem for file in FIGURES.iterdir() if file.name.endswith(".toml")))


def load_experiment(name: str) -> Experiment:
    """The experiment called `name`.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in experiment_names():
        raise unknown_name("experiment", name, experiment_names())
    return _parse(name, tomllib.loads((FIGURES / f"{name}.toml").read_text()))


def _parse(name: str, table: dict[str, Any]) -> Experiment:
    taught: dict[str, TrainingConfig] = {}
    continues: dict[str, str] = {}
    for taught_name, settings in table.pop("taught").items():
        configs, before = _taught(taught_name, **settings), None
        taught |= configs
        for step in configs:
            if before:
                continues[step] = before
            before = step
    claims = tuple(_claim(**claim) for claim in table.pop("claims", ()))
    return Experiment(name, taught=taught, continues=continues, claims=claims, on=tuple(table.pop("on")), **table)


def _claim(worse: str | list[str], on: Sequence[str] = (), **claim: Any) -> Claim:
    return Claim(worse=(worse,) if isinstance(worse, str) else tuple(worse), on=tuple(on), **claim)


def _taught(name: str, like: str | None = None, **settings: Any) -> dict[str, TrainingConfig]:
    """Training runs by name: one with the settings of an optimizer of the zoo, or what `_configs` makes of them."""
    if like is not None:
        return {name: TrainingConfig.of_weights(find_weights(like))}
    return _configs(name, **settings)


def _configs(
    name: str,
    optimizer: str,
    technique: str,
    on: list[str] | None = None,
    unroll: int | None = None,
    until: list[int] | None = None,
    **settings: Any,
) -> dict[str, TrainingConfig]:
    """The run called `name`; or, with numbers of epochs in `until`, one for each, that goes on from the one before.

    `unroll` takes the place of the technique's unroll and validation lengths.
    """
    if on:
        settings["on"] = tuple(on)
    config = recipe(optimizer, technique, **settings)
    if unroll is not None:
        schedule = replace(config.technique.schedule, unroll_lengths=(unroll,), validation_lengths=(unroll,))
        config = replace(config, technique=replace(config.technique, schedule=schedule))
    if until is None:
        return {name: config}
    return {f"{name}-{epochs}": replace(config, max_epochs=epochs) for epochs in until}
