"""Shared fixtures. Tests run on two host devices, so that everything sharded really is."""

import os
from pathlib import Path

from tests.compiling import NOTHING

os.environ.setdefault("XLA_FLAGS", NOTHING)

import jax
import jaxtyping
import numpy as np
import pytest

from tests.problems import numbered_keys
from tutelage.training.objective import TaskObjective

jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture(scope="session")
def oracle():
    """Read a recorded archive by name; skips where $TUTELAGE_ORACLE does not name the folder."""
    folder = os.environ.get("TUTELAGE_ORACLE")

    def read(name: str) -> dict[str, np.ndarray]:
        if not folder or not Path(folder).is_dir():
            pytest.skip("set TUTELAGE_ORACLE to the folder with the recorded numbers")
        with np.load(Path(folder) / f"{name}.npz") as archive:
            return dict(archive)

    return read


@pytest.fixture
def mnist():
    """Skips where $TUTELAGE_DATA holds no MNIST."""
    folder = os.environ.get("TUTELAGE_DATA")
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip("set TUTELAGE_DATA to a folder that holds mnist/*.gz")
    return folder


@pytest.fixture
def cifar10():
    """Skips where $TUTELAGE_DATA holds no CIFAR-10."""
    folder = os.environ.get("TUTELAGE_DATA")
    if not folder or not (Path(folder) / "cifar-10-batches-bin").is_dir():
        pytest.skip("set TUTELAGE_DATA to a folder that holds cifar-10-batches-bin/*.bin")
    return folder


@pytest.fixture
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def unchecked_types(monkeypatch):
    """As users have it: the tests' own checks of types come before any other."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def numbered_batches(monkeypatch):
    """The points of a segment take the prescribed optimizee's batches in order."""
    monkeypatch.setattr(TaskObjective, "point_keys", lambda self, keys: numbered_keys(keys))
