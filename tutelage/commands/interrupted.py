"""Ctrl-C, said kindly and never lost."""

import contextlib
import sys
import threading
from _thread import interrupt_main
from collections.abc import Iterator

_SOON = 0.1  # seconds


class Interrupted(Exception):
    """Ctrl-C, with what the user should know."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within, a Ctrl-C that Python ignores is raised again.

    It ignores what is raised while a callback of its garbage collector runs, and JAX has one, at work for much of the
    time in which programs are traced.
    """
    usual = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            threading.Timer(_SOON, interrupt_main).start()
        else:
            usual(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual
