"""The command line: settings in, work done elsewhere, tables out."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import polars as pl
import tyro
from rich.progress import Progress, TaskID
from tyro.conf import Positional, arg, subcommand

from .evaluation import EvaluationStore, evaluate, plot_curves, summarize, tune
from .experiments import PartsFailedError, ScaleName, demo, experiment_names, render, reproduce
from .inspection import inspect
from .interop import load_published, resolve_optimizer
from .naming import unknown_name
from .optimizees import DataError, Split, optimizee
from .optimizers import save_weights
from .terminal import (
    check_free,
    console,
    print_ranking,
    print_summary,
    progress_bar,
    show_campaign,
    show_evaluation,
    show_training,
    write,
)
from .training import Augmentation, Event, TrainingConfig, recipe, train
from .training.config import Estimator, Objective
from .training.technique import Variant
from .weights import find_weights, is_zoo_name
from .zoo import RESULTS, zoo_card, zoo_names


@dataclass(frozen=True)
class Demo:
    """Teach, judge and plot in about two minutes, offline."""

    out: Path = Path("demo")
    """New or empty folder for the run directories, the table and the plot."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self) -> None:
        with progress_bar(self.json) as bar:
            task = bar.add_task("starting", total=None, detail="")

            def training(event: Event, config: TrainingConfig) -> None:
                schedule = config.technique.schedule
                stages = len(schedule.unroll_lengths)
                most = schedule.period * (schedule.max_periods or schedule.min_periods)
                bar.update(
                    task,
                    completed=max(event.curriculum.periods, 0) * schedule.period + event.curriculum.epochs,
                    total=most,
                    detail=f"stage {event.curriculum.stage + 1} of {stages}, {event.curriculum.unroll_length} steps",
                )

            result = demo(
                self.out,
                on_phase=lambda title: bar.update(task, description=title, completed=0, total=None, detail=""),
                on_training=training,
                on_evaluation=lambda progress: show_evaluation(bar, task, progress),
            )
        print_summary(result.summary, self.json)
        means = dict(zip(result.summary["optimizer"], result.summary["mean"], strict=True))
        taught, plain = means[result.taught], means[result.plain]
        better = taught is not None and (plain is None or taught < plain)
        console.print(
            f"{result.taught} {'beats' if better else 'does not beat'} {result.plain} here. "
            f"Curves: {result.folder / 'curves.png'}; table: {result.folder / 'results.parquet'}."
        )


