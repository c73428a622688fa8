"""tutelage evaluate and tutelage tune."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.progress import Progress, TaskID
from tyro.conf import Positional, arg

from ..evaluation import PLOT_SUFFIXES, EvaluationStore, compare, evaluate, plot_curves, summarize, tune
from ..optimizees import Split
from .interrupted import Interrupted
from .terminal import Lines, check_free, print_comparisons, print_summary, progress_bar, show_evaluation, write


@dataclass(frozen=True, kw_only=True)
class _Measurement:
    """What evaluate and tune have in common."""

    steps: int = 10_000
    """Optimizer steps, a multiple of 100; a taught optimizer with a schedule follows it for just these."""
    split: Split = "test"
    """Part of the data that batches are drawn from; the paper's protocol takes the test images."""
    out: Path | None = None
    """Write the loss of every window of 100 steps to this Parquet file."""
    data_dir: Path | None = None
    """Folder to look for data in first."""
    keep: Path | None = None
    """Folder that keeps what is computed: the same command goes on where it was, more seeds cost only the new ones."""
    json: bool = False
    """Print the summary as JSON."""

    def _check_out(self) -> None:
        check_free("--out", self.out, ".parquet", replace=self.keep is not None)

    def _settings(self, seeds: int, bar: Progress, task: TaskID) -> dict[str, Any]:
        return {
            "num_steps": self.steps,
            "num_seeds": seeds,
            "split": self.split,
            "data_dir": self.data_dir,
            "store": self.keep and EvaluationStore(self.keep),
            "report": show_evaluation(bar, task, Lines(self.json)),
        }

    def _interrupted(self, otherwise: str) -> Interrupted:
        if self.keep:
            return Interrupted(f"Interrupted; nothing is lost. The same command goes on from what is in {self.keep}.")
        return Interrupted(f"Interrupted; {otherwise}. With --keep FOLDER it could go on from there.")


@dataclass(frozen=True)
class Evaluate(_Measurement):
    """Run optimizers on optimizees from the same seeds, and say whether the first ends lower than the others."""

    optimizers: Annotated[Positional[tuple[str, ...]], arg(metavar="OPT [OPT ...]")]
    """Run directories, .safetensors files, published weights (cw.l2l-0, .npz), or e.g. adam:learning_rate=0.01."""
    on: tuple[str, ...] = ("mlp-orig",)
    """Optimizees, by name or as package.module:factory."""
    seeds: int = 10
    """Independent starts of each pair."""
    plot: Path | None = None
    """Draw the curves into this PNG, PDF or SVG file."""

    def run(self) -> None:
        self._check_out()
        check_free("--plot", self.plot, *PLOT_SUFFIXES, replace=True)
        with progress_bar(self.json) as bar:
            task = bar.add_task("compiling", total=None, detail="")
            try:
                table = evaluate(
                    self.optimizers,
                    self.on,
                    **self._settings(self.seeds, bar, task),
                    finished=lambda so_far: write(so_far, self.out),
                )
            except KeyboardInterrupt:
                written = self.out and self.out.exists()
                raise self._interrupted(
                    f"the pairs finished so far are in {self.out}" if written else "nothing was written"
                ) from None
        comparisons = compare(table, self.optimizers[0])
        if self.json:
            print_summary(summarize(table), True, comparisons=comparisons.to_dicts())
        else:
            print_summary(summarize(table), False)
            print_comparisons(comparisons)
        if self.plot:
            plot_curves(table, self.plot)


@dataclass(frozen=True)
class Tune(_Measurement):
    """Search a hand-designed optimizer's learning rate on a grid, two values a decade."""

    optimizer: Annotated[Positional[str], arg(metavar="OPT")]
    """A hand-designed optimizer, as in rmsprop or sgd:momentum=0.9."""
    on: str = "mlp-orig"
    """Optimizee."""
    seeds: int = 3
    """Independent starts of each learning rate."""

    def run(self) -> None:
        self._check_out()
        with progress_bar(self.json) as bar:
            task = bar.add_task("compiling", total=None, detail="")
            try:
                best, table = tune(self.optimizer, self.on, **self._settings(self.seeds, bar, task))
            except KeyboardInterrupt:
                raise self._interrupted("nothing was written") from None
        print_summary(summarize(table), self.json, best=best)
        write(table, self.out)
