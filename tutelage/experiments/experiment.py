"""What an experiment is: the optimizers that it compares, where, and what that is to show."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..evaluation import check_tunable
from ..naming import unknown_name
from ..optimizees import check_optimizee_name, expand
from ..optimizers import find_architecture
from ..training import TrainingConfig
from ..training.taken import check_taken

Measure = Literal["final loss", "training steps"]


@dataclass(frozen=True)
class Claim:
    """A sentence that a table can bear out or not.

    Raises:
        ValueError: nothing is said to be worse.
    """

    says: str
    better: str
    """The optimizer that is said to be better."""
    worse: tuple[str, ...]
    """What it is better than: of several, the best on each optimizee."""
    measure: Measure = "final loss"
    factor: float = 1.0
    """For training steps: so many times fewer."""
    on: tuple[str, ...] = ()
    """Optimizees; without any, all of the experiment."""

    def __post_init__(self):
        if not self.worse:
            raise ValueError(f'The claim "{self.says}" needs an optimizer in `worse`.')

    @property
    def names(self) -> tuple[str, ...]:
        """Of all the optimizers that it is on."""
        return (self.better, *self.worse)


@dataclass(frozen=True)
class Experiment:
    """A figure of the paper, or a comparison of one's own: what is trained, tuned and evaluated for it.

    Raises:
        ValueError: it names what there is not.
    """

    name: str
    title: str
    on: tuple[str, ...]
    """Optimizees to evaluate on."""
    taught: dict[str, TrainingConfig]
    paper: str = ""
    """Which figure or section it is."""
    tuned: dict[str, str] = field(default_factory=dict)
    """Hand-designed optimizers whose learning rate is searched for each optimizee; `STEPS` is the number of steps."""
    continues: dict[str, str] = field(default_factory=dict)
    """Taught optimizers whose training goes on where that of another ended."""
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    """The paper's final log-losses, digitised, by optimizer and optimizee."""
    claims: tuple[Claim, ...] = ()

    def __post_init__(self):
        if not self.on or not self.taught:
            raise ValueError("An experiment needs an optimizee in `on` and an optimizer in [taught].")
        if both := self.taught.keys() & self.tuned.keys():
            raise ValueError(f'There are two optimizers called "{min(both)}": one is taught, one is tuned.')
        for name, config in self.taught.items():
            if name != Path(name).name:
                raise ValueError(f'"{name}" is to be part of a folder\'s name: call it otherwise, without slashes.')
            find_architecture(config.optimizer)
            check_taken(config)
        for problem in (*self.on, *expand([name for config in self.taught.values() for name in config.optimizees])):
            check_optimizee_name(problem)
        for optimizer in self.tuned.values():
            check_tunable(with_steps(optimizer, 1))
        named = {name for claim in self.claims for name in claim.names} | set(self.published)
        _check("optimizer in this experiment", named, (*self.taught, *self.tuned))
        trained = {name for claim in self.claims if claim.measure == "training steps" for name in claim.names}
        _check("taught optimizer in this experiment", trained, self.taught)
        judged = {name for claim in self.claims for name in claim.on}
        published = {name for values in self.published.values() for name in values}
        _check("optimizee in this experiment", judged | published, self.on)

    @property
    def heading(self) -> str:
        """What its report is called."""
        return f"{self.paper}: {self.title}" if self.paper else self.title


def with_steps(optimizer: str, num_steps: int) -> str:
    """A hand-designed optimizer for runs of this length."""
    return optimizer.replace("STEPS", str(num_steps))


def _check(kind: str, names: Collection[str], known: Collection[str]) -> None:
    for name in sorted(set(names) - set(known)):
        raise unknown_name(kind, name, known)
