"""The whole path in about two minutes, offline: teach L2O-DM on scikit-learn's digits, judge it, plot it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ..evaluation import EvaluationProgress, evaluate, plot_curves, summarize, tune
from ..interop import resolve_optimizer
from ..training import Event, ImitationSettings, Schedule, Technique, TrainingConfig, train

OPTIMIZEE = "mlp-digits"
STEPS = 1_000
SEEDS = 5
BASELINES = ("adam", "rmsprop", "sgd")

# The paper's techniques, with short stages and much imitation at first so that they fit into a minute. Both
# optimizers are given the same number of inner steps, the same meta-optimizer and the same clipping.
EPOCHS = 45
_CURRICULUM = Schedule(
    (100, 200, 400), (200, 400, 800), EPOCHS // 3, min_periods=3, max_periods=3, stop_when_stage_fails=False
)
CURRICULUM_IMITATION = Technique(_CURRICULUM, ImitationSettings((0.8, 0.5, 0.3)))
PLAIN = Technique(Schedule((100,), (100,), period=7 * EPOCHS // 5, min_periods=5, max_periods=5))
META_OPTIMIZER = "adam:learning_rate=0.003"
GRADIENT_CLIP = 1.0


@dataclass(frozen=True)
class DemoResult:
    """What the demo found, and where it wrote it."""

    table: pl.DataFrame
    summary: pl.DataFrame
    taught: str
    plain: str
    folder: Path


def demo(
    folder: str | Path,
    *,
    on_phase: Callable[[str], None] = lambda title: None,
    on_training: Callable[[Event, TrainingConfig], None] = lambda event, config: None,
    on_evaluation: Callable[[EvaluationProgress], None] = lambda progress: None,
) -> DemoResult:
    """Teach plain L2O-DM and L2O-DM with curriculum and imitation, tune baselines, evaluate all of them.

    Writes two run directories, `results.parquet` and `curves.png` into `folder`, which must be new or empty.

    Raises:
        FileExistsError: the folder is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty: name another folder with --out, or remove it.")
    runs = {"l2o-dm": PLAIN, "l2o-dm-cl-il": CURRICULUM_IMITATION}
    optimizers: dict[str, Any] = {}
    for name, technique in runs.items():
        on_phase(f"Teaching {name} on {OPTIMIZEE}")
        config = TrainingConfig(
            technique,
            on=(OPTIMIZEE,),
            meta_optimizer=META_OPTIMIZER,
            gradient_clip=GRADIENT_CLIP,
            num_validation=6,
        )
        optimizers[name] = train(folder / name, config, report=lambda event, config=config: on_training(event, config))
    for name in BASELINES:
        on_phase(f"Tuning {name}")
        best, _ = tune(name, OPTIMIZEE, num_steps=STEPS, num_seeds=2, report=on_evaluation)
        optimizers[best] = resolve_optimizer(best)
    on_phase(f"Evaluating {len(optimizers)} optimizers for {STEPS:,} steps on {SEEDS} seeds")
    table = evaluate(optimizers, [OPTIMIZEE], num_steps=STEPS, num_seeds=SEEDS, report=on_evaluation)
    table.write_parquet(folder / "results.parquet")
    plot_curves(table, folder / "curves.png")
    return DemoResult(table, summarize(table), "l2o-dm-cl-il", "l2o-dm", folder)
