"""Whether the paper's claims hold, computed from tables.

Runs with the same seed start from the same parameters and see the same batches, so two optimizers are compared by the
differences of their final log-losses, seed by seed. A claim holds on an optimizee where the whole 95 % confidence
interval of the mean difference (Student's t) is below 0, does not hold where none of it is, and is undecided otherwise.
Where a run diverged there is no difference to average: then the sign test decides, at the same level, counting a
diverged run as worse than any other. A claim on an optimizer that is not in the table yet is unfinished.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from scipy.special import bdtrc, stdtrit  # scipy.stats takes seconds to import

from ..evaluation import final_log_losses
from .experiment import Claim, Experiment

CONFIDENCE = 0.95
Outcome = Literal["holds", "does not hold", "undecided", "unfinished"]


@dataclass(frozen=True)
class Verdict:
    """A claim on one optimizee, beside what was measured."""

    claim: Claim
    on: str | None
    """None for a claim on training alone."""
    measured: str
    outcome: Outcome


def judge_claims(experiment: Experiment, table: pl.DataFrame, training_steps: Mapping[str, int]) -> list[Verdict]:
    """Every claim of the experiment, on each of its optimizees in the table.

    Args:
        table: with the columns of `evaluate`.
        training_steps: of each taught optimizer, the optimizee steps of its training.
    """
    final = final_log_losses(table)
    verdicts = []
    for claim in experiment.claims:
        if claim.measure == "training steps":
            missing = _missing(claim, training_steps)
            verdicts.append(missing or _training_steps(claim, training_steps))
            continue
        for problem in table["optimizee"].unique(maintain_order=True):
            if claim.on and problem in set(experiment.on) - set(claim.on):  # one that stands in for all is in neither
                continue
            there = final.filter(optimizee=problem)
            missing = _missing(claim, set(there["optimizer"]), problem)
            verdicts.append(missing or _final_loss(claim, problem, there))
    return verdicts


def _missing(claim: Claim, there: Collection[str], problem: str | None = None) -> Verdict | None:
    missing = [name for name in (claim.better, *claim.worse) if name not in there]
    return Verdict(claim, problem, f"without {', '.join(missing)} so far", "unfinished") if missing else None


def _training_steps(claim: Claim, steps: Mapping[str, int]) -> Verdict:
    fewer, more = steps[claim.better], min(steps[name] for name in claim.worse)
    measured = f"{fewer:,} steps against {more:,}: {more / fewer:.1f} times fewer (one training each)"
    return Verdict(claim, None, measured, "holds" if more / fewer >= claim.factor else "does not hold")


def _final_loss(claim: Claim, problem: str, final: pl.DataFrame) -> Verdict:
    losses = {name: final_by_seed(final, name) for name in (claim.better, *claim.worse)}
    worse = min(claim.worse, key=lambda name: float(np.mean(losses[name])))
    versus = f"{claim.better} against {worse}: " if len(claim.worse) > 1 else ""
    outcome, measured = ends_lower(losses[claim.better], losses[worse])
    return Verdict(claim, problem, versus + measured, outcome)


def final_by_seed(final: pl.DataFrame, name: str) -> np.ndarray:
    """An optimizer's rows of `final_log_losses` in the order of seeds, infinite where a run diverged."""
    rows = final.filter(optimizer=name).sort("seed")
    return np.where(rows["diverged"].to_numpy(), math.inf, rows["log_loss"].to_numpy())


def ends_lower(better: np.ndarray, worse: np.ndarray) -> tuple[Outcome, str]:
    """Whether the former final log-losses are lower than the latter, both [seeds], and what that is decided by."""
    if np.isfinite(better).all() and np.isfinite(worse).all():
        return _paired_t(better - worse)
    return _sign_test(better, worse)


def _paired_t(differences: np.ndarray) -> tuple[Outcome, str]:
    interval = confidence_interval(differences)
    if interval is None:
        return "undecided", f"difference {differences.mean():.2f} (1 seed)"
    low, high = interval
    outcome: Outcome = "holds" if high < 0 else "does not hold" if low >= 0 else "undecided"
    return outcome, f"difference {differences.mean():.2f}, from {low:.2f} to {high:.2f} ({len(differences)} seeds)"


def _sign_test(better: np.ndarray, worse: np.ndarray) -> tuple[Outcome, str]:
    wins, losses = int((better < worse).sum()), int((better > worse).sum())
    said = f"better in {wins} of {len(better)} seeds, worse in {losses}"
    diverged = [f"{int(np.isinf(x).sum())} {who}" for x, who in ((better, "of the former"), (worse, "of the latter"))]
    said += f" (diverged: {' and '.join(diverged)})"
    if _so_many_by_chance(wins, wins + losses) <= 1 - CONFIDENCE:
        return "holds", said
    if _so_many_by_chance(losses, wins + losses) <= 1 - CONFIDENCE:
        return "does not hold", said
    return "undecided", said


def _so_many_by_chance(successes: int, trials: int) -> float:
    """The probability of at least so many heads from a fair coin."""
    return float(bdtrc(successes - 1, trials, 0.5)) if successes else 1.0


def confidence_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Of the mean, at 95 % (Student's t); None for a single value."""
    if len(values) < 2:
        return None
    half = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)
