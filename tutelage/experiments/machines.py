"""Which machines had a hand in a campaign, as its folder may have been at home on several."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..files import make_folder, remove_partial, write_text
from .parts import Part, Place


class Machines:
    """For every part a file that lists the machines, one to a line, that computed some of it."""

    def __init__(self, place: Place):
        self.folder = place.folder / "machines"

    def _path(self, part: Part) -> Path:
        return self.folder / hashlib.blake2b(repr(part).encode(), digest_size=16).hexdigest()

    def of(self, part: Part) -> list[str]:
        """Those that were at work on the part; none where it came here finished, without this folder."""
        path = self._path(part)
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def add(self, part: Part, machine: str) -> None:
        """This machine is at work on the part."""
        machines = self.of(part)
        if machine not in machines:
            make_folder(self.folder)
            write_text(self._path(part), "\n".join([*machines, machine]) + "\n")

    def remove_partial(self) -> None:
        """Remove what a killed process was writing. Nobody else may be writing."""
        remove_partial(self.folder)

    def describe(self, parts: Sequence[Part]) -> str:
        """All that were at work on the parts, with the number of parts where they are several."""
        found = [self.of(part) or ["not recorded"] for part in parts]
        counts = Counter(machine for machines in found for machine in machines)
        if len(counts) == 1:
            return next(iter(counts))
        return "; ".join(f"{machine} ({number} of {len(parts)} parts)" for machine, number in counts.items())
