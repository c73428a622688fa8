"""Putting a training run into the zoo: weights, results and a card.

python -m tutelage.experiments.ship NAME RUN [TABLE.parquet or folder of a report ...]
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import equinox as eqx
import polars as pl

from ..evaluation import is_hand_designed, last_windows
from ..files import write_text, write_whole
from ..optimizers import load_weights, save_weights
from ..training.card import TrainingLog, training_log
from ..training.run_directory import RunDirectory
from ..weights import read_weights
from ..zoo import RESULTS, zoo_card, zoo_names, zoo_weights
from .record import RESULTS as REPORTED
from .record import load_about
from .zoo_card import describe_taught


def ship(name: str, run: Path, tables: Sequence[pl.DataFrame]) -> None:
    """Put the best weights of a run into the zoo, add results, and write all cards anew.

    Args:
        tables: evaluations of it under `name`, and of hand-designed optimizers as in `adam:learning_rate=0.01`. Rows
            of other optimizers are passed over. What there is of the same optimizer, optimizee, seed and number of
            steps is replaced, and everything that there is of other weights of this name.
    """
    directory = RunDirectory(run)
    optimizer, provenance = load_weights(directory.weights)
    config = directory.config()
    provenance |= {"config": asdict(config), "training": asdict(training_log(directory))}
    shipped = _arrays(zoo_weights(name)) if name in zoo_names() else None
    save_weights(zoo_weights(name), optimizer, config.optimizer, provenance)
    before = [pl.read_parquet(RESULTS)] if RESULTS.exists() else []
    if not eqx.tree_equal(shipped, _arrays(directory.weights)):
        before = [table.filter(pl.col("optimizer") != name) for table in before]
    new = [last_windows(table).filter(is_hand_designed() | (pl.col("optimizer") == name)) for table in tables]
    results = pl.concat([*before, *new])
    results = results.unique(["optimizer", "optimizee", "split", "seed", "step"], keep="last", maintain_order=True)
    results = results.sort("optimizee", "step", "optimizer", "seed")
    write_whole(RESULTS, results.write_parquet)
    for each in zoo_names():
        write_text(zoo_card(each), describe_taught(each, results))


def _arrays(weights: Path) -> dict[str, Any]:
    """By name; of another version of the architecture too."""
    return read_weights(weights, "numpy")[0]


def read_table(path: Path, name: str, run: Path) -> pl.DataFrame:
    """An evaluation's table, or that of an experiment's report, in which hand-designed optimizers get their full names.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: the report's `name` is not of this run.
    """
    if not path.is_dir():
        return pl.read_parquet(path)
    about = load_about(path)
    taught = about["training"].get(name)
    if taught and not _is_of(training_log(RunDirectory(run)), taught):
        raise ValueError(f"{path} is a report on another training run called {name} than {run}.")
    full = {(row["name"], row["optimizee"]): row["best"] for row in about["tuned"]}
    parts = pl.read_parquet(path / REPORTED).partition_by("optimizer", "optimizee", as_dict=True).items()
    return pl.concat(table.with_columns(optimizer=pl.lit(full.get(which, which[0]))) for which, table in parts)


def _is_of(log: TrainingLog, taught: dict[str, Any]) -> bool:
    seconds = math.isclose(log.seconds, taught["seconds"])  # summed otherwise by other versions of Python
    return seconds and asdict(log).items() <= (taught | {"seconds": log.seconds}).items()


if __name__ == "__main__":
    name, run = sys.argv[1], Path(sys.argv[2])
    ship(name, run, [read_table(Path(path), name, run) for path in sys.argv[3:]])
