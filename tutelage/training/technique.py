"""Training techniques as data, and the named presets of the paper."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import Literal

import jax
from jaxtyping import PRNGKeyArray

from ..settings import check_fields
from .augmentation import Augmentation
from .curriculum import Schedule

Variant = Literal["paper", "as-released"]

# N of Algorithm 1; the validation length of a stage is the next stage's N.
CURRICULUM = (100, 200, 500, 1000, *range(1500, 5500, 500))

TEACHERS = ("adam:learning_rate=0.01", "sgd:learning_rate=0.01", "adagrad:learning_rate=0.01")


@dataclass(frozen=True)
class ImitationSettings:
    """How often, from whom and with what loss to imitate (Algorithm 2)."""

    ratios: tuple[float, ...] = (0.3,)
    """Probability that an epoch imitates, by stage of the curriculum; the last holds for all later ones."""
    teachers: tuple[str, ...] = TEACHERS
    """Hand-designed optimizers or taught ones, by name, chosen with equal probability."""
    mean_over_coordinates: bool = False
    """Half the mean over coordinates instead of equation 1's sum."""
    own_meta_optimizer: bool = False
    """Whether imitation keeps meta-optimizer moments of its own."""

    def __post_init__(self):
        check_fields(self)
        if not self.ratios or not all(0 <= ratio <= 1 for ratio in self.ratios):
            raise ValueError("Imitation ratios are probabilities from 0 to 1, at least one.")
        if not self.teachers:
            raise ValueError("Imitation needs at least one teacher.")

    def ratio(self, stage: int) -> float:
        return self.ratios[min(stage, len(self.ratios) - 1)]


@dataclass(frozen=True)
class SelfImprovingSettings:
    """How the learned optimizer takes over from its teachers, step by step (section 4.2)."""

    teachers: tuple[str, ...] = TEACHERS
    """Likewise; where the learned optimizer does not act, one of them does, with equal probability."""
    start_probability: float = 0.25
    """Probability that a step's update is the learned optimizer's, in the first epoch."""
    epochs: int = 100
    """Epochs over which that probability grows to 1, linearly."""

    def __post_init__(self):
        check_fields(self)
        if not 0 <= self.start_probability <= 1:
            raise ValueError(f"The start probability is from 0 to 1, not {self.start_probability}.")
        if self.epochs < 1 or not self.teachers:
            raise ValueError("Self-improving needs at least one teacher and one epoch.")

    def learned_probability(self, epoch: int) -> float:
        return min(1.0, self.start_probability + (1 - self.start_probability) * epoch / self.epochs)


@dataclass(frozen=True)
class RandomLengths:
    """Numbers of segments and their lengths drawn afresh each epoch, with long tails (Wichrowska et al. 2017).

    Both are round(Exponential(scale)) + least, at most 3 · least.
    """

    segments_scale: float = 40.0
    segments_least: int = 10
    length_scale: float = 20.0
    length_least: int = 10

    def __post_init__(self):
        check_fields(self)
        if not all(number > 0 for number in astuple(self)):
            raise ValueError("Scales and least values of random lengths are greater than 0.")

    @property
    def longest(self) -> int:
        return 3 * self.length_least

    def draw(self, key: PRNGKeyArray) -> tuple[int, int]:
        """The number of segments and the steps of each."""
        drawn = jax.random.exponential(key, (2,))
        segments = round(float(drawn[0]) * self.segments_scale) + self.segments_least
        length = round(float(drawn[1]) * self.length_scale) + self.length_least
        return min(segments, 3 * self.segments_least), min(length, self.longest)


