"""Whether the paper's claims hold, computed from tables: does one optimizer end lower than another?

A claim on an optimizer that is not in the table yet is unfinished.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from ..evaluation import compare_final, final_log_losses, last_windows, lowest_first, summarize
from .experiment import Claim, Experiment

Outcome = Literal["holds", "does not hold", "undecided", "unfinished"]
_OUTCOMES: dict[str, Outcome] = {"yes": "holds", "no": "does not hold", "undecided": "undecided"}


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
    windows, verdicts = last_windows(table), []
    for claim in experiment.claims:
        if claim.measure == "training steps":
            missing = _missing(claim, training_steps)
            verdicts.append(missing or _training_steps(claim, training_steps))
            continue
        for problem in table["optimizee"].unique(maintain_order=True):
            if claim.on and problem in set(experiment.on) - set(claim.on):  # one that stands in for all is in neither
                continue
            there = windows.filter(optimizee=problem)
            missing = _missing(claim, set(there["optimizer"]), problem)
            verdicts.append(missing or _final_loss(claim, problem, there))
    return verdicts


def _missing(claim: Claim, there: Collection[str], problem: str | None = None) -> Verdict | None:
    missing = [name for name in claim.names if name not in there]
    return Verdict(claim, problem, f"without {', '.join(missing)} so far", "unfinished") if missing else None


def _training_steps(claim: Claim, steps: Mapping[str, int]) -> Verdict:
    fewer, more = steps[claim.better], min(steps[name] for name in claim.worse)
    measured = f"{fewer:,} steps against {more:,}: {more / fewer:.1f} times fewer (one training each)"
    return Verdict(claim, None, measured, "holds" if more / fewer >= claim.factor else "does not hold")


def _final_loss(claim: Claim, problem: str, windows: pl.DataFrame) -> Verdict:
    ranked = lowest_first(summarize(windows.filter(pl.col("optimizer").is_in(claim.worse))).to_dicts())
    worse = ranked[0]["optimizer"]
    versus = f"{claim.better} against {worse}: " if len(claim.worse) > 1 else ""
    comparison = compare_final(final_log_losses(windows), claim.better, worse)
    return Verdict(claim, problem, versus + comparison.measured, _OUTCOMES[comparison.ends_lower])
