"""What an experiment consists of: pieces of work, each on one device, that need at most one other to be finished."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ..evaluation import EvaluationProgress, EvaluationStore, evaluate, tune
from ..interop import load_learned, resolve_optimizer
from ..naming import is_own, source_of
from ..training import Event, TrainingConfig, train
from ..training.card import TrainingLog, training_log
from ..training.config import without_none
from ..training.run_directory import CARD, CONFIG, RunDirectory
from ..training.taken import taken_weights
from ..weights import find_weights
from .cost import seconds_per_step

Advance = Callable[[float, str], None]
"""Told the share of a part that is done, and where it stands in words."""
_RATES = 7  # that a search may be expected to try
_STAGES = 4  # that a curriculum is expected to go through


@dataclass(frozen=True)
class Place:
    """Where a campaign keeps what it computes, and where its data are."""

    folder: Path
    data_dir: Path | None = None

    @property
    def store(self) -> EvaluationStore:
        return EvaluationStore(self.folder / "evaluations")

    def run_directory(self, name: str, config: TrainingConfig) -> Path:
        """Of a training run: its settings, and what interprets them, are part of the folder's name.

        That is the version of this library, the text of modules of one's own that the settings name, and weights
        that the run takes.
        """
        own = [source_of(name) for name in (config.optimizer, *config.optimizees) if is_own(name)]
        own += [find_weights(name).read_bytes().hex() for name in taken_weights(config).values()]
        # without None, so that a new optional setting changes no name
        settings = json.dumps([without_none(asdict(config)), version("tutelage"), *own], sort_keys=True)
        return self.folder / "runs" / f"{name}-{hashlib.blake2b(settings.encode(), digest_size=4).hexdigest()}"


class Trained(NamedTuple):
    """A finished training run."""

    folder: Path
    log: TrainingLog


@dataclass(frozen=True)
class Teach:
    """A training run."""

    name: str
    config: TrainingConfig
    after: "Teach | None" = None
    """A run that this one continues: the same but for its limit on epochs."""

    @property
    def title(self) -> str:
        return f"teaching {self.name}"

    @property
    def _expected_epochs(self) -> int:
        schedule = self.config.technique.schedule
        epochs = schedule.period * schedule.min_periods * min(len(schedule.unroll_lengths), _STAGES)
        return min(epochs, self.config.max_epochs or epochs)

    @property
    def seconds(self) -> float:
        """Roughly; a curriculum takes at least this."""
        lengths = self.config.technique.schedule.unroll_lengths[:_STAGES]
        step = 0.015 + max(map(seconds_per_step, self.config.on))
        return self._expected_epochs * sum(lengths) / len(lengths) * step * self.config.num_tasks

    def run(self, place: Place, advance: Advance) -> Trained:
        """Begin, go on with or just read the run."""
        folder = place.run_directory(self.name, self.config)
        if not (folder / CARD).exists():
            self._train(place, folder, advance)
        return Trained(folder, training_log(RunDirectory(folder)))

    def _train(self, place: Place, folder: Path, advance: Advance) -> None:
        if not (folder / CONFIG).exists():
            shutil.rmtree(folder, ignore_errors=True)  # killed before it began
            if self.after:
                self._copy(place.run_directory(self.after.name, self.after.config), folder)
        begun = (folder / CONFIG).exists()

        def report(event: Event) -> None:
            share = min(event.epoch / self._expected_epochs, 0.99)
            advance(share, f"stage {event.curriculum.stage + 1}, epoch {event.epoch}")

        train(folder, None if begun else self.config, resume=begun, data_dir=place.data_dir, report=report)

    def _copy(self, before: Path, folder: Path) -> None:
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(before, partial)
        (partial / CARD).unlink()
        self.config.save(partial / CONFIG)
        partial.replace(folder)


@dataclass(frozen=True)
class Judge:
    """An evaluation of a taught optimizer on one optimizee."""

    taught: Teach
    on: str
    num_steps: int
    num_seeds: int

    @property
    def title(self) -> str:
        return f"{self.taught.name} on {self.on}"

    @property
    def seconds(self) -> float:
        """Roughly."""
        return self.num_steps * self.num_seeds * (0.002 + seconds_per_step(self.on))

    def run(self, place: Place, advance: Advance) -> pl.DataFrame:
        """The evaluation's table."""
        optimizer = load_learned(place.run_directory(self.taught.name, self.taught.config))
        return _evaluate(self.taught.name, optimizer, self, place, advance)


@dataclass(frozen=True)
class Baseline:
    """A hand-designed optimizer on one optimizee: the search for its learning rate, and an evaluation of the best."""

    name: str
    optimizer: str
    on: str
    num_steps: int
    num_seeds: int
    tuning_seeds: int

    @property
    def title(self) -> str:
        return f"{self.name} on {self.on}"

    @property
    def _tuning_runs(self) -> int:
        return _RATES * self.tuning_seeds

    @property
    def _runs(self) -> int:
        """The best rate's first seeds are kept from the search."""
        return self._tuning_runs + max(self.num_seeds - self.tuning_seeds, 0)

    @property
    def seconds(self) -> float:
        """Roughly."""
        return self._runs * self.num_steps * seconds_per_step(self.on)

    def run(self, place: Place, advance: Advance) -> tuple[str, pl.DataFrame, pl.DataFrame]:
        """The best setting, the table of all that were tried, and the evaluation's table."""
        tuning_share = self._tuning_runs / self._runs

        def report(progress: EvaluationProgress) -> None:
            share = (progress.finished_pairs + progress.share) / max(_RATES, progress.total_pairs)
            advance(share * tuning_share, f"{progress.optimizer}, loss {progress.losses.mean():.3g}")

        best, tuning = tune(
            self.optimizer,
            self.on,
            num_steps=self.num_steps,
            num_seeds=self.tuning_seeds,
            data_dir=place.data_dir,
            store=place.store,
            report=report,
        )
        table = _evaluate(
            self.name,
            resolve_optimizer(best),
            self,
            place,
            lambda share, where: advance(tuning_share + share * (1 - tuning_share), where),
        )
        return best, tuning, table


Part = Teach | Judge | Baseline


def needed(part: Part) -> Teach | None:
    """What must be finished before."""
    return part.taught if isinstance(part, Judge) else part.after if isinstance(part, Teach) else None


def _evaluate(name: str, optimizer: Any, what: Judge | Baseline, place: Place, advance: Advance) -> pl.DataFrame:
    def report(progress: EvaluationProgress) -> None:
        advance(progress.share, f"loss {progress.losses.mean():.3g}")

    return evaluate(
        {name: optimizer},
        [what.on],
        num_steps=what.num_steps,
        num_seeds=what.num_seeds,
        data_dir=place.data_dir,
        store=place.store,
        report=report,
    )
