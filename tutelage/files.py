"""Files that are there whole or not at all, and folders to write them into."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

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


def write_text(path: Path, text: str) -> None:
    """The same of a text, in UTF-8 wherever that is written."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def make_folder(path: Path) -> None:
    """Make a folder that things can be written into, with those above it, if it is not there yet.

    Raises:
        FileExistsError: it, or one above it, is a file.
        PermissionError: it may not be made or written into.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise FileExistsError(f"{path} is no folder, nor can it become one: name another.") from None
    if not os.access(path, os.W_OK):
        raise PermissionError(f"Nothing can be written into {path}: name another folder.")


@contextlib.contextmanager
def alone_in(folder: Path, work: str) -> Iterator[None]:
    """Be the only one that does this work in a folder, until the end or that of the process, whatever ends it.

    Raises:
        BlockingIOError: somebody else is at it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise BlockingIOError(f"Another {work} is at work in {folder}: wait for it, or name another folder.") from None
    try:
        yield
    finally:
        lock.release()


def remove_partial(folder: Path) -> None:
    """Remove what killed processes were writing in a folder. Nobody else may be writing there."""
    for partial in folder.glob(f"*{_PARTIAL}*"):
        partial.unlink()
