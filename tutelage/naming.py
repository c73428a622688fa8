"""Things that users name: those of ours by a short name, their own as `package.module:factory`."""

import difflib
import importlib
import inspect
from collections.abc import Collection
from typing import Any


def unknown_name(kind: str, name: str, known: Collection[str]) -> ValueError:
    """The error for a name that is not among those known, with the nearest ones."""
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}."
    return ValueError(f'There is no {kind} "{name}"; {hint}')


def is_own(name: str) -> bool:
    """Whether it is `package.module:factory`."""
    return ":" in name


def source_of(name: str) -> str:
    """The text of the module that `package.module:factory` is in."""
    return inspect.getsource(importlib.import_module(name.partition(":")[0]))


def import_factory(kind: str, name: str, takes: str) -> Any:
    """What `package.module:factory` names: a function of one argument, `takes` in words.

    Raises:
        ValueError: it cannot be imported, or cannot be called so.
    """
    module, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f'The {kind} "{name}" cannot be imported: {error}.') from error
    try:
        inspect.signature(factory).bind(takes)
    except TypeError as error:
        raise ValueError(f'The {kind} "{name}" is to be a function of {takes} alone, and is not ({error}).') from error
    except ValueError:
        pass  # not written in Python, so that nothing is known
    return factory