@dataclass(frozen=True)
class Train:
    """Meta-train a learned optimizer. Interrupt with Ctrl-C and go on with --resume."""

    run_directory: Annotated[Positional[Path], arg(name="run", metavar="RUN")]
    """Folder of the run: new, or with --resume an existing one."""
    resume: bool = False
    """Go on with an interrupted run; all settings are its own."""
    like: str | None = None
    """Take all settings of a taught optimizer: a name in the zoo, a .safetensors file or a run directory."""
    optimizer: str | None = None
    """Learned optimizer to train, by name or as package.module:factory (default l2o-dm)."""
    technique: str | None = None
    """plain, augmented, cl or random-lengths, with -il, -self-improving or both added (default cl-il)."""
    variant: Variant | None = None
    """Details as in the paper (default) or as in the authors' released program."""
    on: tuple[str, ...] | None = None
    """Optimizees to train on, by name or as package.module:factory; small-problems is a group (default mlp-orig)."""
    seed: int | None = None
    """Of all randomness (default 0)."""
    num_tasks: int | None = None
    """Optimizees trained on at once (default 1)."""
    meta_optimizer: str | None = None
    """For the learned optimizer's weights (default adam:learning_rate=0.001; L2O-Scale has its own)."""
    gradient_clip: float | None = None
    """Largest global norm of the meta-gradient (default: no clipping)."""
    elementwise_clip: float | None = None
    """Largest absolute value of the meta-gradient's elements (default: no clipping; L2O-Scale 10000)."""
    objective: Objective | None = None
    """Sum of the losses, or mean of log losses relative to the initial one (default sum; L2O-Scale log)."""
    objective_batches: int | None = None
    """Batches that each loss of the objective is a mean over (default: that of the step alone)."""
    estimator: Estimator | None = None
    """Of the meta-gradient: backpropagation (default), or (persistent) evolution strategies."""
    perturbation: float | None = None
    """Standard deviation of the noise on the weights for es and pes (default 0.01)."""
    random_scaling: float | None = None
    """Augmentation: scale each coordinate by exp(u), u uniform up to this (default 0; RNNprop's authors take 3)."""
    convex_term: bool = False
    """Augmentation: add a convex function of 20 further coordinates."""
    start_scale: float | None = None
    """Augmentation: factor of the optimizee's start (default 1)."""
    second_derivatives: bool = False
    """Differentiate through the optimizee's gradient too; slower."""
    num_validation: int | None = None
    """Fresh optimizees that a validation averages over (default 20; L2O-Scale 5)."""
    max_epochs: int | None = None
    """Stop after this many epochs (default: when the technique says so; L2O-Scale 100)."""
    data_dir: Path | None = None
    """Folder to look for data in first."""
    json: bool = False
    """Print every logged row as a line of JSON instead of a progress bar."""

    def _config(self) -> TrainingConfig | None:
        augmentation = _given(self, Augmentation)
        settings = _given(self, TrainingConfig)
        optimizer, name = settings.pop("optimizer", "l2o-dm"), settings.pop("technique", "cl-il")
        if self.resume or self.like:
            others = augmentation or settings or self.optimizer or self.technique or self.variant
            if others or (self.resume and self.like):
                which = "--resume" if self.resume else "--like"
                raise ValueError(f"{which} says what all settings are: leave the others out.")
            return None if self.resume else TrainingConfig.of_weights(find_weights(str(self.like)))
        config = recipe(optimizer, name, self.variant or "paper", **settings)
        augmentation = replace(config.technique.augmentation, **augmentation)
        return replace(config, technique=replace(config.technique, augmentation=augmentation))

    def run(self) -> None:
        config = self._config()
        with progress_bar(self.json) as bar:
            task = bar.add_task("compiling and validating", total=None, detail="")

            def report(event: Event) -> None:
                if self.json:
                    print(json.dumps(event.row), flush=True)
                show_training(bar, task, event)

            try:
                train(self.run_directory, config, resume=self.resume, data_dir=self.data_dir, report=report)
            except KeyboardInterrupt:
                raise _Interrupted(
                    f"Interrupted; nothing is lost. Go on with: tutelage train {self.run_directory} --resume"
                ) from None
        console.print(f"Finished: the best weights are in {self.run_directory / 'optimizer.safetensors'}.")


@dataclass(frozen=True, kw_only=True)
class _Measurement:
    """What evaluate and tune have in common."""

    steps: int = 10_000
    """Optimizer steps, a multiple of 100."""
    split: Split = "test"
    """Part of the data that batches are drawn from; the paper's protocol takes the test images."""
    out: Path | None = None
    """Write the loss of every window of 100 steps to this Parquet file."""
    data_dir: Path | None = None
    """Folder to look for data in first."""
    keep: Path | None = None
    """Folder that keeps what is computed, so that the same command goes on where it was interrupted."""
    json: bool = False
    """Print the summary as JSON."""

    def _check_out(self) -> None:
        check_free(self.out, ".parquet", replace=self.keep is not None)

    def _settings(self, seeds: int, bar: Progress, task: TaskID) -> dict[str, Any]:
        return {
            "num_steps": self.steps,
            "num_seeds": seeds,
            "split": self.split,
            "data_dir": self.data_dir,
            "store": self.keep and EvaluationStore(self.keep),
            "report": lambda progress: show_evaluation(bar, task, progress),
        }

    def _interrupted(self, otherwise: str) -> "_Interrupted":
        if self.keep:
            return _Interrupted(f"Interrupted; nothing is lost. The same command goes on from what is in {self.keep}.")
        return _Interrupted(f"Interrupted; {otherwise}. With --keep FOLDER it could go on from there.")


@dataclass(frozen=True)
class Evaluate(_Measurement):
    """Run optimizers on optimizees from the same seeds and compare their losses."""

    optimizers: Annotated[Positional[tuple[str, ...]], arg(metavar="OPT [OPT ...]")]
    """Run directories, .safetensors files, .npz files of published weights, or e.g. adam:learning_rate=0.01."""
    on: tuple[str, ...] = ("mlp-orig",)
    """Optimizees, by name or as package.module:factory."""
    seeds: int = 10
    """Independent starts of each pair."""
    plot: Path | None = None
    """Draw the curves into this PNG, PDF or SVG file."""

    def run(self) -> None:
        self._check_out()
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
        if self.plot:
            plot_curves(table, self.plot)
        print_summary(summarize(table), self.json)


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
        write(table, self.out)
        print_summary(summarize(table), self.json, best=best)


