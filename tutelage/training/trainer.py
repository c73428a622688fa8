"""Meta-training, from first epoch to last (Algorithms 1 and 2)."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from ..optimizees import Optimizee, optimizee
from ..optimizers import LearnedOptimizer, create_learned, load_weights, parse_hand_designed, save_weights
from .card import provenance, write_card
from .config import TrainingConfig
from .curriculum import Curriculum, Decision
from .epoch import make_epoch
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

    def of_epoch(self, epoch: int) -> Key[Array, "3"]:
        """Three keys: for the tasks, for whether to imitate, for the teacher."""
        return jax.random.split(jax.random.fold_in(self.epoch, epoch), 3)


@dataclass(frozen=True)
class _State:
    """Everything that changes as training goes on; what a checkpoint keeps."""

    optimizer: LearnedOptimizer
    best: LearnedOptimizer
    meta_state: Any
    imitation_state: Any
    """The meta-optimizer's moments for imitation, where it has its own."""
    curriculum: Curriculum
    epoch: int = 0
    step: int = 0
    """Epochs and validations so far."""
    best_epoch: int = 0
    """When the best weights were learned."""
    diverged: int = 0
    """Optimizees that diverged so far."""
    metrics_bytes: int = 0
    """Length of the log that belongs to this state."""

    def arrays(self) -> tuple[Any, ...]:
        return self.optimizer, self.best, self.meta_state, self.imitation_state

    def progress(self) -> dict[str, Any]:
        names = ("epoch", "step", "best_epoch", "diverged", "metrics_bytes")
        return {name: getattr(self, name) for name in names} | {"curriculum": self.curriculum.to_dict()}


class _Trainer:
    """The two moves of a run: train an epoch, validate. Each takes a state and returns the next one."""

    def __init__(self, run: RunDirectory, config: TrainingConfig, problem: Optimizee):
        self.run = run
        self.config = config
        self.mesh = training_mesh(config.num_tasks)
        self.problem = replicate(problem, self.mesh)
        self.keys = _Keys(config.seed)
        # Any: optax's types do not know modules as parameters
        meta: Any = meta_optimizer(config.meta_learning_rate, config.gradient_clip)
        optimizer = replicate(create_learned(config.optimizer, self.keys.init), self.mesh)
        meta_state = replicate(meta.init(optimizer), self.mesh)
        self.unroll = make_unroll(optimizer, self.problem, config.second_derivatives)
        self.train_epoch = make_epoch(meta, config.num_tasks)
        self.validate = make_validation(config.num_validation, config.technique.validate_final_point)
        imitation = config.technique.imitation
        self.teachers = () if imitation is None else tuple(map(parse_hand_designed, imitation.teachers))
        self.start = _State(optimizer, optimizer, meta_state, meta_state, Curriculum(config.technique.schedule))

    def load(self) -> _State:
        """The state of the newest checkpoint, or the start."""
        loaded = self.run.load_checkpoint(self.start.arrays())
        if loaded is None:
            return self.start
        arrays, progress = loaded
        curriculum = Curriculum.from_dict(self.config.technique.schedule, progress.pop("curriculum"))
        return _State(*replicate(arrays, self.mesh), curriculum=curriculum, **progress)

    def save(self, state: _State) -> None:
        """Write a checkpoint."""
        self.run.save_checkpoint(state.step, state.arrays(), state.progress())

    def _at_limit(self, state: _State) -> bool:
        return self.config.max_epochs is not None and state.epoch >= self.config.max_epochs

    def finished(self, state: _State) -> bool:
        """Whether the schedule or the limit has ended training; its last epochs are validated first."""
        curriculum = state.curriculum
        return curriculum.finished or (self._at_limit(state) and curriculum.epochs == 0 and state.step > 0)

    def advance(self, state: _State) -> tuple[_State, dict[str, Any]]:
        """Do what is due next; return the next state, and the row that was logged."""
        start = time.perf_counter()
        due = state.curriculum.expects_validation or (self._at_limit(state) and state.curriculum.epochs > 0)
        state = replace(state, curriculum=replace(state.curriculum))
        state, row = self._validation(state) if due else self._epoch(state)
        row["seconds"] = round(time.perf_counter() - start, 3)
        return replace(state, step=state.step + 1, metrics_bytes=self.run.log(row)), row

    def _epoch(self, state: _State) -> tuple[_State, dict[str, Any]]:
        key, imitate_key, teacher_key = self.keys.of_epoch(state.epoch)
        stage, unroll_length = state.curriculum.stage, state.curriculum.unroll_length
        segments = unroll_length // SEGMENT_LENGTH
        imitation = self.config.technique.imitation
        teacher = None
        if imitation is None or jax.random.uniform(imitate_key) >= imitation.ratio(stage):
            optimizer, meta_state, metrics = self.train_epoch(
                state.optimizer, state.meta_state, self.unroll, key, segments
            )
            state = replace(state, optimizer=optimizer, meta_state=meta_state)
        else:
            chosen = int(jax.random.randint(teacher_key, (), 0, len(self.teachers)))
            teacher = imitation.teachers[chosen]
            teachers = Teachers(self.teachers, jnp.asarray(chosen))
            objective = Imitation(self.problem, teachers, imitation.mean_over_coordinates)
            moments = "imitation_state" if imitation.own_meta_optimizer else "meta_state"
            optimizer, meta_state, metrics = self.train_epoch(
                state.optimizer, getattr(state, moments), objective, key, segments
            )
            state = replace(state, optimizer=optimizer, **{moments: meta_state})
        state.curriculum.end_epoch()
        diverged = int(metrics.diverged_tasks)
        state = replace(state, epoch=state.epoch + 1, diverged=state.diverged + diverged)
        return state, {
            "epoch": state.epoch,
            "stage": stage,
            "unroll": unroll_length,
            "teacher": teacher,
            "mean_loss": float(metrics.mean_loss),
            "final_loss": float(metrics.final_loss),
            "gradient_norm": float(metrics.gradient_norm),
            "diverged_tasks": diverged,
            "skipped_steps": int(metrics.skipped_steps),
        }

    def _validation(self, state: _State) -> tuple[_State, dict[str, Any]]:
        stage, length = state.curriculum.stage, state.curriculum.validation_length
        is_restored = stage > 0 and state.curriculum.periods < 0
        loss = self.validate(state.optimizer, self.problem, self.keys.validation, length)
        decision, is_best = state.curriculum.report(loss)
        if is_best:
            best_epoch = state.best_epoch if is_restored else state.epoch
            state = replace(state, best=state.optimizer, best_epoch=best_epoch)
        if decision is not Decision.CONTINUE:
            state = replace(state, optimizer=state.best)
        row = {
            "epoch": state.epoch,
            "stage": stage,
            "validation_steps": length,
            "validation_loss": loss,
            "best": is_best,
            "decision": decision.value,
        }
        if is_best:
            save_weights(
                self.run.weights, state.best, self.config.optimizer, provenance(self.config, state.best_epoch, row))
        return state, row


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
    state = trainer.load() if resume else trainer.start
    saved = time.monotonic()
    try:
        while not trainer.finished(state):
            state, row = trainer.advance(state)
            report(Event(state.curriculum, state.epoch, row))
            if "validation_loss" in row or time.monotonic() - saved > CHECKPOINT_SECONDS:
                trainer.save(state)
                saved = time.monotonic()
    except KeyboardInterrupt:
        trainer.save(state)  # that after the last whole epoch or validation
        raise
    trainer.save(state)
    write_card(directory, settings, state.epoch, state.best_epoch, state.diverged)
    return load_weights(directory.weights)[0]
