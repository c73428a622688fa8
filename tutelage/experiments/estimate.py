"""How long a campaign will take: what each part was expected to take, corrected by how they come along."""

from collections.abc import Mapping

from .parts import Part

_TRUST = 0.05  # in the expected times: as if so much of the campaign had taken just what was expected


class Estimate:
    """Of the parts of a campaign. Times are seconds of any clock."""

    def __init__(self, expected: Mapping[Part, float]):
        """Expected seconds of each part."""
        self._expected = dict(expected)
        self._unfinished = dict(expected)
        self._begun: dict[Part, tuple[float, float]] = {}  # when, and the share that was done before
        self._done: dict[Part, float] = {}  # the share, of those at work
        self._ended = (0.0, 0.0)  # seconds spent on parts that have ended, and those expected for the same

    def come(self, part: Part, share: float, now: float) -> None:
        """A part computes something, and such a share of it is done."""
        self._begun.setdefault(part, (now, share))
        self._done[part] = share

    def end(self, part: Part, now: float) -> None:
        """A part has ended; where it never came along it was finished before, and says nothing of the pace."""
        del self._unfinished[part]
        if part in self._begun:
            spent, worth = self._at_work(part, 1.0, now)
            self._ended = (self._ended[0] + spent, self._ended[1] + worth)
            del self._begun[part], self._done[part]

    def _at_work(self, part: Part, share: float, now: float) -> tuple[float, float]:
        began, before = self._begun[part]
        return now - began, self._expected[part] * (share - before)

    @property
    def _left(self) -> float:
        return sum((seconds * (1 - self._done.get(part, 0.0)) for part, seconds in self._unfinished.items()), 0.0)

    @property
    def _total(self) -> float:
        return sum(self._expected.values())

    @property
    def share(self) -> float:
        """Of the whole campaign's expected time: what is done."""
        return 1 - self._left / self._total

    def seconds_left(self, num_workers: int, now: float) -> float | None:
        """With so many parts side by side. None until there is something to go by."""
        running = [self._at_work(part, share, now) for part, share in self._done.items()]
        spent, worth = (sum(column) for column in zip(self._ended, *running, strict=True))
        return self._left * pace(spent, worth, self._total) / num_workers if worth > 0 else None


def pace(spent: float, worth: float, total: float) -> float:
    """Seconds that an expected second takes, given those spent on what was expected to take `worth` of `total`.

    The first of them go to starting and compiling, so that they alone would promise days for an hour's work.
    """
    prior = _TRUST * total
    return (spent + prior) / (worth + prior)
