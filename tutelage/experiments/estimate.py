"""How long a campaign will take: what each part was expected to take, corrected by how they come along."""

from collections.abc import Mapping
from typing import NamedTuple

from .parts import Part

_TRUST = 0.05  # in the expected times: as if so much of the campaign had taken just what was expected


class _AtWork(NamedTuple):
    since: float
    before: float
    """The share that was done then, more than 0 where a part goes on."""
    share: float
    """The share that is done."""


class Estimate:
    """Of the parts of a campaign. Times are seconds of any clock."""

    def __init__(self, expected: Mapping[Part, float]):
        """Expected seconds of each part."""
        self._total = sum(expected.values())
        self._unfinished = dict(expected)
        self._at_work: dict[Part, _AtWork] = {}
        self._ended = (0.0, 0.0)  # seconds spent on parts that have ended, and those expected for the same

    def come(self, part: Part, share: float, now: float) -> None:
        """A part computes something, and such a share of it is done."""
        self._at_work[part] = self._at_work.get(part, _AtWork(now, share, share))._replace(share=share)

    def end(self, part: Part, now: float) -> None:
        """A part has ended; where it never came along it was finished before, and says nothing of the pace."""
        if part in self._at_work:
            self.come(part, 1.0, now)
            spent, worth = self._cost(part, now)
            self._ended = (self._ended[0] + spent, self._ended[1] + worth)
            del self._at_work[part]
        del self._unfinished[part]

    def _cost(self, part: Part, now: float) -> tuple[float, float]:
        """Seconds spent on a part at work, and those expected for the same."""
        since, before, share = self._at_work[part]
        return now - since, self._unfinished[part] * (share - before)

    @property
    def _left(self) -> float:
        done = sum((self._unfinished[part] * at_work.share for part, at_work in self._at_work.items()), 0.0)
        return sum(self._unfinished.values(), 0.0) - done

    @property
    def share(self) -> float:
        """Of the whole campaign's expected time: what is done."""
        return 1 - self._left / self._total

    def seconds_left(self, num_workers: int, now: float) -> float | None:
        """With so many parts side by side. None until there is something to go by."""
        costs = [self._ended, *(self._cost(part, now) for part in self._at_work)]
        spent, worth = (sum(column) for column in zip(*costs, strict=True))
        return self._left * pace(spent, worth, self._total) / num_workers if worth > 0 else None


def pace(spent: float, worth: float, total: float) -> float:
    """Seconds that an expected second takes, given those spent on what was expected to take `worth` of `total`.

    The first of them go to starting and compiling, so that they alone would promise days for an hour's work.
    """
    prior = _TRUST * total
    return (spent + prior) / (worth + prior)
