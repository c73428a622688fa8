"""Summaries of evaluation tables. A run that diverged is reported as such, never dropped from a mean."""

from typing import Any

import polars as pl

from .seeds import WINDOW

_RUN = ("optimizer", "optimizee", "split", "seed")


def last_windows(table: pl.DataFrame) -> pl.DataFrame:
    """Each run's last row."""
    return table.filter(pl.col("step") == pl.col("step").max().over(_RUN))


def final_log_losses(table: pl.DataFrame) -> pl.DataFrame:
    """The natural logarithm of each run's mean loss in its last window; `diverged` where that is not finite."""
    final = last_windows(table).select(*_RUN, "step", "loss")
    return final.with_columns(log_loss=pl.col("loss").log(), diverged=pl.col("loss").is_finite().not_().fill_null(True))


def summarize(table: pl.DataFrame) -> pl.DataFrame:
    """Mean and standard deviation over seeds of the final log-loss, for each optimizer and optimizee.

    Where a seed diverged, `mean` and `deviation` are null and `diverged` counts the seeds. `steps` is the length of
    the runs, and `seconds_per_step` the wall-clock time of a step of one seed.
    """
    keys = ["optimizer", "optimizee", "split"]
    final = final_log_losses(table)
    summary = final.group_by(keys, maintain_order=True).agg(
        steps=pl.col("step").max(),
        seeds=pl.len(),
        diverged=pl.col("diverged").sum(),
        mean=pl.when(~pl.col("diverged").any()).then(pl.col("log_loss").mean()),
        deviation=pl.when(~pl.col("diverged").any()).then(pl.col("log_loss").std()),
    )
    times = table.group_by(keys).agg(seconds_per_step=pl.col("seconds").mean() / WINDOW)
    return summary.join(times, on=keys, how="left", maintain_order="left")


def summarize_windows(windows: pl.DataFrame) -> pl.DataFrame:
    """The same of runs' last windows alone, among them those of shorter and longer runs from the same seeds."""
    summaries = [summarize(rows) for _, rows in windows.group_by("step", maintain_order=True)]
    return pl.concat(summaries).sort("optimizee", "steps", "optimizer")


def describe(row: dict[str, Any]) -> str:
    """A row of `summarize` in words: mean ± deviation, or in how many seeds it diverged."""
    if row["diverged"]:
        return f"diverged in {row['diverged']} of {row['seeds']} seeds"
    if row["deviation"] is None:
        return f"{row['mean']:.2f}"
    return f"{row['mean']:.2f} ± {row['deviation']:.2f}"


def is_hand_designed() -> pl.Expr:
    """Of a table's rows: hand-designed optimizers are named as in `adam:learning_rate=0.01`."""
    return pl.col("optimizer").str.contains(":learning_rate=", literal=True)


def best_hand_designed(summary: pl.DataFrame) -> dict[str, Any] | None:
    """The row with the lowest mean of the hand-designed optimizers that diverged in no seed, if there is one."""
    steady = summary.filter(is_hand_designed(), pl.col("diverged") == 0).sort("mean")
    return steady.row(0, named=True) if len(steady) else None
