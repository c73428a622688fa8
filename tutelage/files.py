"""Files that are there whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

_PARTIAL = ".partial-"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file beside `path`, then put it in its place at once.

    Killed, or out of disk space, what was there before stays.
    """
    partial = path.with_name(f"{path.name}{_PARTIAL}{os.getpid()}")  # others may be writing the same
    try:
        write(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_partial(folder: Path) -> None:
    """Remove what killed processes were writing in a folder. Nobody else may be writing there."""
    for partial in folder.glob(f"*{_PARTIAL}*"):
        partial.unlink()
