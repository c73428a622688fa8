"""What travels with taught weights: how they came about."""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import jax

from ..files import write_text
from ..processor import has_avx512, processor_name
from .config import TrainingConfig
from .run_directory import CARD, RunDirectory


def provenance(config: TrainingConfig, epoch: int, validation: dict[str, Any]) -> dict[str, Any]:
    """The header of a weights file: settings, versions, machine, and the validation that chose these weights."""
    return {
        "config": asdict(config),
        "epoch": epoch,
        "validation_loss": validation["validation_loss"],
        "validation_steps": validation["validation_steps"],
        "versions": {name: version(name) for name in ("tutelage", "jax", "jaxlib", "optax")},
        "backend": jax.default_backend(),
        "devices": jax.device_count(),
        "processor": processor_name(),
        "avx512": has_avx512(),
    }


@dataclass(frozen=True)
class TrainingLog:
    """What a training run cost."""

    epochs: int
    best_epoch: int
    """When the weights were learned."""
    inner_steps: int
    """Optimizee steps of all epochs, times the optimizees trained on at once."""
    seconds: float


def training_log(run: RunDirectory) -> TrainingLog:
    """Read a run's log."""
    rows, tasks = _rows(run), run.config().num_tasks
    unrolls = [row["unroll"] * tasks for row in rows if "unroll" in row]
    # an epoch's first validation is of what it learned; a second one, of a new stage, is of restored weights
    was_best = {row["epoch"]: row["best"] for row in reversed(rows) if "best" in row}
    best = max((epoch for epoch, is_best in was_best.items() if is_best), default=0)
    return TrainingLog(len(unrolls), best, sum(unrolls), sum(row["seconds"] for row in rows))


def _rows(run: RunDirectory) -> list[dict[str, Any]]:
    with run.metrics.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _begun_with(config: TrainingConfig) -> str:
    return "" if config.initial_weights is None else f", begun with the weights of {config.initial_weights}"


def write_card(run: RunDirectory, config: TrainingConfig, epochs: int, best_epoch: int, diverged: int) -> None:
    """Write `card.md` from the settings and the log; where it is, the run is finished."""
    rows = _rows(run)
    validations = [row for row in rows if "validation_loss" in row]
    best = [row for row in validations if row["best"]][-1]
    seconds = sum(row["seconds"] for row in rows)
    lines = [
        f"# {config.optimizer} taught on {', '.join(config.on)}",
        "",
        f"{epochs} epochs, {seconds / 60:.1f} minutes on {jax.device_count()} {jax.default_backend()} device(s), "
        f"seed {config.seed}{_begun_with(config)}. Settings: `config.toml`; log: `metrics.jsonl`.",
        f"Optimizees that diverged during training: {diverged}.",
        f"Best weights: epoch {best_epoch}, loss {best['validation_loss']} after {best['validation_steps']} steps "
        f"(mean of {config.num_validation} fresh optimizees of the training split"
        f"{', ' + ' and '.join(config.validate_on) if config.validate_on else ''}).",
        "",
        "| epoch | unroll | validated at | loss | best |",
        "|---|---|---|---|---|",
    ]
    unrolls = config.technique.schedule.unroll_lengths
    lines += [
        f"| {row['epoch']} | {unrolls[row['stage']]} | {row['validation_steps']} | {row['validation_loss']} "
        f"| {'yes' if row['best'] else ''} |"
        for row in validations
    ]
    write_text(run.path / CARD, "\n".join(lines) + "\n")
