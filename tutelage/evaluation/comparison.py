"""Whether one optimizer ends lower than another.

Runs with the same seed start from the same parameters and see the same batches, so two optimizers are compared by the
differences of their final log-losses, seed by seed. One ends lower where the whole 95 % confidence interval of the mean
difference (Student's t) is below 0, does not where none of it is, and it is undecided otherwise. Where a run diverged
or ended at a loss of 0 or less there is no difference to average: then the sign test on the losses decides, at the same
level, counting a diverged run as worse than any other.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from .summary import final_log_losses

CONFIDENCE = 0.95


class Comparison(NamedTuple):
    """Whether one optimizer ends lower than another on an optimizee."""

    ends_lower: Literal["yes", "no", "undecided"]
    measured: str
    """What decides: the mean difference with its interval, or where there is none, in how many seeds which is lower."""
    difference: float | None
    """Of the mean final log-losses, below 0 where the one is lower; None where a run has none."""


def compare(table: pl.DataFrame, optimizer: str) -> pl.DataFrame:
    """Whether `optimizer` ends lower than each of the others, on each optimizee, over the seeds that both have.

    Args:
        table: with the columns of `evaluate`; of runs of different lengths those of the same are compared.

    Returns:
        A row for each other optimizer, optimizee and split of its data: `optimizer`, `than`, `optimizee`, `split`, and
        `ends_lower` (yes, no or undecided), `measured` and `difference` as `Comparison` has them.

    Raises:
        ValueError: the table does not have the optimizer.
    """
    if optimizer not in table["optimizer"]:
        raise ValueError(f"The table has no {optimizer}: compare one of {', '.join(table['optimizer'].unique())}.")
    rows = []
    for (problem, split), final in final_log_losses(table).group_by("optimizee", "split", maintain_order=True):
        names = final["optimizer"].unique(maintain_order=True)
        if optimizer not in names:
            continue
        for other in names.filter(names != optimizer):
            pair = {"optimizer": optimizer, "than": other, "optimizee": problem, "split": split}
            rows.append(pair | compare_final(final, optimizer, other)._asdict())
    text = dict.fromkeys(("optimizer", "than", "optimizee", "split", "ends_lower", "measured"), pl.String)
    return pl.DataFrame(rows, schema=text | {"difference": pl.Float64})


def compare_final(final: pl.DataFrame, optimizer: str, than: str) -> Comparison:
    """One optimizer with another, over the seeds that both have.

    Args:
        final: `final_log_losses` of one optimizee and split.
    """
    pair = final.filter(pl.col("optimizer").is_in((optimizer, than))).filter(pl.len().over("seed", "step") == 2)
    if pair.is_empty():
        return Comparison("undecided", "no runs of the same seed and length", None)
    one, other = final_by_seed(pair, optimizer), final_by_seed(pair, than)
    both = np.array([one, other])
    has_logs = np.isfinite(both).all() and (both > 0).all()
    return _paired_t(np.log(one) - np.log(other)) if has_logs else _sign_test(one, other)


def final_by_seed(final: pl.DataFrame, name: str) -> np.ndarray:
    """An optimizer's losses in `final_log_losses` in the order of seeds, infinite where a run diverged."""
    rows = final.filter(optimizer=name).sort("seed")
    return np.where(rows["diverged"].to_numpy(), math.inf, rows["loss"].to_numpy())


def _paired_t(differences: np.ndarray) -> Comparison:
    mean = float(differences.mean())
    interval = confidence_interval(differences)
    if interval is None:
        return Comparison("undecided", f"difference {mean:.2f} (1 seed)", mean)
    low, high = interval
    measured = f"difference {mean:.2f}, from {low:.2f} to {high:.2f} ({len(differences)} seeds)"
    return Comparison("yes" if high < 0 else "no" if low >= 0 else "undecided", measured, mean)


def _sign_test(one: np.ndarray, other: np.ndarray) -> Comparison:
    wins, losses = int((one < other).sum()), int((one > other).sum())
    diverged = [int(np.isinf(x).sum()) for x in (one, other)]
    why = "diverged: {} of the former and {} of the latter" if any(diverged) else "not all losses are above 0"
    measured = f"better in {wins} of {len(one)} seeds, worse in {losses} ({why.format(*diverged)})"
    if _so_many_by_chance(wins, wins + losses) <= 1 - CONFIDENCE:
        return Comparison("yes", measured, None)
    if _so_many_by_chance(losses, wins + losses) <= 1 - CONFIDENCE:
        return Comparison("no", measured, None)
    return Comparison("undecided", measured, None)


def _so_many_by_chance(successes: int, trials: int) -> float:
    """The probability of at least so many heads from a fair coin."""
    return sum(math.comb(trials, heads) for heads in range(successes, trials + 1)) / 2**trials


def confidence_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Of the mean, at 95 % (Student's t); None for a single value."""
    if len(values) < 2:
        return None
    from scipy.special import stdtrit  # here, as it takes 0.4 s, which every process would wait for

    half = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)
