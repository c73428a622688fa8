"""Weights published by the authors, as NumPy archives."""

from pathlib import Path
from zipfile import BadZipFile

import jax.numpy as jnp
import numpy as np

from ..optimizers import L2ODM, LSTM

PREFIX = "weights/"


def load_published(path: str | Path) -> L2ODM:
    """Read a learned optimizer from an `.npz` archive of published weights.

    The archive holds the arrays `lstm_1/w_gates` [22, 80], `lstm_1/b_gates` [80], `lstm_2/…`, `linear/w` [20, 1]
    and `linear/b` [1], with or without `weights/` before the names; gates in the order i, j, f, o.

    Raises:
        ValueError: the file is no such archive; the message says what is missing.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name.removeprefix(PREFIX): archive[name] for name in archive.files}
    except (OSError, ValueError, BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a readable .npz archive ({error}).") from error
    shapes = {
        "lstm_1/w_gates": (22, 80),
        "lstm_1/b_gates": (80,),
        "lstm_2/w_gates": (40, 80),
        "lstm_2/b_gates": (80,),
        "linear/w": (20, 1),
        "linear/b": (1,),
    }
    for name, shape in shapes.items():
        if name not in arrays:
            raise ValueError(f'{path} has no array "{name}", so these are not L2O-DM weights.')
        if arrays[name].shape != shape:
            raise ValueError(f'{path}: "{name}" has shape {arrays[name].shape}; L2O-DM needs {shape}.')
    weights = {name: jnp.asarray(arrays[name]) for name in shapes}
    return L2ODM(
        LSTM(weights["lstm_1/w_gates"].T, weights["lstm_1/b_gates"]),
        LSTM(weights["lstm_2/w_gates"].T, weights["lstm_2/b_gates"]),
        weights["linear/w"][:, 0],
        weights["linear/b"][0],
    )
