"""Training techniques as data, and the named presets of the paper."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .curriculum import Schedule

Variant = Literal["paper", "as-released"]

# N of Algorithm 1; the validation length of a stage is the next stage's N.
CURRICULUM = (100, 200, 500, 1000, *range(1500, 5500, 500))


@dataclass(frozen=True)
class ImitationSettings:
    """How often, from whom and with what loss to imitate (Algorithm 2)."""

    ratios: tuple[float, ...] = (0.3,)
    """Probability that an epoch imitates, by stage of the curriculum; the last holds for all later ones."""
    teachers: tuple[str, ...] = (
        "adam:learning_rate=0.01",
        "sgd:learning_rate=0.01",
        "adagrad:learning_rate=0.01",
    )
    """Hand-designed optimizers, chosen with equal probability."""
    mean_over_coordinates: bool = False
    """Half the mean over coordinates instead of equation 1's sum."""
    own_meta_optimizer: bool = False
    """Whether imitation keeps meta-optimizer moments of its own."""

    def __post_init__(self):
        if not self.ratios or not all(0 <= ratio <= 1 for ratio in self.ratios):
            raise ValueError("Imitation ratios are probabilities from 0 to 1, at least one.")
        if not self.teachers:
            raise ValueError("Imitation needs at least one teacher.")

    def ratio(self, stage: int) -> float:
        return self.ratios[min(stage, len(self.ratios) - 1)]


@dataclass(frozen=True)
class Technique:
    """How a learned optimizer is taught."""

    schedule: Schedule
    imitation: ImitationSettings | None = None
    validate_final_point: bool = False
    """Validate by one batch at the final point (as released) instead of the mean over the last 20 steps."""


def _fixed(unroll: int, validation: int, epochs: int, period: int = 100) -> Schedule:
    periods = -(-epochs // period)
    return Schedule((unroll,), (validation,), period, min_periods=periods, max_periods=periods)


def _curriculum(stop_when_stage_fails: bool) -> Schedule:
    return Schedule(CURRICULUM[:-1], CURRICULUM[1:], stop_when_stage_fails=stop_when_stage_fails)


def _released_imitation(*ratios: float) -> ImitationSettings:
    return ImitationSettings(ratios, ("adam:learning_rate=0.01",), mean_over_coordinates=True, own_meta_optimizer=True)


_PRESETS: dict[tuple[str, Variant], Callable[[], Technique]] = {
    ("plain", "paper"): lambda: Technique(_fixed(100, 100, 5_000)),
    ("plain", "as-released"): lambda: Technique(_fixed(100, 100, 10_000), validate_final_point=True),
    ("augmented", "paper"): lambda: Technique(_fixed(1000, 1500, 5_000)),
    ("augmented", "as-released"): lambda: Technique(_fixed(500, 1500, 5_000), validate_final_point=True),
    ("cl", "paper"): lambda: Technique(_curriculum(True)),
    ("cl", "as-released"): lambda: Technique(_curriculum(False), validate_final_point=True),
    ("il", "paper"): lambda: Technique(_fixed(100, 100, 5_000), ImitationSettings()),
    ("il", "as-released"): lambda: Technique(
        _fixed(100, 100, 10_000), _released_imitation(0.3), validate_final_point=True
    ),
    ("cl-il", "paper"): lambda: Technique(_curriculum(True), ImitationSettings()),
    ("cl-il", "as-released"): lambda: Technique(
        _curriculum(False),
        _released_imitation(0.0, 0.1, 0.3),
        validate_final_point=True,
    ),
}

TECHNIQUES = tuple(dict.fromkeys(name for name, _ in _PRESETS))


def technique(name: str, variant: Variant = "paper") -> Technique:
    """The preset called `name`: plain, augmented, cl, il or cl-il, as in the paper or as in the released program.

    Raises:
        ValueError: an unknown name or variant.
    """
    if (name, variant) not in _PRESETS:
        raise ValueError(
            f'There is no technique "{name}" ({variant}); known: {", ".join(TECHNIQUES)}, each as paper or as-released.'
        )
    return _PRESETS[name, variant]()
