"""What the terminal shows, and the files that commands write."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from ..evaluation import EvaluationProgress, best_hand_designed, describe, is_hand_designed, lowest_first
from ..experiments import CampaignProgress
from ..files import write_whole
from ..training import Event

console = Console(stderr=True, highlight=False)
console.soft_wrap = not console.is_terminal  # a log's lines stay whole
SECONDS_BETWEEN_LINES = 60
_WIDE = 200


def progress_bar(quiet: bool) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
        console=console,
        speed_estimate_period=600,  # seconds; a window of a large optimizee takes minutes
        disable=quiet or not console.is_terminal,
    )


class Lines:
    """In place of bars where there is no terminal: a line a minute at most, and none if `quiet`."""

    def __init__(self, quiet: bool, at_once: bool = False):
        """
        Args:
            at_once: the first is due now, not in a minute.
        """
        self._shown = not (quiet or console.is_terminal)
        self._last = -math.inf if at_once else time.monotonic()

    def say(self, line: Callable[[], str], anyway: bool = False) -> None:
        """
        Args:
            line: called only when one is due.
            anyway: say it now.
        """
        if self._shown and (anyway or time.monotonic() >= self._last + SECONDS_BETWEEN_LINES):
            self._last = time.monotonic()
            console.print(line())


def show_training(bar: Progress, task: TaskID, lines: Lines) -> Callable[[Event], None]:
    """A report that moves the bar and says what validations found; without a terminal, a line now and then."""

    def report(event: Event) -> None:
        curriculum, row = event.curriculum, event.row
        stage, left = f"stage {curriculum.stage + 1}: {curriculum.unroll_length} steps", event.epochs_to_validation
        if "validation_loss" in row:
            best = " (best of the stage)" if row["best"] else ""
            console.print(
                f"epoch {event.epoch}: validation loss {row['validation_loss']:.4g} after {row['validation_steps']} "
                f"steps{best}, {row['decision']}"
            )
        else:
            if row["diverged_tasks"]:
                console.print(f"epoch {event.epoch}: {row['diverged_tasks']} optimizee(s) diverged and were left out")
            lines.say(
                lambda: f"epoch {event.epoch}: loss {row['mean_loss']:.3g}; {stage}, epochs to validation: {left}"
            )
        bar.update(
            task,
            description=f"{stage}, epochs to validation",
            completed=curriculum.epochs,
            total=curriculum.epochs + left,
            detail=f"epoch {event.epoch}",
        )

    return report


def show_evaluation(bar: Progress, task: TaskID, lines: Lines) -> Callable[[EvaluationProgress], None]:
    """A report that moves the bar; without a terminal, a line now and then."""

    def report(progress: EvaluationProgress) -> None:
        pair, loss = f"{progress.optimizer} on {progress.optimizee}", f"loss {progress.losses.mean():.3g}"
        done = progress.finished_pairs * progress.total_windows + progress.finished_windows
        total = progress.total_pairs * progress.total_windows
        bar.update(task, description=pair, completed=done, total=total, detail=loss)

        def line() -> str:
            left = next(each.time_remaining for each in bar.tasks if each.id == task)
            left = "" if left is None else f", about {timedelta(seconds=round(left))} left"
            return f"{pair}: {progress.share:.0%}, {loss}; {done / total:.0%} of all{left}"

        lines.say(line)

    return report


@contextlib.contextmanager
def show_campaign() -> Iterator[Callable[[CampaignProgress], None]]:
    """A bar for the whole campaign and one for each part at work; without a terminal, a line now and then."""
    with progress_bar(quiet=False) as bar:
        whole = bar.add_task("starting", total=100, detail="")
        rows: dict[str, TaskID] = {}
        lines = Lines(quiet=False, at_once=True)

        def report(progress: CampaignProgress) -> None:
            parts = f"{progress.finished} of {progress.total} parts"
            seconds = progress.seconds_left
            left = "" if seconds is None else f"about {timedelta(seconds=round(seconds))} left"
            bar.update(whole, description=parts, completed=int(100 * progress.share), detail=left)
            for title in set(rows) - set(progress.running):
                bar.remove_task(rows.pop(title))
            for title, (share, where) in progress.running.items():
                if title not in rows:
                    rows[title] = bar.add_task(title, total=100, detail="")
                bar.update(rows[title], completed=int(100 * share), detail=where)

            def line() -> str:
                running = [f"{title} {share:.0%}, {where}" for title, (share, where) in progress.running.items()]
                return "; ".join(filter(None, (f"{progress.share:.0%}, {parts}", left, *running)))

            lines.say(line, anyway=progress.finished == progress.total)

        yield report


def check_free(option: str, path: Path | None, *suffixes: str, replace: bool = False) -> None:
    """Nothing, if a file can be written where the option says, so that what is computed for it is not lost."""
    if path is None:
        return
    if path.suffix not in suffixes:
        raise ValueError(f"{option} names a {' or '.join(suffixes)} file, not {path}.")
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists already: name another file, or remove it.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to write {path.name} into.")


def write(table: pl.DataFrame, path: Path | None) -> None:
    """Replace the file at once, so that a crash leaves the table so far."""
    if path is not None:
        write_whole(path, table.write_parquet)


def _print(table: Table) -> None:
    """Within the terminal's width; in a file or a pipe, where nobody says what is wide, with whole lines."""
    output = Console(highlight=False)
    (output if output.is_terminal else Console(highlight=False, width=_WIDE)).print(table)


def print_summary(summary: pl.DataFrame, as_json: bool, **more: Any) -> None:
    if as_json:
        print(json.dumps({"results": summary.to_dicts(), **more}))
        return
    table = Table(Column("optimizer", overflow="fold"), "optimizee", "final log-loss", "seeds", "ms/step")
    for row in summary.iter_rows(named=True):
        table.add_row(
            row["optimizer"],
            row["optimizee"],
            describe(row),
            str(row["seeds"]),
            f"{1e3 * row['seconds_per_step']:.2f}",
        )
    _print(table)
    for name, value in more.items():
        print(f"{name}: {value}")


def print_comparisons(comparisons: pl.DataFrame) -> None:
    """A table that `compare` returns."""
    if comparisons.is_empty():
        return
    table = Table(
        Column("than", overflow="fold"),
        "optimizee",
        "",
        "final log-loss",
        title=f"Does {comparisons['optimizer'][0]} end lower?",
        caption="Differences seed by seed, with the 95 % interval of their mean: yes where all of it is below 0.",
    )
    for row in comparisons.iter_rows(named=True):
        table.add_row(row["than"], row["optimizee"], row["ends_lower"], row["measured"])
    _print(table)


def print_ranking(summary: pl.DataFrame, as_json: bool) -> None:
    """For each optimizee and number of steps the taught optimizers and the best hand-designed one, the lowest first."""
    if as_json:
        print(json.dumps({"results": summary.to_dicts()}))
        return
    table = Table("optimizee", "steps", Column("optimizer", overflow="fold"), "final log-loss", "seeds")
    for (problem, steps), rows in summary.group_by("optimizee", "steps", maintain_order=True):
        ranked = [*rows.filter(is_hand_designed().not_()).to_dicts(), best_hand_designed(rows)]
        for row in lowest_first([row for row in ranked if row]):
            table.add_row(problem, f"{steps:,}", row["optimizer"], describe(row), str(row["seeds"]))
        table.add_section()
    _print(table)
