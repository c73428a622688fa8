"""The machine's processor, for the record: nothing is chosen by it."""

import platform
from functools import cache
from pathlib import Path


def processor_name() -> str:
    """As its maker calls it, where the system says so."""
    return _describe().get("model name") or platform.machine()


def has_avx512() -> bool | None:
    """Whether it has the instructions of AVX-512, by which libraries that XLA calls choose the order of their sums.

    So a run of training ends with other weights on a processor without them than on one with them. None where the
    system does not say.
    """
    flags = _describe().get("flags")
    return None if flags is None else "avx512f" in flags.split()


@cache
def _describe() -> dict[str, str]:
    """What Linux says of the first core."""
    try:
        first, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
