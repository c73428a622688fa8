"""Optimizers from wherever they are kept."""

from pathlib import Path
from typing import Any

import jax

from ..optimizers import (
    ARCHITECTURES,
    LearnedOptimizer,
    create_learned,
    load_weights,
    parse_hand_designed,
)
from ..optimizers.hand_designed import NAMES
from .published import load_published

WEIGHTS_OF_A_RUN = "optimizer.safetensors"


def load(path: str | Path) -> LearnedOptimizer:
    """A taught optimizer: from a run directory, a `.safetensors` file or an `.npz` of published weights.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: what is there is damaged or something else.
    """
    path = Path(path)
    if path.is_dir():
        weights = path / WEIGHTS_OF_A_RUN
        if not weights.is_file():
            raise FileNotFoundError(f"{path} holds no {WEIGHTS_OF_A_RUN}: no training run, or one just begun.")
        return load_weights(weights)[0]
    if not path.is_file():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    return load_published(path)[1] if path.suffix == ".npz" else load_weights(path)[0]


def resolve_optimizer(text: str) -> Any:
    """What a user means by an optimizer's name.

    Either a hand-designed optimizer as in `adam:learning_rate=0.01`, the name of a learned one's architecture
    or `package.module:factory` (untrained: random weights from seed 0), or whatever `load` takes.

    Raises:
        FileNotFoundError, ValueError: with a sentence that says what would do.
    """
    if text.partition(":")[0] in NAMES:
        return parse_hand_designed(text)
    if text in ARCHITECTURES or ":" in text:
        return create_learned(text, jax.random.key(0))
    if Path(text).exists() or "/" in text or Path(text).suffix:
        return load(text)
    raise ValueError(
        f'There is no optimizer "{text}": name a run directory, a .safetensors or .npz file, a learned optimizer '
        f"({', '.join(ARCHITECTURES)}) or a hand-designed one ({', '.join(NAMES)})."
    )
