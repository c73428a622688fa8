"""Meta-training, from first epoch to last (Algorithms 1 and 2)."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PRNGKeyArray

from ..optimizees import Optimizee, optimizee
from ..optimizers import LearnedOptimizer, create_learned, load_weights, parse_hand_designed, save_weights
from .card import provenance, write_card
from .config import TrainingConfig
from .curriculum import Curriculum, Decision
from .epoch import EpochMetrics, make_epoch
from .imitation import Imitation, Teachers
from .objective import SEGMENT_LENGTH
from .parallel import replicate, training_mesh
from .run_directory import RunDirectory
from .unroll import make_unroll
from .validation import make_validation

CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class Event:
    """What `train` reports after each epoch and each validation: where it stands, and the row it logged."""

    curriculum: Curriculum
    epoch: int
    row: dict[str, Any]


@functools.cache
def meta_optimizer(learning_rate: float, gradient_clip: float | None) -> optax.GradientTransformation:
    """Adam, after clipping by the global norm where that is asked for."""
    adam = optax.adam(learning_rate)
    if gradient_clip is None:
        return adam
    return optax.chain(optax.clip_by_global_norm(gradient_clip), adam)


class _Keys:
    """The random keys of a run, each a function of the seed and of what it is for."""

    def __init__(self, seed: int):
        self.init, self.epoch, self.validation = jax.random.split(jax.random.key(seed), 3)

    def of_epoch(self, epoch: int) -> PRNGKeyArray:
        """Three keys: for the tasks, for whether to imitate, for the teacher."""
        return jax.random.split(jax.random.fold_in(self.epoch, epoch), 3)


class _Trainer:
    """The state of a run and its two moves: train an epoch, validate."""

    def __init__(self, run: RunDirectory, config: TrainingConfig, problem: Optimizee):
        self.run = run
        self.config = config
        self.mesh = training_mesh(config.num_tasks)
        self.problem = replicate(problem, self.mesh)
        self.keys = _Keys(config.seed)
        meta: Any = meta_optimizer(
            config.meta_learning_rate, config.gradient_clip
        )  # optax's types do not know modules as parameters
        optimizer = create_learned(config.optimizer, self.keys.init)
        self.unroll = make_unroll(optimizer, self.problem, config.second_derivatives)
        self.train_epoch = make_epoch(meta, config.num_tasks)
        self.validate = make_validation(config.num_validation, config.technique.validate_final_point)
        imitation = config.technique.imitation
        self.teachers = () if imitation is None else tuple(map(parse_hand_designed, imitation.teachers))
        # What a checkpoint keeps: weights, best weights, the meta-optimizer's state and imitation's own.
        self.optimizer = self.best = replicate(optimizer, self.mesh)
        self.meta_state = self.imitation_state = replicate(meta.init(optimizer), self.mesh)
        self.curriculum = Curriculum(config.technique.schedule)
        self.epoch = 0
        self.step = 0
        self.diverged = 0

    @property
    def finished(self) -> bool:
        limit = self.config.max_epochs
        return self.curriculum.finished or (
            limit is not None and self.epoch >= limit and not self.curriculum.expects_validation
        )

    def advance(self) -> dict[str, Any]:
        """Do what is due next and return what to log."""
        start = time.perf_counter()
        row = self._validation() if self.curriculum.expects_validation else self._epoch()
        self.step += 1
        return row | {"seconds": round(time.perf_counter() - start, 3)}

    def _epoch(self) -> dict[str, Any]:
        key, imitate_key, teacher_key = self.keys.of_epoch(self.epoch)
        stage, unroll_length = self.curriculum.stage, self.curriculum.unroll_length
        imitation = self.config.technique.imitation
        teacher = None
        if imitation is not None and jax.random.uniform(imitate_key) < imitation.ratio(stage):
            teacher = int(jax.random.randint(teacher_key, (), 0, len(self.teachers)))
        segments = unroll_length // SEGMENT_LENGTH
        if imitation is None or teacher is None:
            self.optimizer, self.meta_state, metrics = self.train_epoch(
                self.optimizer, self.meta_state, self.unroll, key, segments
            )
        else:
            teachers = Teachers(self.teachers, jnp.asarray(teacher))
            objective = Imitation(self.problem, teachers, imitation.mean_over_coordinates)
            state = self.imitation_state if imitation.own_meta_optimizer else self.meta_state
            self.optimizer, state, metrics = self.train_epoch(self.optimizer, state, objective, key, segments)
            if imitation.own_meta_optimizer:
                self.imitation_state = state
            else:
                self.meta_state = state
        self.epoch += 1
        self.curriculum.end_epoch()
        return self._row(stage, unroll_length, teacher, metrics)

    def _row(self, stage: int, unroll_length: int, teacher: int | None, metrics: EpochMetrics) -> dict[str, Any]:
        diverged = int(metrics.diverged_tasks)
        self.diverged += diverged
        imitation = self.config.technique.imitation
        return {
            "epoch": self.epoch,
            "stage": stage,
            "unroll": unroll_length,
            "teacher": None if imitation is None or teacher is None else imitation.teachers[teacher],
            "mean_loss": float(metrics.mean_loss),
            "final_loss": float(metrics.final_loss),
            "gradient_norm": float(metrics.gradient_norm),
            "diverged_tasks": diverged,
            "skipped_steps": int(metrics.skipped_steps),
        }

    def _validation(self) -> dict[str, Any]:
        stage, length = self.curriculum.stage, self.curriculum.validation_length
        loss = self.validate(self.optimizer, self.problem, self.keys.validation, length)
        decision, is_best = self.curriculum.report(loss)
        if is_best:
            self.best = self.optimizer
        if decision is not Decision.CONTINUE:
            self.optimizer = self.best
        row = {
            "epoch": self.epoch,
            "stage": stage,
            "validation_steps": length,
            "validation_loss": loss,
            "best": is_best,
            "decision": decision.value,
        }
        if is_best:
            save_weights(self.run.weights, self.best, provenance(self.config, self.epoch, row))
        return row

    def save(self) -> None:
        """Write a checkpoint."""
        progress = {
            "epoch": self.epoch,
            "step": self.step,
            "diverged": self.diverged,
            "curriculum": self.curriculum.to_dict(),
        }
        self.run.save_checkpoint(self.step, self._arrays(), progress)

    def load(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        loaded = self.run.load_checkpoint(self._arrays())
        if loaded is None:
            return
        arrays, progress = loaded
        self.optimizer, self.best, self.meta_state, self.imitation_state = replicate(arrays, self.mesh)
        self.epoch, self.step, self.diverged = progress["epoch"], progress["step"], progress["diverged"]
        self.curriculum = Curriculum.from_dict(self.config.technique.schedule, progress["curriculum"])

    def _arrays(self):
        return self.optimizer, self.best, self.meta_state, self.imitation_state


def train(
    run: str | Path,
    config: TrainingConfig | None = None,
    *,
    resume: bool = False,
    data_dir: str | Path | None = None,
    report: Callable[[Event], None] = lambda event: None,
) -> LearnedOptimizer:
    """Meta-train a learned optimizer and return its best weights.

    Writes a run directory: `config.toml`, `metrics.jsonl`, `checkpoints/`, `optimizer.safetensors` (the best so
    far) and `card.md`. A run interrupted at any moment, also by `kill -9`, resumes from there and ends bit for bit
    where the undisturbed one would on the same machine.

    Args:
        run: the folder, new or empty; with `resume`, that of the run to go on with.
        config: the settings; not given with `resume`, which takes them from the folder.
        data_dir: where to look for data first.
        report: called after each epoch and validation.

    Raises:
        FileExistsError: the folder is not empty, and `resume` was not asked for.
        FileNotFoundError: there is nothing to resume.
        ValueError: settings that make no sense, or a damaged run.
    """
    if resume == (config is not None):
        raise ValueError("train takes either a configuration or resume=True, which reads the run's own.")
    directory = RunDirectory(run)
    settings = directory.config() if config is None else config
    problem = optimizee(settings.on, "train", data_dir)
    create_learned(settings.optimizer, jax.random.key(0))
    if config is not None:
        directory.create(config)
    trainer = _Trainer(directory, settings, problem)
    if resume:
        trainer.load()
    saved = time.monotonic()
    try:
        while not trainer.finished:
            row = trainer.advance()
            directory.log(row)
            report(Event(trainer.curriculum, trainer.epoch, row))
            if "validation_loss" in row or time.monotonic() - saved > CHECKPOINT_SECONDS:
                trainer.save()
                saved = time.monotonic()
    except KeyboardInterrupt:
        # The epoch under way is lost; what is in memory is the state after the last whole one.
        trainer.save()
        raise
    if trainer.curriculum.periods < 0 and not directory.weights.exists():
        raise ValueError("Training ended before its first validation: raise max_epochs.")
    trainer.save()
    write_card(directory, settings, trainer.epoch, trainer.diverged)
    return load_weights(directory.weights)[0]
