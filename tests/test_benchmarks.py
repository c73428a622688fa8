"""Benchmarks are not timed here, but each starts as its first lines say, without the repository in Python's path."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def start(monkeypatch):
    def start(script: Path) -> dict:
        others = [path for path in sys.path if Path(path).resolve() != FOLDER.parent]
        monkeypatch.setattr(sys, "path", [str(FOLDER), *others])
        for name in ("examples", "examples.my_optimizee"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        return runpy.run_path(str(script))

    return start


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda script: script.stem)
def test_benchmarks_start(start, script):
    assert start(script)["__doc__"]


def test_the_text_model_is_that_of_the_example(start):
    assert start(FOLDER / "own_models.py")["MODELS"]["text"]("train", None).text.ndim == 1
