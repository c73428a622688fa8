"""Optimizers from wherever they are kept."""

from pathlib import Path
from typing import Any

import jax

from ..naming import unknown_name
from ..optimizers import (
    LearnedOptimizer,
    create_learned,
    load_weights,
    parse_hand_designed,
)
from ..optimizers.hand_designed import NAMES
from ..zoo import zoo_names, zoo_weights
from .published import load_published

WEIGHTS_OF_A_RUN = "optimizer.safetensors"


def load_learned(name_or_path: str | Path) -> LearnedOptimizer:
    """A taught optimizer: of the zoo, a run directory, a `.safetensors` file or an `.npz` of published weights.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: an unknown name, or what is there is damaged or something else.
    """
    path = find_weights(name_or_path)
    return load_published(path)[1] if path.suffix == ".npz" else load_weights(path)[0]


def find_weights(name_or_path: str | Path) -> Path:
    """The file that `load_learned` reads.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: an unknown name.
    """
    if _is_name(name_or_path):
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


def resolve_optimizer(text: str) -> Any:
    """What a user means by an optimizer's name.

    Either a hand-designed optimizer as in `adam:learning_rate=0.01`, `package.module:factory` of a learned one
    (untrained: random weights from seed 0), or whatever `load_learned` takes.

    Raises:
        FileNotFoundError, ValueError: with a sentence that says what would do.
    """
    if text.partition(":")[0] in NAMES:
        return parse_hand_designed(text)
    if ":" in text:
        return create_learned(text, jax.random.key(0))
    if _is_name(text) and text not in zoo_names():
        raise unknown_name("optimizer", text, (*zoo_names(), *NAMES))
    return load_learned(text)


def _is_name(text: str | Path) -> bool:
    """Whether this is to be a name in the zoo: a file in the current folder goes before it."""
    return isinstance(text, str) and "/" not in text and not Path(text).suffix and not Path(text).exists()
