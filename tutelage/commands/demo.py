"""tutelage demo."""

from dataclasses import dataclass
from pathlib import Path

from ..evaluation import compare_final, final_log_losses
from ..experiments import demo
from ..training import Event, TrainingConfig
from .terminal import Lines, console, print_summary, progress_bar, show_evaluation


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
            lines = Lines(self.json)

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

            def phase(title: str) -> None:
                bar.reset(task, description=title, detail="")
                lines.say(lambda: title, anyway=True)

            result = demo(
                self.out,
                on_phase=phase,
                on_training=training,
                on_evaluation=show_evaluation(bar, task, lines),
            )
        print_summary(result.summary, self.json)
        comparison = compare_final(final_log_losses(result.table), result.taught, result.plain)
        console.print(
            f"Does {result.taught} end lower than {result.plain} here? {comparison.ends_lower}: {comparison.measured}. "
            f"Curves: {result.folder / 'curves.png'}; table: {result.folder / 'results.parquet'}."
        )
