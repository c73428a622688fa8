"""The files of a training run."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from ..files import make_folder
from ..interop import load_with_architecture
from ..optimizers import save_weights
from .config import TrainingConfig

CONFIG = "config.toml"
METRICS = "metrics.jsonl"
WEIGHTS = "optimizer.safetensors"
INITIAL = "initial.safetensors"
CARD = "card.md"
CHECKPOINTS = "checkpoints"


class RunDirectory:
    """A folder with `config.toml`, `metrics.jsonl`, `checkpoints/`, `optimizer.safetensors` and `card.md`.

    Where training does not begin with random weights, what it begins with is in `initial.safetensors`; taught teachers
    are in `teacher-0.safetensors` and so on.

    A checkpoint appears whole or not at all, and says how long `metrics.jsonl` was: what was logged after it is
    cut off on resuming, so that the log of an interrupted run is that of an undisturbed one.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.metrics = self.path / METRICS
        self.weights = self.path / WEIGHTS
        self.initial = self.path / INITIAL

    def check_empty(self) -> None:
        """Nothing, if a new run can start here.

        Raises:
            FileExistsError: the folder holds something already.
        """
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise FileExistsError(
                f"{self.path} is not empty: continue its run with --resume, or name a folder that is."
            )

    def create(self, config: TrainingConfig, taken: Mapping[str, str]) -> None:
        """Start a new run.

        Args:
            taken: the taught optimizers that it takes weights from, by the file to copy them into, so that the run is
                the same whatever becomes of where they are from.

        Raises:
            FileExistsError: the folder holds something already.
        """
        self.check_empty()
        make_folder(self.path)
        for file, name in taken.items():
            architecture, optimizer = load_with_architecture(name)
            save_weights(self.path / file, optimizer, architecture, {"from": name})
        config.save(self.path / CONFIG)  # last, as it says that there is a run

    def config(self) -> TrainingConfig:
        """The settings of an existing run.

        Raises:
            FileNotFoundError: there is no run here.
        """
        if not (self.path / CONFIG).is_file():
            raise FileNotFoundError(f"{self.path} holds no training run to resume (it has no {CONFIG}).")
        return TrainingConfig.load(self.path / CONFIG)

    def log(self, row: dict[str, Any]) -> int:
        """Append a row to the metrics and return their length in bytes; a number that is not finite becomes null."""
        row = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            return file.tell()

    def _manager(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        return ocp.CheckpointManager((self.path / CHECKPOINTS).resolve(), options=options)

    def save_checkpoint(self, step: int, state: PyTree, progress: dict[str, Any]) -> None:
        """Keep the arrays of `state` and the plain `progress`, with its `metrics_bytes`, under the number `step`."""
        if self.metrics.exists():
            with self.metrics.open("rb") as file:
                os.fsync(file.fileno())
        arrays = {str(index): np.asarray(leaf) for index, leaf in enumerate(jax.tree.leaves(state))}
        with self._manager() as manager:
            if step not in manager.all_steps():
                saved = ocp.args.Composite(state=ocp.args.StandardSave(arrays), progress=ocp.args.JsonSave(progress))
                manager.save(step, args=saved)

    def load_checkpoint(self, template: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """The newest readable checkpoint in the structure of `template`; None where there is none yet.

        Raises:
            ValueError: there are checkpoints, but none can be read.
        """
        leaves, structure = jax.tree.flatten(template)
        arrays = {str(i): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves)}
        with self._manager() as manager:
            steps = sorted(manager.all_steps(), reverse=True)
            for step in steps:
                try:
                    restored = manager.restore(
                        step,
                        args=ocp.args.Composite(
                            state=ocp.args.StandardRestore(arrays), progress=ocp.args.JsonRestore()
                        ),
                    )
                    progress = restored["progress"]
                    state = restored["state"]
                    loaded = [jnp.asarray(state[str(index)]) for index in range(len(leaves))]
                except Exception:  # whatever a damaged file makes the reader raise: try the one before
                    continue
                self._cut_metrics(progress["metrics_bytes"])
                for later in [s for s in steps if s > step]:
                    manager.delete(later)
                return jax.tree.unflatten(structure, loaded), progress
        if steps:
            raise ValueError(
                f"None of the checkpoints in {self.path / CHECKPOINTS} can be read; start a new run. The best "
                f"weights so far are in {self.weights}."
            )
        self._cut_metrics(0)
        return None

    def _cut_metrics(self, size: int) -> None:
        if self.metrics.exists():
            os.truncate(self.metrics, size)
