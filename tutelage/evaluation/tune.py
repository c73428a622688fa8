"""Search of a hand-designed optimizer's learning rate on a grid."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from ..optimizees import Optimizee, Split, optimizee
from ..optimizers import parse_hand_designed
from .evaluate import EvaluationProgress, Report, check_numbers, evaluate
from .store import EvaluationStore
from .summary import lowest_first, summarize

START = -4
"""Where a search begins, as a position on the grid: 0.01."""
MARGIN = 2
"""Values of the grid on either side that must be worse than the best: a decade."""
_POSITIONS = range(-14, 9)  # from 1e-7 to 1e4


def tune(
    name: str,
    on: str | Mapping[str, Optimizee],
    *,
    num_steps: int = 10_000,
    num_seeds: int = 3,
    split: Split = "test",
    data_dir: str | Path | None = None,
    store: EvaluationStore | None = None,
    report: Report = lambda progress: None,
) -> tuple[str, pl.DataFrame]:
    """Find the learning rate with the lowest mean final log-loss (mean loss, where one has no logarithm).

    On a grid of two values a decade the search begins at 0.01 and moves to the best within a decade, again and again
    until it stays: the best is never at an edge of what was tried.

    Args:
        name: a hand-designed optimizer, with other hyperparameters where wanted, as in `sgd:momentum=0.9`.
        on: name of the optimizee, or a dictionary with one by what to call it in the table.
        store: keeps finished learning rates and where the unfinished one stands, as in `evaluate`.
        report: called after each window that is computed; a pair is a learning rate, and their number grows with
            the search: it is that of those known to be needed.

    Returns:
        The best setting, as in `adam:learning_rate=0.01`, and the evaluation table of all that were tried.

    Raises:
        ValueError: an unknown name, a learning rate was given, or not one optimizee; or every one diverged.
    """
    check_tunable(name)
    check_numbers(num_steps, num_seeds)  # before data are fetched
    problem = {on: optimizee(on, split, data_dir)} if isinstance(on, str) else on
    if not isinstance(problem, Mapping) or len(problem) != 1:
        raise ValueError("tune takes the name of one optimizee, or a dictionary with one by its name.")
    tables: dict[int, pl.DataFrame] = {}
    here = START

    def report_rate(progress: EvaluationProgress) -> None:
        needed = len({*tables, *_around(here)})
        report(replace(progress, finished_pairs=len(tables), total_pairs=needed))

    def best_around(position: int) -> dict[str, Any]:
        near = _around(position)
        for each in near:
            if each not in tables:
                tables[each] = evaluate(
                    [_candidate(name, each)],
                    problem,
                    num_steps=num_steps,
                    num_seeds=num_seeds,
                    split=split,
                    store=store,
                    report=report_rate,
                )
        # among all so far, so that the order of two never turns round
        rows = [summarize(tables[each]).row(0, named=True) | {"position": each} for each in sorted(tables)]
        return next(row for row in lowest_first(rows) if row["position"] in near)

    while (best := best_around(here))["position"] != here:  # where all diverge in as many seeds, the smallest
        here = best["position"]
    if best["diverged"]:
        raise ValueError(f"{name} diverged on {next(iter(problem))} at every learning rate tried.")
    return _candidate(name, here), pl.concat(tables[position] for position in sorted(tables))


def check_tunable(name: str) -> None:
    """Nothing, if `name` is a hand-designed optimizer whose learning rate `tune` can search.

    Raises:
        ValueError: an unknown name or hyperparameter, or a learning rate was given.
    """
    if "learning_rate" in name:
        raise ValueError(f"The learning rate is searched: leave it out of {name}.")
    parse_hand_designed(_candidate(name, START))


def _candidate(name: str, position: int) -> str:
    base, _, settings = name.partition(":")
    return f"{base}:{','.join(filter(None, (f'learning_rate={rate_at(position):g}', settings)))}"


def _around(position: int) -> list[int]:
    return [near for near in range(position - MARGIN, position + MARGIN + 1) if near in _POSITIONS]


def rate_at(position: int) -> float:
    """Of the grid …, 0.3, 1, 3, 10, …, in which 1 has position 0."""
    return float(f"{(1 if position % 2 == 0 else 3) * 10.0 ** (position // 2):g}")
