"""Optimizers from wherever they are kept."""

from pathlib import Path
from typing import Any

import jax

from ..naming import unknown_name
from ..optimizers import (
    LearnedOptimizer,
    create_learned,
    parse_hand_designed,
)
from ..optimizers.architectures import restore
from ..optimizers.hand_designed import NAMES
from ..weights import find_weights, is_published, is_zoo_name, read_weights
from ..zoo import zoo_names
from .published import load_published


def load_learned(name_or_path: str | Path) -> LearnedOptimizer:
    """A taught optimizer: of the zoo, a run directory, a `.safetensors` file or published weights.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: an unknown name, or what is there is damaged or something else.
    """
    return load_with_architecture(name_or_path)[1]


def load_with_architecture(name_or_path: str | Path) -> tuple[str, LearnedOptimizer]:
    """Likewise, with the name of its architecture before it."""
    path = find_weights(name_or_path)
    if is_published(path):
        return load_published(path)
    arrays, header = read_weights(path, "numpy")
    return header["architecture"], restore(path, header["architecture"], arrays)


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
    if is_zoo_name(text) and text not in zoo_names():
        raise unknown_name("optimizer", text, (*zoo_names(), *NAMES))
    return load_learned(text)
