"""Files of taught weights: where they are, and what is in them. Needs no JAX, so that PyTorch users need none."""

import json
from numbers import Integral
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .naming import unknown_name
from .zoo import zoo_names, zoo_weights

WEIGHTS_OF_A_RUN = "optimizer.safetensors"
HEADER = "tutelage"
_ENTRIES = {"architecture", "provenance"}
FORMAT = 1


def is_zoo_name(text: str | Path) -> bool:
    """Whether this is to be a name in the zoo: a file in the current folder goes before it."""
    return isinstance(text, str) and "/" not in text and not Path(text).suffix and not Path(text).exists()


def find_weights(name_or_path: str | Path) -> Path:
    """The file of an optimizer of the zoo, of a run directory, or just this one.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: an unknown name.
    """
    if is_zoo_name(name_or_path):
        if name_or_path not in zoo_names():
            raise unknown_name("optimizer in the zoo", str(name_or_path), zoo_names())
        return zoo_weights(str(name_or_path))
    path = Path(name_or_path)
    if path.is_dir():
        path = path / WEIGHTS_OF_A_RUN
        if not path.is_file():
            raise FileNotFoundError(f"{path.parent} holds no {path.name}: no training run, or one just begun.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    return path


def is_published(path: Path) -> bool:
    """Whether a file is called as published weights are: `.npz`, or, by the authors' programs, `cw.l2l-0` or so."""
    return path.suffix == ".npz" or path.suffix.startswith(".l2l")


def read_weights(path: str | Path, framework: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays of a weights file by name, and its header: `architecture` and `provenance`.

    Args:
        framework: whose arrays, as `safetensors` calls it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or one of another program.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, framework=framework) as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}).") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT or not header.keys() >= _ENTRIES:
        raise ValueError(f"{path} does not hold weights of a learned optimizer in a format that this version knows.")
    return arrays, header


def check_num_steps(name_or_path: str | Path, scheduled: bool, num_steps: int | None) -> None:
    """Nothing, if a number of steps was given where the optimizer needs one.

    Raises:
        ValueError: there is none, one too much, or an impossible one.
    """
    if scheduled and num_steps is None:
        raise ValueError(
            f"{name_or_path} follows a schedule: say how many steps you will take, as in num_steps=10_000."
        )
    if not scheduled and num_steps is not None:
        raise ValueError(f"{name_or_path} follows no schedule: leave num_steps out.")
    if num_steps is not None and (not isinstance(num_steps, Integral) or num_steps < 1):
        raise ValueError(f"num_steps must be an integer, 1 or more, not {num_steps!r}.")