_EXPERIMENTS = f"One of {', '.join(experiment_names())}, or all."


@dataclass(frozen=True)
class Reproduce:
    """An experiment of the paper: train what it needs, tune, evaluate, and write a report with the paper's claims."""

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
    """Write the report anew from the tables in the folder, computing nothing."""

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
                raise _Interrupted(
                    f"Interrupted; nothing is lost. The same command goes on from what is in {self.folder}."
                ) from None
        console.print(f"Report: {page}")


@dataclass(frozen=True)
class Zoo:
    """What ships: taught optimizers and their results, or the card of one."""

    name: Annotated[Positional[str | None], arg(metavar="NAME")] = None
    """Print the card of this one."""
    json: bool = False
    """Print the results as JSON."""

    def run(self) -> None:
        if self.name is None:
            print_ranking(summarize(pl.read_parquet(RESULTS)), self.json)
        elif self.name in zoo_names():
            print(zoo_card(self.name).read_text())
        else:
            raise unknown_name("optimizer in the zoo", self.name, zoo_names())


@dataclass(frozen=True)
class Inspect:
    """Write a page that shows what an optimizer does with gradients, and along a real rollout."""

    optimizer: Annotated[Positional[str], arg(metavar="OPT")]
    """A name in the zoo, a run directory, a file of weights, or a hand-designed optimizer by name."""
    out: Path = Path("inspect.html")
    """The HTML file to write."""
    on: str = "mlp-digits"
    """Optimizee of the rollout."""
    steps: int = 1_000
    """Of the rollout."""
    data_dir: Path | None = None
    """Folder to look for data in first."""

    def run(self) -> None:
        check_free(self.out, ".html")
        if self.steps < 1:
            raise ValueError(f"The number of steps must be 1 or more, not {self.steps}.")
        optimizer = resolve_optimizer(self.optimizer)
        problem = optimizee(self.on, "train", self.data_dir)
        in_zoo = is_zoo_name(self.optimizer) and self.optimizer in zoo_names()
        card = zoo_card(self.optimizer) if in_zoo else Path(self.optimizer) / "card.md"
        text = card.read_text() if card.is_file() else ""
        with console.status("running it"):
            page = inspect(self.optimizer, optimizer, self.on, problem, self.steps, text)
        self.out.write_text(page)
        console.print(f"Page: {self.out}")


@dataclass(frozen=True)
class Import:
    """Write published weights in our format."""

    published: Annotated[Positional[Path], arg(metavar="PUBLISHED")]
    """An .npz archive of the authors' weights."""
    out: Path
    """The .safetensors file to write."""

    def run(self) -> None:
        check_free(self.out, ".safetensors")
        architecture, optimizer = load_published(self.published)
        save_weights(self.out, optimizer, architecture, {"published": self.published.name})
        console.print(f"{self.out}: {architecture}.")


def _given(command: Train, settings: type) -> dict[str, Any]:
    """The options that belong to these settings and were given; those left out are None or False."""
    values = {field.name: getattr(command, field.name, None) for field in fields(settings)}
    return {name: value for name, value in values.items() if value is not None and value is not False}


class _Interrupted(Exception):
    """Ctrl-C, with what the user should know."""


Command = (
    Annotated[Demo, subcommand("demo")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Tune, subcommand("tune")]
    | Annotated[Reproduce, subcommand("reproduce")]
    | Annotated[Zoo, subcommand("zoo")]
    | Annotated[Inspect, subcommand("inspect")]
    | Annotated[Import, subcommand("import")]
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 if all went well, 1 if it failed or was interrupted, 2 if it was asked for wrongly."""
    # as with python -m, so that package.module:factory finds modules in the current folder
    sys.path.insert(0, "")
    command: Callable[[], Any] = tyro.cli(
        Command, prog="tutelage", description=__import__("tutelage").__doc__, args=arguments
    ).run
    try:
        command()
    except (ValueError, FileExistsError) as error:
        console.print(f"tutelage: {error}", soft_wrap=True)
        return 2
    except (DataError, OSError, PartsFailedError, _Interrupted) as error:
        console.print(f"tutelage: {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("tutelage: interrupted.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
