"""Evaluation: optimizers on optimizees from the same seeds, as a tidy table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..interop.loading import resolve_optimizer
from ..optimizees import Optimizee, Split, expand, load_optimizees
from ..settings import check_type
from .pair import evaluate_pair
from .rollout import Optimizer, is_optimizer
from .seeds import WINDOW
from .store import EvaluationStore

SCHEMA = {
    "optimizer": pl.String,
    "optimizee": pl.String,
    "split": pl.String,
    "seed": pl.Int64,
    "step": pl.Int64,
    "loss": pl.Float64,
    "seconds": pl.Float64,
}


@dataclass(frozen=True)
class EvaluationProgress:
    """What `evaluate` reports after each window."""

    optimizer: str
    optimizee: str
    finished_windows: int
    """Of this pair."""
    total_windows: int
    """More than the steps have where an interrupted call had fewer seeds: those and the further ones take turns."""
    finished_pairs: int
    total_pairs: int
    losses: np.ndarray
    """[seeds]: the window's mean loss, not finite where a run diverged."""

    @property
    def share(self) -> float:
        """Of this pair: what is done."""
        return self.finished_windows / self.total_windows


Report = Callable[[EvaluationProgress], None]


def to_table(optimizer: str, optimizee_name: str, split: str, losses: np.ndarray, seconds: np.ndarray) -> pl.DataFrame:
    """Losses and seconds, both [windows, seeds], as a tidy table, a row per window and seed.

    `step` is the last step of the window, `loss` the mean over it (not finite where the run diverged) and
    `seconds` the window's wall-clock time divided by the number of seeds that shared it.
    """
    windows, seeds = losses.shape
    columns: dict[str, Any] = {
        "optimizer": [optimizer] * losses.size,
        "optimizee": [optimizee_name] * losses.size,
        "split": [split] * losses.size,
        "seed": np.tile(np.arange(seeds), windows),
        "step": np.repeat(WINDOW * np.arange(1, windows + 1), seeds),
        "loss": losses.astype(float).reshape(-1),
        "seconds": seconds.reshape(-1),
    }
    return pl.DataFrame(columns, schema=SCHEMA)


def check_numbers(num_steps: int, num_seeds: int) -> None:
    """Nothing, if an evaluation can have so many steps and seeds.

    Raises:
        ValueError: it cannot.
    """
    for what, number in (("steps", num_steps), ("seeds", num_seeds)):
        if not isinstance(number, Integral):  # as 1e4 is none
            raise ValueError(f"The number of {what} must be an integer, not {number!r}.")
    if num_steps < WINDOW or num_steps % WINDOW:
        raise ValueError(f"The number of steps must be a multiple of {WINDOW}, not {num_steps}.")
    if num_seeds < 1:
        raise ValueError(f"The number of seeds must be 1 or more, not {num_seeds}.")


def evaluate(
    optimizers: Sequence[str] | Mapping[str, str | Optimizer],
    on: Sequence[str] | Mapping[str, str | Optimizee],
    *,
    num_steps: int = 10_000,
    num_seeds: int = 10,
    split: Split = "test",
    data_dir: str | Path | None = None,
    store: EvaluationStore | None = None,
    report: Report = lambda progress: None,
    finished: Callable[[pl.DataFrame], None] = lambda so_far: None,
) -> pl.DataFrame:
    """Run every optimizer on every optimizee from the same seeds.

    Args:
        optimizers: names as `resolve_optimizer` takes them; or a dictionary of such names, and of optimizers, by what
            to call them in the table.
        on: likewise names of optimizees, or a dictionary of names and optimizees.
        num_steps: a multiple of 100.
        split: of the optimizees' data; by the paper's protocol, the test images are what is trained on here.
        store: keeps what is computed and where an unfinished pair stands, so that the same call goes on from there,
            and one with more seeds computes only the further ones.
        report: called after each window of 100 steps that is computed.
        finished: called with the table so far after each pair.

    Returns:
        A table with the columns of `to_table`.

    Raises:
        ValueError: an unknown name or an impossible number.
        FileNotFoundError: weights that are not there.
        DataError: data that are not there.
    """
    for what, given in (("optimizers", optimizers), ("optimizees", on)):
        several = isinstance(given, Sequence | Mapping) and not isinstance(given, str)
        if not several or not all(isinstance(name, str) for name in given):
            raise ValueError(f"evaluate takes a list of names of {what}, or a dictionary of {what} by name.")
    if not optimizers or not on:
        raise ValueError("Name at least one optimizer and one optimizee.")
    check_numbers(num_steps, num_seeds)  # before data are fetched
    check_type("store", store, EvaluationStore | None)
    if not isinstance(optimizers, Mapping):
        optimizers = {name: name for name in optimizers}
    if not isinstance(on, Mapping):
        on = {name: name for name in expand(on)}
    run = {name: _optimizer(name, given) for name, given in optimizers.items()}
    problems = _optimizees(on, split, data_dir)
    pairs = [(name, problem) for problem in problems for name in run]
    tables: list[pl.DataFrame] = []
    for number, (name, problem) in enumerate(pairs):

        def window_done(finished: int, total: int, losses: np.ndarray, name=name, problem=problem, number=number):
            report(EvaluationProgress(name, problem, finished, total, number, len(pairs), losses))

        losses, seconds = evaluate_pair(
            run[name],
            problems[problem],
            num_steps=num_steps,
            num_seeds=num_seeds,
            store=store,
            report=window_done,
        )
        tables.append(to_table(name, problem, split, losses, seconds))
        finished(pl.concat(tables))
    return pl.concat(tables)


def _optimizer(name: str, given: str | Optimizer) -> Optimizer:
    if isinstance(given, str):
        return resolve_optimizer(given)
    if not is_optimizer(given):
        raise ValueError(f'"{name}" is a {type(given).__name__}, neither a name nor an optimizer as optax has them.')
    return given


def _optimizees(
    given: Mapping[str, str | Optimizee], split: Split, data_dir: str | Path | None
) -> dict[str, Optimizee]:
    for name, problem in given.items():
        if not isinstance(problem, str | Optimizee):
            raise ValueError(f'"{name}" is a {type(problem).__name__}, neither a name nor a tutelage Optimizee.')
    loaded = load_optimizees([problem for problem in given.values() if isinstance(problem, str)], split, data_dir)
    return {name: loaded[problem] if isinstance(problem, str) else problem for name, problem in given.items()}
