"""What an experiment found, as files that a report is made from: tables, and how they came about."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ..files import make_folder, write_text, write_whole
from .experiment import Experiment
from .parts import Baseline, Part, Teach, Trained
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
    """Plain data: the scale, the training runs, the chosen settings, versions, hardware, time, and what is missing."""

    @property
    def training_steps(self) -> dict[str, int]:
        return {name: run["inner_steps"] for name, run in self.about["training"].items()}

    @property
    def unfinished(self) -> list[str]:
        """Titles of the experiment's parts that are not in the tables yet."""
        return self.about.get("unfinished", [])

    def save(self, folder: Path) -> None:
        """Write the files. What is unfinished never takes the place of what is finished."""
        if self.unfinished and _is_finished(folder):
            return
        make_folder(folder)
        write_whole(folder / RESULTS, self.results.write_parquet)
        write_whole(folder / TUNING, self.tuning.write_parquet)
        write_text(folder / RECORD, json.dumps(self.about, indent=1) + "\n")

    @staticmethod
    def load(experiment: Experiment, folder: Path) -> "Record":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such record.
            ValueError: it is damaged.
        """
        about = load_about(folder)
        try:
            return Record(experiment, pl.read_parquet(folder / RESULTS), pl.read_parquet(folder / TUNING), about)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise _damaged(f"A table in {folder}", error) from error


def load_about(folder: Path) -> dict[str, Any]:
    """The plain data of a record.

    Raises:
        FileNotFoundError: there is no such record.
        ValueError: it is damaged.
    """
    if not (folder / RECORD).exists():
        raise FileNotFoundError(f"{folder} holds no results of an experiment (it has no {RECORD}).")
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(str(folder / RECORD), error) from error


def _damaged(what: str, error: BaseException) -> ValueError:
    return ValueError(
        f"{what} is damaged ({error}): remove the folder, and tutelage reproduce makes it anew from what it keeps."
    )


def _is_finished(folder: Path) -> bool:
    try:
        return not load_about(folder).get("unfinished")
    except (FileNotFoundError, ValueError):
        return False


def make_record(plan: Plan, results: Mapping[Part, Any], about: dict[str, Any]) -> Record | None:
    """From the results of a plan's parts so far, or None if there is nothing to be seen yet.

    Args:
        about: what else there is to say of them.
    """
    baselines = [part for part in plan.baselines if part in results]
    tables = [results[part] for part in plan.judge if part in results] + [results[part][2] for part in baselines]
    if not tables:
        return None
    tuning = [results[part][1] for part in baselines]
    table = pl.concat(tables)
    return Record(
        plan.experiment,
        table,
        pl.concat(tuning) if tuning else table.clear(),
        {
            "experiment": plan.experiment.name,
            **about,
            "scale": asdict(plan.scale),
            "training": {part.name: _training(part, results[part]) for part in plan.teach if part in results},
            "tuned": [_tuned(part, results[part]) for part in baselines],
            "unfinished": [part.title for part in plan.parts if part not in results],
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
