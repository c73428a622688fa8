"""Tutelage: learned optimizers, properly taught."""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import torch
    from .evaluation import evaluate, rollout, tune
    from .interop import load
    from .interop import resolve_optimizer as optimizer
    from .optimizees import optimizee
    from .training import train

    __version__: str

__all__ = ["evaluate", "load", "optimizee", "optimizer", "rollout", "torch", "train", "tune"]

# Imported when first asked for, so that users of tutelage.torch need no JAX and users of JAX no PyTorch.
_HOMES = {
    "evaluate": ("evaluation", "evaluate"),
    "load": ("interop", "load"),
    "optimizee": ("optimizees", "optimizee"),
    "optimizer": ("interop", "resolve_optimizer"),
    "rollout": ("evaluation", "rollout"),
    "train": ("training", "train"),
    "tune": ("evaluation", "tune"),
}


def __getattr__(name: str) -> Any:
    if name == "torch":
        return importlib.import_module(".torch", __name__)
    if name == "__version__":
        return importlib.metadata.version(__name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(f".{module}", __name__), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
