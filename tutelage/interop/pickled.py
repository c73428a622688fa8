"""Weights as the authors' programs write them: pickles, read without running what a pickle could."""

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np


def read_pickled(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.l2l-…` file by `module/variable`.

    The programs of L2O-DM and RNNprop pickle a dictionary of the variables of each module with dill. Of all that a
    pickle can name, what such a file needs is known here; anything else is refused.

    Raises:
        ValueError: it is damaged or holds something else.
    """
    try:
        with path.open("rb") as file:
            modules = _Unpickler(file, encoding="latin1").load()
        arrays = {f"{module}/{name}": array for module, own in modules.items() for name, array in own.items()}
        if not all(isinstance(array, np.ndarray) and array.dtype.kind == "f" for array in arrays.values()):
            raise pickle.UnpicklingError("not all that it holds are arrays of floating-point numbers")
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise ValueError(f"{path} holds no weights as the authors' programs write them ({error}).") from error
    return arrays


def _array(kind: Any, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """Empty: its shape, type and numbers follow as its state."""
    return np.empty(0)


def _array_of(buffer: bytes | bytearray, kind: np.dtype, shape: tuple[int, ...], order: Any) -> np.ndarray:
    return np.frombuffer(buffer, kind).reshape(shape, order=order)


def _filled(make: Any, arguments: tuple[Any, ...], state: Any, *_: Any) -> np.ndarray:
    array = make(*arguments)
    array.__setstate__(state)
    return array


def _find(module: str, name: str) -> Any:
    package = module.partition(".")[0]  # within it, names have moved
    if (package, name) not in _KNOWN:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
    return _KNOWN[package, name]


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "defaultdict"): lambda *_: {},
    ("builtins", "dict"): None,
    ("__builtin__", "dict"): None,
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "_reconstruct"): _array,
    ("numpy", "_frombuffer"): _array_of,
    ("_codecs", "encode"): codecs.encode,  # bytes, in the protocols of Python 2
    # what dill writes for dict, for an array, and, up to version 0.3, for a function of NumPy
    ("dill", "_load_type"): lambda name: None,
    ("dill", "_create_array"): _filled,
    ("dill", "_import_module"): lambda name, *_: name,
    ("dill", "_get_attr"): _find,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _find(module, name)
