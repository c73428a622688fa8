"""tutelage reproduce."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
from tyro.conf import Positional, arg

from ..experiments import ScaleName, experiment_names, render, reproduce
from .interrupted import Interrupted
from .terminal import console, show_campaign

_EXPERIMENTS = f"One of {', '.join(experiment_names())}, or all; or your own comparison, a .toml file."


@dataclass(frozen=True)
class Reproduce:
    """An experiment of the paper or your own: train what it needs, tune, evaluate, and write a report on its claims."""

    experiment: Annotated[Positional[str], arg(metavar="FIGURE", help=_EXPERIMENTS)]
    scale: ScaleName = "small"
    """How much of it: smoke takes a minute, small an afternoon or more, paper a GPU."""
    folder: Path = Path("reproduction")
    """Keeps all that is computed, so that the same command goes on where it was, and holds the reports."""
    workers: int | None = None
    """Processes at work side by side (default: one for each device)."""
    data_dir: Path | None = None
    """Folder to look for data in first."""
    report_only: bool = False
    """Write the report anew from the tables in the folder, as far as they go, computing nothing."""

    def run(self) -> None:
        if self.report_only:
            console.print(f"Report: {render(self.experiment, self.scale, self.folder)}")
            return
        jax.config.update("jax_platforms", "cpu")  # a GPU is the workers'
        with show_campaign() as report:
            try:
                page = reproduce(
                    self.experiment,
                    self.scale,
                    self.folder,
                    workers=self.workers,
                    data_dir=self.data_dir,
                    report=report,
                )
            except KeyboardInterrupt:
                raise Interrupted(
                    f"Interrupted; nothing is lost. The same command goes on from what is in {self.folder}, "
                    "and --report-only shows how far it is."
                ) from None
        console.print(f"Report: {page}")
