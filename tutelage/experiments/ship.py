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
import tomli_w

from ..evaluation import best_hand_designed, describe, is_hand_designed, last_windows, summarize_windows
from ..files import write_whole
from ..optimizers import load_weights, save_weights
from ..training import TrainingConfig
from ..training.card import TrainingLog, training_log
from ..training.config import without_none
from ..training.run_directory import RunDirectory
from ..weights import read_weights
from ..zoo import RESULTS, zoo_card, zoo_names, zoo_weights
from .record import RESULTS as REPORTED
from .record import load_about

_CARD = """# {name}

{architecture}, taught on {on}: {epochs:,} epochs, {inner_steps:,} steps of optimizees, {minutes}
on {devices}. The weights are those after epoch {epoch:,}, whose loss on fresh optimizees was {loss:.4g} after {steps:,}
steps.

## Results

Logarithm of the mean loss over the last 100 steps, mean ± standard deviation over seeds. By the paper's protocol the
optimizee is trained on the test images. Beside it the best hand-designed optimizer measured there after as many steps,
with its learning rate searched for that optimizee.

| optimizee | steps | {name} | seeds | best hand-designed |
|---|---|---|---|---|
{results}

## Where it fails

{failures}

Where it was not measured, nothing is known.

## Teach it again

    {environment}tutelage train RUN --like {name}

Bit for bit on the same kind of {processor} with as many devices and the same versions: {versions}.

```toml
{settings}
```
"""


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
    summary = summarize_windows(results)
    for each in zoo_names():
        card = _card(each, summary)
        write_whole(zoo_card(each), lambda path, card=card: path.write_text(card))


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


def _card(name: str, summary: pl.DataFrame) -> str:
    _, provenance = load_weights(zoo_weights(name))
    config, log = TrainingConfig.from_dict(provenance["config"]), provenance["training"]
    measured = summary.filter(optimizer=name).to_dicts()
    best = [best_hand_designed(summary.filter(optimizee=row["optimizee"], steps=row["steps"])) for row in measured]
    pairs = list(zip(measured, best, strict=True))
    results = [
        f"| {row['optimizee']} | {row['steps']:,} | {describe(row)} | {row['seeds']} | {_said(other)} |"
        for row, other in pairs
    ]
    failures = [
        f"- {row['optimizee']}, {row['steps']:,} steps: {why}" for row, other in pairs if (why := _failure(row, other))
    ]
    devices, backend = provenance["devices"], provenance["backend"]
    versions = (f"{package} {number}" for package, number in provenance["versions"].items())
    return _CARD.format(
        name=name,
        architecture=config.optimizer,
        on=", ".join(config.on),
        epochs=log["epochs"],
        inner_steps=log["inner_steps"],
        minutes=_count(round(log["seconds"] / 60), "minute"),
        devices=_count(devices, f"{backend} device"),
        processor=_processor(provenance),
        environment=f"JAX_NUM_CPU_DEVICES={devices} " * (backend == "cpu"),
        epoch=provenance["epoch"],
        loss=provenance["validation_loss"],
        steps=provenance["validation_steps"],
        results="\n".join(results),
        failures="\n".join(failures) or "On none of the optimizees above.",
        versions=", ".join(versions),
        settings=tomli_w.dumps(without_none(provenance["config"])).strip(),
    )


def _processor(provenance: dict[str, Any]) -> str:
    if provenance["backend"] != "cpu":
        return "device"
    avx512 = {True: " with AVX-512", False: " without AVX-512", None: ""}[provenance["avx512"]]
    return f"processor ({provenance['processor']}{avx512})"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _said(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{describe(row)} ({row['optimizer']})"


def _failure(row: dict[str, Any], best: dict[str, Any] | None) -> str | None:
    if row["diverged"]:
        return f"{describe(row)}."
    if row["mean"] > 0:
        return "the loss ends above 1."
    if best is not None and best["mean"] < row["mean"]:
        return f"{best['optimizer']} ends lower."
    return None


if __name__ == "__main__":
    name, run = sys.argv[1], Path(sys.argv[2])
    ship(name, run, [read_table(Path(path), name, run) for path in sys.argv[3:]])
