"""A folder that keeps evaluations: the finished ones, and where an unfinished one stands."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..files import make_folder, remove_partial, write_whole


class Kept(NamedTuple):
    """What the folder has of an evaluation."""

    losses: np.ndarray
    """[windows, seeds]"""
    seconds: np.ndarray
    """[windows]"""
    state: list[np.ndarray]
    """What the next window starts from, each with the axis of seeds first; empty for a finished evaluation."""


class EvaluationStore:
    """Evaluations by a key that says all that determines them.

    Each is one file, which is replaced at once, so that a crash at any moment leaves the last whole one.
    """

    def __init__(self, folder: str | Path):
        """The folder is made when it is first looked into."""
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """The file of an evaluation."""
        return self.folder / f"{key}.safetensors"

    def remove_partial(self) -> None:
        """Remove what a killed process was writing. Nobody else may be writing."""
        remove_partial(self.folder)

    def load(self, key: str) -> Kept | None:
        """What there is; None where there is nothing yet.

        Raises:
            ValueError: the file is damaged.
            FileExistsError: the folder is a file.
            PermissionError: it may not be made or written into.
        """
        make_folder(self.folder)  # told of before anything is computed that could not be kept
        path = self.path(key)
        if not path.exists():
            return None
        try:
            arrays = load_file(path)
            state = [arrays[f"state/{index}"] for index in range(len(arrays) - 2)]
            return Kept(arrays["losses"], arrays["seconds"], state)
        except (SafetensorError, KeyError) as error:
            raise ValueError(
                f"{path} cannot be read ({error}): remove it, and that evaluation begins again."
            ) from error

    def save(self, key: str, kept: Kept) -> None:
        """Replace what there is, in a folder that was looked into before."""
        state = {f"state/{index}": leaf for index, leaf in enumerate(kept.state)}
        arrays = {"losses": kept.losses, "seconds": kept.seconds} | state
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_whole(self.path(key), lambda path: save_file(arrays, path))