@dataclass(frozen=True)
class Technique:
    """How a learned optimizer is taught."""

    schedule: Schedule
    imitation: ImitationSettings | None = None
    self_improving: SelfImprovingSettings | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    random_lengths: RandomLengths | None = None
    """Drawn unrolls in place of the schedule's; the schedule still says when to validate."""
    validate_final_point: bool = False
    """Validate by one batch at the final point (as released) instead of the mean over the last 20 steps."""

    def __post_init__(self):
        check_fields(self)
        if self.random_lengths and len(self.schedule.unroll_lengths) > 1:
            raise ValueError("A curriculum and random lengths both say how long to unroll: choose one of them.")
        if self.self_improving and self.imitation and min(self.imitation.ratios) == 1:
            raise ValueError(
                "With an imitation ratio of 1 no epoch is left in which self-improving could act: choose one of them."
            )

    @property
    def teachers(self) -> tuple[str, ...]:
        """All that it learns from, each once."""
        parts = (self.imitation, self.self_improving)
        return tuple(dict.fromkeys(name for part in parts if part for name in part.teachers))


@dataclass(frozen=True)
class _Pace:
    """How long a learned optimizer is trained."""

    epochs: int
    epochs_as_released: int
    period: int
    imitation_as_released: tuple[float, ...]


_PACES = {
    "l2o-dm": _Pace(5_000, 10_000, 100, (0.0, 0.1, 0.3)),
    "rnnprop": _Pace(100, 100, 10, (0.3,)),
    "l2o-scale": _Pace(100, 100, 1, (0.1,)),
}
_PACES["l2o-scale-as-released"] = _PACES["l2o-scale"]

LENGTHS = ("plain", "augmented", "cl", "random-lengths")
ADDITIONS = ("il", "self-improving")


def _parts(name: str) -> tuple[str, list[str]]:
    """What sets the unroll's length, and what is added to it."""
    additions = []
    rest = name
    for addition in ADDITIONS[::-1]:
        if rest == addition or rest.endswith(f"-{addition}"):
            additions.append(addition)
            rest = rest[: -len(addition)].removesuffix("-")
    if (rest or "plain") not in LENGTHS:
        raise ValueError(
            f'There is no technique "{name}": one of {", ".join(LENGTHS)} says how long to unroll, and -il, '
            f"-self-improving or both may follow, as in cl-il or plain-self-improving."
        )
    return rest or "plain", additions


def _fixed(unroll: int, validation: int, epochs: int, period: int) -> Schedule:
    periods = -(-epochs // period)
    return Schedule((unroll,), (validation,), period, min_periods=periods, max_periods=periods)


def technique(name: str, variant: Variant = "paper", optimizer: str = "l2o-dm") -> Technique:
    """The technique called `name`, at the pace of the given learned optimizer (L2O-DM's, if it is not the paper's).

    The name begins with what sets the length of the unroll: plain (N = 100), augmented (N = 1,000), cl (curriculum) or
    random-lengths; imitation and self-improving are added as in `cl-il` or `cl-il-self-improving`, and alone
    they mean plain.

    Args:
        variant: as in the paper, or as in the authors' released program where that differs.

    Raises:
        ValueError: an unknown name or variant.
    """
    if variant not in ("paper", "as-released"):
        raise ValueError(f'The variant is "paper" or "as-released", not "{variant}".')
    length, additions = _parts(name)
    released = variant == "as-released"
    pace = _PACES.get(optimizer, _PACES["l2o-dm"])
    imitation = ImitationSettings() if "il" in additions else None
    if imitation and released:
        # without a curriculum there is but one stage, trained at the ratio of the last
        ratios = pace.imitation_as_released if length == "cl" else pace.imitation_as_released[-1:]
        imitation = ImitationSettings(ratios, TEACHERS[:1], mean_over_coordinates=True, own_meta_optimizer=True)
    return Technique(
        _schedule(length, pace, released),
        imitation,
        SelfImprovingSettings() if "self-improving" in additions else None,
        random_lengths=RandomLengths() if length == "random-lengths" else None,
        validate_final_point=released,
    )


def _schedule(length: str, pace: _Pace, released: bool) -> Schedule:
    if length == "cl":
        lengths: Sequence[int] = CURRICULUM
        return Schedule(tuple(lengths[:-1]), tuple(lengths[1:]), pace.period, stop_when_stage_fails=not released)
    if length == "augmented":
        return _fixed(500 if released else 1000, 1500, pace.epochs, pace.period)
    return _fixed(100, 100, pace.epochs_as_released if released else pace.epochs, pace.period)
