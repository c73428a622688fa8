"""An experiment's report: one HTML file that needs no other."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import tomli_w

from ..evaluation import confidence_interval, curves, describe, final_log_losses, summarize
from ..page import page, svg, table
from ..training.config import without_none
from .claims import judge_claims
from .record import Record

_FINAL = (
    "The natural logarithm of the mean loss over the last 100 steps: mean ± standard deviation over seeds, 95 % "
    "confidence interval of the mean (Student's t)"
)
_PUBLISHED = ", what the paper's figure shows after 10,000 steps, digitised to about ±0.3 (±0.02 on conv-cifar)"


def write_report(records: Sequence[Record], title: str) -> str:
    """The page: a section for each record."""
    return page(title, "\n".join(_section(record) for record in records))


def _section(record: Record) -> str:
    experiment, about = record.experiment, record.about
    parts = [
        f"<h2>{html.escape(experiment.heading)}</h2>",
        f"<p>Scale: {about['scale_name']}. Means over seeds, bands of one standard deviation. By the paper's protocol "
        "each optimizee is trained on the test images.</p>",
        _unfinished(record.unfinished),
        svg(curves(record.results)),
        "<h3>Claims</h3>",
        _claims(record),
        "<h3>Final log-losses</h3>",
        _final(record),
        "<h3>What it cost</h3>",
        _training(about["training"]),
        _tuning(about["tuned"]),
        "<h3>How it was made</h3>",
        _how(about),
    ]
    return "\n".join(parts)


def _unfinished(titles: Sequence[str]) -> str:
    if not titles:
        return ""
    return f'<p class="unfinished">As it stands; still to come: {html.escape(", ".join(titles))}.</p>'


def _claims(record: Record) -> str:
    steps = dict(record.results.group_by("optimizee").agg(pl.max("step")).iter_rows())
    verdicts = judge_claims(record.experiment, record.results, record.training_steps)
    rows = [
        [
            html.escape(verdict.claim.says),
            "training" if verdict.on is None else f"{html.escape(verdict.on)}, {steps[verdict.on]:,} steps",
            html.escape(verdict.measured),
            f'<span class="{verdict.outcome.replace(" ", "-")}">{verdict.outcome}</span>',
        ]
        for verdict in verdicts
    ]
    return (
        "<p>Differences of final log-losses, paired by seed, with their 95 % confidence interval: a claim holds where "
        "all of it is below 0. Where a run diverged or ended at a loss of 0 or less, a sign test at the same level "
        "decides.</p>" + table(["claim", "on", "measured", "verdict"], rows)
    )


def _final(record: Record) -> str:
    final, published = final_log_losses(record.results), record.experiment.published
    columns = ["optimizee", "steps", "optimizer", "log-loss", "interval", "seeds", *(["paper"] if published else [])]
    rows = []
    for row in summarize(record.results).iter_rows(named=True):
        losses = final.filter(optimizer=row["optimizer"], optimizee=row["optimizee"])["log_loss"].to_numpy()
        interval = confidence_interval(np.asarray(losses)) if row["mean"] is not None else None
        value = published.get(row["optimizer"], {}).get(row["optimizee"])
        rows.append(
            [
                html.escape(row["optimizee"]),
                f"{row['steps']:,}",
                html.escape(row["optimizer"]),
                describe(row),
                "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}",
                str(row["seeds"]),
                *(["" if value is None else f"{value:g}"] if published else []),
            ]
        )
    return f"<p>{_FINAL}{_PUBLISHED if published else ''}.</p>" + table(columns, rows)


def _training(runs: dict[str, dict[str, Any]]) -> str:
    rows = [
        [
            html.escape(name),
            f"{run['epochs']:,}",
            f"{run['best_epoch']:,}",
            f"{run['inner_steps']:,}",
            f"{run['seconds'] / 60:,.1f}",
        ]
        for name, run in runs.items()
    ]
    return table(["taught", "epochs", "best weights after", "optimizee steps", "minutes, validation included"], rows)


def _tuning(tuned: list[dict[str, Any]]) -> str:
    if not tuned:
        return ""
    rows = [
        [
            html.escape(row["name"]),
            html.escape(row["optimizee"]),
            html.escape(row["best"]),
            str(row["tried"]),
            str(row["seeds"]),
            f"{row['seconds'] / 60:,.1f}",
        ]
        for row in tuned
    ]
    return table(["tuned", "optimizee", "best setting", "settings tried", "seeds of each", "minutes"], rows)


def _how(about: dict[str, Any]) -> str:
    rows = [["command", html.escape(about["command"])], ["hardware", html.escape(about["hardware"])]]
    rows += [[html.escape(name), html.escape(number)] for name, number in about["versions"].items()]
    rows += [["as of" if about.get("unfinished") else "finished", about["finished"]]]
    settings = "".join(
        f"<details><summary>Settings of {html.escape(name)}</summary>"
        f"<pre>{html.escape(tomli_w.dumps(without_none(run['config'])))}</pre></details>"
        for name, run in about["training"].items()
    )
    return table(["", ""], rows) + settings
