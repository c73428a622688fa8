"""The curriculum of unroll lengths (Algorithm 1), a state machine without any JAX in it."""

import math
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from ..settings import check_fields


@dataclass(frozen=True)
class Schedule:
    """Stages of growing unroll length, each worked through in periods that end with a validation.

    A single stage with `min_periods` equal to `max_periods` is training without a curriculum.
    """

    unroll_lengths: tuple[int, ...]
    """Steps of an epoch's unroll, by stage."""
    validation_lengths: tuple[int, ...]
    """Steps of the validation's rollouts, by stage."""
    period: int = 100
    """Epochs between validations (T_period)."""
    min_periods: int = 3
    """Periods that every stage runs at least (N_period)."""
    max_periods: int | None = None
    """Periods that a stage runs at most; without it, as long as the last one was the best."""
    stop_when_stage_fails: bool = True
    """Whether a stage that improved on nothing ends training (paper) or goes on until it improves (as released)."""

    def __post_init__(self):
        check_fields(self)
        if not self.unroll_lengths or len(self.unroll_lengths) != len(self.validation_lengths):
            raise ValueError("A schedule needs as many validation lengths as unroll lengths, at least one.")
        for length in (*self.unroll_lengths, *self.validation_lengths):
            if length < 20 or length % 20:
                raise ValueError(f"Unroll and validation lengths are multiples of 20 steps, not {length}.")
        if self.period < 1 or self.min_periods < 1:
            raise ValueError("A schedule's period and its least number of periods are 1 or more.")

    def validated_after(self, num_steps: int) -> "Schedule":
        """The same, but every validation has so many steps."""
        return replace(self, validation_lengths=(num_steps,) * len(self.unroll_lengths))

    def validated_every(self, epochs: int) -> "Schedule":
        """The same, but with periods of so many epochs, in stages as long as before, up to whole periods.

        Where nothing but validations ends a stage, it has as many periods as before.
        """
        changed = replace(self, period=epochs)
        if self.max_periods is None:
            return changed
        least, most = (-(-self.period * periods // epochs) for periods in (self.min_periods, self.max_periods))
        return replace(changed, min_periods=least, max_periods=most)


class Decision(Enum):
    """What follows a validation."""

    CONTINUE = "continue"
    ADVANCE = "advance"
    STOP = "stop"


@dataclass
class Curriculum:
    """Where training stands in its schedule.

    Alternate between `end_epoch`, until `expects_validation`, and `report`. The first validation of each stage is
    of the weights it starts from: its baseline, unless the stage before has validated them at the same length. After
    ADVANCE and STOP the best weights are to be restored.
    """

    schedule: Schedule = field(repr=False)
    stage: int = 0
    periods: int = -1
    """Finished periods of this stage; -1 while its baseline is still to be validated."""
    epochs: int = 0
    """Finished epochs of this period."""
    best_loss: float = math.inf
    improved: bool = False
    """Whether this stage has improved on its baseline."""
    finished: bool = False

    @property
    def unroll_length(self) -> int:
        return self.schedule.unroll_lengths[self.stage]

    @property
    def validation_length(self) -> int:
        return self.schedule.validation_lengths[self.stage]

    @property
    def expects_validation(self) -> bool:
        return not self.finished and (self.periods < 0 or self.epochs == self.schedule.period)

    def end_epoch(self) -> None:
        """Count a training epoch."""
        assert not self.finished
        assert not self.expects_validation
        self.epochs += 1

    def report(self, validation_loss: float) -> tuple[Decision, bool]:
        """Take a validation's loss; say what follows, and whether these weights are the best.

        A period may be cut short by it. A loss that is not a number counts as infinite.
        """
        assert not self.finished
        loss = math.inf if math.isnan(validation_loss) else validation_loss
        self.periods += 1
        self.epochs = 0
        if self.periods == 0:
            self.best_loss = loss
            return Decision.CONTINUE, True
        is_best = loss < self.best_loss
        if is_best:
            self.best_loss = loss
            self.improved = True
        return self._decide(is_best), is_best

    def _decide(self, is_best: bool) -> Decision:
        schedule = self.schedule
        if schedule.max_periods is not None and self.periods >= schedule.max_periods:
            go_on = self.improved or not schedule.stop_when_stage_fails
            return self._advance() if go_on else self._stop()
        if self.periods < schedule.min_periods or is_best:
            return Decision.CONTINUE
        if self.improved:
            return self._advance()
        return self._stop() if schedule.stop_when_stage_fails else Decision.CONTINUE

    def _advance(self) -> Decision:
        if self.stage + 1 == len(self.schedule.unroll_lengths):
            return self._stop()
        before = self.validation_length
        self.stage += 1
        self.periods, self.epochs, self.improved = 0, 0, False
        if self.validation_length != before:  # else the restored weights have their baseline already
            self.periods, self.best_loss = -1, math.inf
        return Decision.ADVANCE

    def _stop(self) -> Decision:
        self.finished = True
        return Decision.STOP

    def to_dict(self) -> dict[str, Any]:
        """The state as plain numbers."""
        state = asdict(self)
        del state["schedule"]
        return state

    @staticmethod
    def from_dict(schedule: Schedule, state: dict[str, Any]) -> "Curriculum":
        """The reverse of `to_dict`."""
        return Curriculum(schedule, **state)
