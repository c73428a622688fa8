"""How much of everything an experiment does: a minute of it, an afternoon, or all that the paper did."""

from dataclasses import dataclass, field, replace
from typing import Literal

from ..naming import is_own, unknown_name
from ..training import Schedule, TrainingConfig

ScaleName = Literal["smoke", "small", "paper"]


@dataclass(frozen=True)
class Scale:
    """What is made smaller, in every experiment alike."""

    seeds: int
    """Of each evaluation."""
    num_steps: int
    """Of each evaluation."""
    tuning_seeds: int
    """Of each learning rate tried."""
    fewer_seeds: dict[str, int] = field(default_factory=dict)
    """Of evaluations and tuning on the optimizees where a seed is dear: at most so many."""
    fewer_steps: dict[str, int] = field(default_factory=dict)
    """Of evaluations and tuning on the optimizees where a step is dear."""
    pace: float = 1.0
    """Factor on numbers of training epochs above 100, which do not fall below 100 by it."""
    longest_period: int | None = None
    """Training epochs between validations, at most."""
    epochs: int | None = None
    """Training epochs of any stage, at most."""
    training_steps: int | None = None
    """Of a training run without a curriculum, at most; the epochs of a longer one shrink in proportion."""
    unroll: float = 1.0
    """Factor on unroll and validation lengths, which stay multiples of 20."""
    stages: int | None = None
    """Stages of a curriculum, at most."""
    num_validation: int | None = None
    """Fresh optimizees of a validation, at most."""
    instead: str | None = None
    """An optimizee that takes the place of all others but a user's own."""

    def seeds_on(self, optimizee: str) -> int:
        return min(self.seeds, self.fewer_seeds.get(optimizee, self.seeds))

    def tuning_seeds_on(self, optimizee: str) -> int:
        return min(self.tuning_seeds, self.fewer_seeds.get(optimizee, self.tuning_seeds))

    def steps_on(self, optimizee: str) -> int:
        return self.fewer_steps.get(optimizee, self.num_steps)

    def optimizees(self, names: tuple[str, ...]) -> tuple[str, ...]:
        if self.instead is None:
            return names
        return tuple(dict.fromkeys(name if is_own(name) else self.instead for name in names))

    def num_epochs(self, number: int, schedule: Schedule) -> int:
        """So many epochs, at least 1, for `number` of a run with this schedule."""
        epochs = self._at_pace(number)
        if self.training_steps is None or schedule.max_periods is None:
            return epochs
        steps = self._at_pace(schedule.period * schedule.max_periods) * self.lengths(schedule.unroll_lengths)[0]
        return max(1, round(epochs * min(1, self.training_steps / steps)))

    def _at_pace(self, number: int) -> int:
        number = max(round(number * self.pace), min(number, 100))
        return min(number, self.epochs or number)

    def lengths(self, lengths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(1, round(length * self.unroll / 20)) * 20 for length in lengths)

    def training(self, config: TrainingConfig) -> TrainingConfig:
        """The settings of a training run at this scale."""
        schedule = config.technique.schedule
        return replace(
            config,
            on=self.optimizees(config.on),
            validate_on=config.validate_on and self.optimizees(config.validate_on),
            technique=replace(config.technique, schedule=self._schedule(schedule)),
            num_validation=min(config.num_validation, self.num_validation or config.num_validation),
            max_epochs=config.max_epochs and self.num_epochs(config.max_epochs, schedule),
        )

    def _schedule(self, schedule: Schedule) -> Schedule:
        period = min(schedule.period, self.longest_period or schedule.period)
        epochs = schedule.max_periods and self.num_epochs(schedule.period * schedule.max_periods, schedule)
        schedule = replace(
            schedule,
            unroll_lengths=self.lengths(schedule.unroll_lengths),
            validation_lengths=self.lengths(schedule.validation_lengths),
        )
        if epochs is not None:  # without a curriculum: so many in all
            periods = -(-epochs // period)
            return replace(schedule, period=period, min_periods=periods, max_periods=periods)
        stages = slice(self.stages)
        periods = None if self.epochs is None else max(1, self.epochs // period)
        return replace(
            schedule,
            unroll_lengths=schedule.unroll_lengths[stages],
            validation_lengths=schedule.validation_lengths[stages],
            period=period,
            max_periods=periods,
            min_periods=periods or schedule.min_periods,
        )


SCALES: dict[str, Scale] = {
    "smoke": Scale(
        seeds=3,
        num_steps=200,
        tuning_seeds=1,
        pace=0.001,
        longest_period=1,
        epochs=2,
        unroll=0.2,
        stages=2,
        num_validation=2,
        instead="mlp-digits",
    ),
    "small": Scale(
        seeds=5,
        num_steps=10_000,
        tuning_seeds=2,
        fewer_seeds={"nas-cifar": 3},
        fewer_steps={"conv-mnist": 2_000, "conv-cifar": 2_000, "lenet": 2_000, "nas-cifar": 1_000},
        pace=0.1,
        longest_period=10,
        training_steps=150_000,
    ),
    "paper": Scale(seeds=10, num_steps=10_000, tuning_seeds=3),
}


def find_scale(name: str) -> Scale:
    """One of `SCALES`.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in SCALES:
        raise unknown_name("scale", name, SCALES)
    return SCALES[name]
