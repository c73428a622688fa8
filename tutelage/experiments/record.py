"""What an experiment found, as files that a report is made from: tables, and how they came about."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from .experiment import Experiment, load_experiment
from .parts import Baseline, Teach, Trained
from .plan import Plan

RESULTS = "results.parquet"
TUNING = "tuning.parquet"
RECORD = "record.json"


@dataclass(frozen=True)
class Record:
    """An experiment's outcome."""

    experiment: Experiment
    results: pl.DataFrame
    """With the columns of `evaluate`; of hand-designed optimizers the best setting, by its name in the experiment."""
    tuning: pl.DataFrame
    """The same of every setting that was tried; its `seconds` are the tuning's own cost."""
    about: dict[str, Any]
    """Plain data: the scale, the training runs, the chosen settings, versions, hardware and time."""

    @property
    def training_steps(self) -> dict[str, int]:
        return {name: run["inner_steps"] for name, run in self.about["training"].items()}

    def save(self, folder: Path) -> None:
        """Write the files."""
        folder.mkdir(parents=True, exist_ok=True)
        self.results.write_parquet(folder / RESULTS)
        self.tuning.write_parquet(folder / TUNING)
        (folder / RECORD).write_text(json.dumps(self.about, indent=1) + "\n")

    @staticmethod
    def load(folder: Path) -> "Record":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such record.
        """
        if not (folder / RECORD).exists():
            raise FileNotFoundError(f"{folder} holds no results of an experiment (it has no {RECORD}).")
        about = json.loads((folder / RECORD).read_text())
        experiment = load_experiment(about["experiment"])
        return Record(experiment, pl.read_parquet(folder / RESULTS), pl.read_parquet(folder / TUNING), about)


def make_record(plan: Plan, results: dict[Any, Any], about: dict[str, Any]) -> Record:
    """From the results of all parts of a plan; `about` says what else there is to say of them."""
    tables = [results[part] for part in plan.judge] + [results[part][2] for part in plan.baselines]
    tuning = [results[part][1] for part in plan.baselines]
    table = pl.concat(tables)
    return Record(
        plan.experiment,
        table,
        pl.concat(tuning) if tuning else table.clear(),
        {
            "experiment": plan.experiment.name,
            **about,
            "scale": asdict(plan.scale),
            "training": {part.name: _training(part, results[part]) for part in plan.teach},
            "tuned": [_tuned(part, results[part]) for part in plan.baselines],
        },
    )


def _training(part: Teach, trained: Trained) -> dict[str, Any]:
    return {"folder": trained.folder.name, "config": asdict(part.config), **asdict(trained.log)}


def _tuned(part: Baseline, result: tuple[str, pl.DataFrame, pl.DataFrame]) -> dict[str, Any]:
    best, tuning, _ = result
    return {
        "name": part.name,
        "optimizee": part.on,
        "best": best,
        "tried": tuning["optimizer"].n_unique(),
        "seeds": part.tuning_seeds,
        "seconds": tuning["seconds"].sum(),
    }
