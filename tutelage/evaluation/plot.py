"""Curves of the log-loss with bands, drawn from tables alone."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ..files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLOT_SUFFIXES = (".png", ".pdf", ".svg")
PANELS_IN_A_ROW = 3


def plot_curves(table: pl.DataFrame, path: str | Path) -> None:
    """Write `curves` to a PNG, PDF or SVG file.

    Raises:
        ValueError: the path ends in nothing of the kind.
    """
    path = Path(path)
    if path.suffix not in PLOT_SUFFIXES:
        raise ValueError(f"Curves are drawn into a {' or '.join(PLOT_SUFFIXES)} file, not {path}.")
    write_whole(path, lambda partial: curves(table).savefig(partial, format=path.suffix[1:], dpi=140))


def curves(table: pl.DataFrame) -> "Figure":
    """Draw, per optimizee, the mean over seeds of the log-loss with a band of one standard deviation.

    Where losses go below 0, of the loss itself. A curve stops where the first of its seeds diverges, at a cross, and
    the legend says so.
    """
    from matplotlib.figure import Figure  # here, as it takes most of a second to import and few commands draw

    optimizees = table["optimizee"].unique(maintain_order=True)
    optimizers = table["optimizer"].unique(maintain_order=True)
    columns = min(len(optimizees), PANELS_IN_A_ROW)
    rows = -(-len(optimizees) // columns)
    figure = Figure(figsize=(6.4 * columns, 4.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[len(optimizees) :]:
        axis.set_visible(False)
    for axis, name in zip(axes, optimizees, strict=False):
        there = table.filter(optimizee=name)
        has_logs = not (there["loss"] < 0).any()
        for number, optimizer in enumerate(optimizers):
            runs = there.filter(optimizer=optimizer)
            if len(runs):
                _draw(axis, optimizer, runs, f"C{number}", _log if has_logs else np.asarray)
        axis.set(title=name, xlabel="step", ylabel="log of the loss" if has_logs else "loss")
        axis.legend(fontsize="small", frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _log(losses: np.ndarray) -> np.ndarray:
    """The logarithm, of 0 as of the smallest number of single precision."""
    return np.log(np.maximum(losses, np.finfo(np.float32).tiny))


def _draw(
    axis: "Axes", optimizer: str, rows: pl.DataFrame, color: str, height: Callable[[np.ndarray], np.ndarray]
) -> None:
    wide = rows.pivot(on="seed", index="step", values="loss").sort("step")
    steps = wide["step"].to_numpy()
    losses = wide.drop("step").to_numpy().astype(float)
    finite = np.asarray(np.isfinite(losses).all(axis=1))
    end = len(finite) if finite.all() else int(finite.argmin())
    heights = height(losses[:end])
    mean, deviation = heights.mean(axis=1), heights.std(axis=1)
    diverged = int((~np.isfinite(losses[-1])).sum())
    label = optimizer if end == len(finite) else f"{optimizer} (diverged in {diverged} of {losses.shape[1]})"
    axis.plot(steps[:end], mean, label=label, linewidth=1.5, color=color)
    axis.fill_between(steps[:end], mean - deviation, mean + deviation, color=color, alpha=0.2, linewidth=0)
    if end < len(finite):
        axis.plot(steps[max(end - 1, 0)], mean[-1] if end else 0.0, "x", color=color)
