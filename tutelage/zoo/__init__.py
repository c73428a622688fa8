"""Taught optimizers that ship with the package: weights and a card each, and one table of their results."""

from pathlib import Path

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.parquet"
"""Their last windows on the optimizees, with the columns of `evaluate`; tuned hand-designed optimizers among them."""


def zoo_names() -> tuple[str, ...]:
    """Of all optimizers that ship."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.safetensors")))


def zoo_weights(name: str) -> Path:
    """The file of an optimizer's weights."""
    return FOLDER / f"{name}.safetensors"


def zoo_card(name: str) -> Path:
    """How it was taught, its measured results, where it fails, and how to teach it again."""
    return FOLDER / f"{name}.md"
