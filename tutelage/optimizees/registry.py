"""Optimizees by name."""

from collections.abc import Callable
from pathlib import Path

import jax

from ..naming import import_factory, unknown_name
from .datasets import Split, load_dataset
from .mlp import MLP
from .optimizee import Optimizee

_FACTORIES: dict[str, Callable[[Split, str | Path | None], Optimizee]] = {
    "mlp-orig": lambda split, folder: MLP(load_dataset("mnist", split, folder), (20,)),
    "mlp-relu": lambda split, folder: MLP(load_dataset("mnist", split, folder), (20,), jax.nn.relu),
    "mlp-deeper": lambda split, folder: MLP(load_dataset("mnist", split, folder), (20, 20)),
    "mlp-fashion": lambda split, folder: MLP(load_dataset("fashion-mnist", split, folder), (20,)),
    "mlp-digits": lambda split, folder: MLP(load_dataset("digits", split, folder), (20,)),
}


def optimizee_names() -> tuple[str, ...]:
    """The names that `optimizee` knows."""
    return tuple(_FACTORIES)


def optimizee(name: str, split: Split = "train", data_dir: str | Path | None = None) -> Optimizee:
    """The optimizee called `name`, on the given split of its data.

    Args:
        name: one of `optimizee_names()`, or `package.module:factory` for one of your own, where `factory` takes
            the split ("train" or "test") and returns an `Optimizee`.
        split: the part of the data that batches are drawn from.
        data_dir: folder to look for data in first, see `load_dataset`.

    Raises:
        ValueError: an unknown name.
        DataError: its data are not to be had.
    """
    if name in _FACTORIES:
        return _FACTORIES[name](split, data_dir)
    if ":" not in name:
        raise unknown_name("optimizee", name, _FACTORIES)
    made = import_factory("optimizee", name)(split)
    if not isinstance(made, Optimizee):
        raise ValueError(f'"{name}" returned {type(made).__name__}, not a tutelage Optimizee.')
    return made
