"""Grid search of a hand-designed optimizer's learning rate."""

import math
from collections.abc import Callable
from pathlib import Path

import polars as pl

from ..optimizees import Split, optimizee
from ..optimizers import HandDesigned, parse_hand_designed
from .evaluate import Report, evaluate
from .store import EvaluationStore
from .summary import summarize

GRID = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_SMALLEST, _LARGEST = 1e-7, 1e4


def tune(
    name: str,
    on: str,
    *,
    num_steps: int = 10_000,
    num_seeds: int = 3,
    split: Split = "test",
    data_dir: str | Path | None = None,
    store: EvaluationStore | None = None,
    report: Report = lambda progress: None,
    announce: Callable[[str], None] = lambda optimizer: None,
) -> tuple[str, pl.DataFrame]:
    """Find the learning rate with the lowest mean final log-loss.

    The grid has two values a decade, from 0.0001 to 10, and is continued while the best is at an edge.

    Args:
        name: a hand-designed optimizer, with other hyperparameters where wanted, as in `sgd:momentum=0.9`.
        on: name of the optimizee.
        store: keeps finished learning rates and where the unfinished one stands, as in `evaluate`.
        announce: called with each candidate before it runs.

    Returns:
        The best setting, as in `adam:learning_rate=0.01`, and the evaluation table of all.

    Raises:
        ValueError: an unknown name, or a learning rate was given; or every one diverged.
    """
    base, _, settings = name.partition(":")
    if "learning_rate" in settings:
        raise ValueError(f"tune finds the learning rate: leave it out of {name}.")

    def candidate(rate: float) -> str:
        return f"{base}:{','.join(filter(None, (f'learning_rate={rate:g}', settings)))}"

    parse_hand_designed(candidate(GRID[0]))
    problem = {on: optimizee(on, split, data_dir)}
    tables: dict[float, pl.DataFrame] = {}

    def score(rate: float) -> float:
        if rate not in tables:
            spec = candidate(rate)
            announce(spec)
            optimizer: HandDesigned = parse_hand_designed(spec)
            tables[rate] = evaluate(
                {spec: optimizer},
                problem,
                num_steps=num_steps,
                num_seeds=num_seeds,
                split=split,
                store=store,
                report=report,
            )
        mean = summarize(tables[rate])["mean"][0]
        return math.inf if mean is None else mean

    rates = list(GRID)
    while True:
        best = min(rates, key=score)
        if math.isinf(score(best)):
            raise ValueError(f"{name} diverged on {on} at every learning rate tried.")
        if best == rates[0] and best > _SMALLEST:
            rates.insert(0, _neighbour(best, -1))
        elif best == rates[-1] and best < _LARGEST:
            rates.append(_neighbour(best, +1))
        else:
            return candidate(best), pl.concat(tables[rate] for rate in rates)


def _neighbour(rate: float, direction: int) -> float:
    """The next value of the grid 1, 3, 10, 30, …"""
    position = round(2 * math.log10(rate)) + direction
    return float(f"{(1 if position % 2 == 0 else 3) * 10.0 ** (position // 2):g}")
