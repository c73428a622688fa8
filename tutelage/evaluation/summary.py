"""Summaries of evaluation tables. A run that diverged is reported as such, never dropped from a mean."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from .seeds import WINDOW

_RUN = ("optimizer", "optimizee", "split", "seed")


def last_windows(table: pl.DataFrame) -> pl.DataFrame:
    """Each run's last row."""
    return table.filter(pl.col("step") == pl.col("step").max().over(_RUN))


def final_log_losses(table: pl.DataFrame) -> pl.DataFrame:
    """Each run's mean loss in its last window and its natural logarithm, which is null where the loss is 0 or less.

    `diverged` where the loss is not finite.
    """
    loss = pl.col("loss")
    return last_windows(table).select(
        *_RUN,
        "step",
        "loss",
        log_loss=pl.when(loss > 0).then(loss.log()),
        diverged=loss.is_finite().not_().fill_null(True),
    )


def summarize(table: pl.DataFrame) -> pl.DataFrame:
    """Mean and standard deviation over seeds of the final log-loss, for each optimizer and optimizee.

    Where a seed diverged, `mean` and `deviation` are null and `diverged` counts the seeds. They are null too where a
    seed ended at a loss of 0 or less, which has no logarithm: `mean_loss`, the mean of the losses themselves, says how
    low. `steps` is the length of the runs, and `seconds_per_step` the wall-clock time of a step of one seed.
    """
    keys = ["optimizer", "optimizee", "split"]
    final = final_log_losses(table)
    diverged, log_loss = pl.col("diverged"), pl.col("log_loss")
    has_mean = ~diverged.any() & log_loss.is_not_null().all()
    summary = final.group_by(keys, maintain_order=True).agg(
        steps=pl.col("step").max(),
        seeds=pl.len(),
        diverged=diverged.sum(),
        mean=pl.when(has_mean).then(log_loss.mean()),
        deviation=pl.when(has_mean).then(log_loss.std()),
        mean_loss=pl.when(~diverged.any()).then(pl.col("loss").mean()),
    )
    times = table.group_by(keys).agg(seconds_per_step=pl.col("seconds").mean() / WINDOW)
    return summary.join(times, on=keys, how="left", maintain_order="left")


def summarize_windows(windows: pl.DataFrame) -> pl.DataFrame:
    """The same of runs' last windows alone, among them those of shorter and longer runs from the same seeds."""
    summaries = [summarize(rows) for _, rows in windows.group_by("step", maintain_order=True)]
    return pl.concat(summaries).sort("optimizee", "steps", "optimizer")


def describe(row: dict[str, Any]) -> str:
    """A row of `summarize` in words: mean ± deviation, the mean loss, or in how many seeds it diverged."""
    if row["diverged"]:
        return f"diverged in {row['diverged']} of {row['seeds']} seeds"
    if row["mean"] is None:
        return f"mean loss {row['mean_loss']:.3g}"
    if row["deviation"] is None:
        return f"{row['mean']:.2f}"
    return f"{row['mean']:.2f} ± {row['deviation']:.2f}"


def is_hand_designed() -> pl.Expr:
    """Of a table's rows: hand-designed optimizers are named as in `adam:learning_rate=0.01`."""
    return pl.col("optimizer").str.contains(":learning_rate=", literal=True)


def best_hand_designed(summary: pl.DataFrame) -> dict[str, Any] | None:
    """The row of the hand-designed optimizer that ends lowest of those that diverged in no seed, if there is one."""
    steady = summary.filter(is_hand_designed(), pl.col("diverged") == 0).to_dicts()
    return lowest_first(steady)[0] if steady else None


def lowest_first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `summarize` of one optimizee, sorted by their mean log-losses, those that diverged last.

    Where not all losses are above 0, by their mean losses.
    """
    has_logs = all(row["diverged"] or row["mean"] is not None for row in rows)
    mean = "mean" if has_logs else "mean_loss"
    return sorted(rows, key=lambda row: (row["diverged"], row[mean] or 0.0))
