"""Meta-training, from first epoch to last (Algorithms 1 and 2)."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from ..evaluation import rollout
from ..files import alone_in
from ..floating import check_floating
from ..optimizees import Optimizee, expand, load_optimizees
from ..optimizers import LearnedOptimizer, create_learned, load_weights, parse_hand_designed, save_weights
from ..settings import check_type
from .card import provenance, write_card
from .config import TrainingConfig
from .curriculum import Curriculum, Decision
from .epoch import make_epoch
from .estimator import cuts_coordinates, make_imitation, make_unroll
from .objective import Mixture
from .parallel import replicate, training_mesh
from .run_directory import RunDirectory
from .taken import check_taken, load_teachers, taken_weights
from .validation import make_validation

CHECKPOINT_SECONDS = 30.0

_ARRAY_OR_CONSTANT = "make it such an array, or with eqx.field(static=True) a constant"


@dataclass(frozen=True)
class Event:
    """What `train` reports after each epoch and each validation: where it stands, and the row it logged."""

    curriculum: Curriculum
    epoch: int
    epochs_to_validation: int
    row: dict[str, Any]


@functools.cache
def make_meta_optimizer(
    name: str, gradient_clip: float | None, elementwise_clip: float | None
) -> optax.GradientTransformation:
    """A hand-designed optimizer, after clipping where that is asked for."""
    made: Any = parse_hand_designed(name)
    clips = []
    if elementwise_clip is not None:
        clips.append(optax.clip(elementwise_clip))
    if gradient_clip is not None:
        clips.append(optax.clip_by_global_norm(gradient_clip))
    return optax.chain(*clips, made)


class _Keys:
    """The random keys of a run, each a function of the seed and of what it is for."""

    def __init__(self, seed: int):
        self.init, self.epoch, self.validation = jax.random.split(jax.random.key(seed), 3)

    def of_epoch(self, epoch: int) -> Key[Array, "5"]:
        """Five keys: for the tasks, for whether to imitate, for the teacher, the optimizee and random lengths."""
        key = jax.random.fold_in(self.epoch, epoch)
        return jnp.concatenate([jax.random.split(key, 3), jax.random.split(jax.random.fold_in(key, 7), 2)])


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

    def __init__(
        self,
        run: RunDirectory,
        config: TrainingConfig,
        problems: dict[str, Optimizee],
        validated: dict[str, Optimizee],
    ):
        self.run = run
        self.config = config
        self.technique = config.technique
        self.keys = _Keys(config.seed)
        if config.initial_weights is None:
            optimizer = create_learned(config.optimizer, self.keys.init)
        else:
            optimizer, _ = load_weights(run.initial)
        self.mesh = training_mesh(config.num_tasks, cuts_coordinates(config, optimizer))
        self.problems = replicate(problems, self.mesh)
        # Any: optax's types do not know modules as parameters
        meta: Any = make_meta_optimizer(config.meta_optimizer, config.gradient_clip, config.elementwise_clip)
        optimizer = replicate(optimizer, self.mesh)
        meta_state = replicate(meta.init(optimizer), self.mesh)
        self.train_epoch = make_epoch(meta, config.num_tasks, self.mesh)
        self.validate = make_validation(
            list(validated.values()),
            config.num_validation,
            self.technique.validate_final_point,
            config.objective == "log",
            config.objective_settings.log_epsilon,
        )
        imitation, improving = self.technique.imitation, self.technique.self_improving
        self.imitated = load_teachers(run, config, imitation.teachers if imitation else ())
        self.mixed = load_teachers(run, config, improving.teachers if improving else ())
        self.start = _State(optimizer, optimizer, meta_state, meta_state, Curriculum(self.technique.schedule))

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

    def event(self, state: _State, row: dict[str, Any]) -> Event:
        """What to report of the move that led to this state."""
        return Event(state.curriculum, state.epoch, self._epochs_to_validation(state), row)

    def _epochs_to_validation(self, state: _State) -> int:
        """Those to the end of the period, or to the limit, which cuts it short."""
        left = self.technique.schedule.period - state.curriculum.epochs
        limit = self.config.max_epochs
        return left if limit is None else min(left, limit - state.epoch)

    def finished(self, state: _State) -> bool:
        """Whether the schedule or the limit has ended training; its last epochs are validated first."""
        curriculum, limit = state.curriculum, self.config.max_epochs
        at_limit = limit is not None and state.epoch >= limit
        return curriculum.finished or (at_limit and curriculum.epochs == 0 and state.step > 0)

    def advance(self, state: _State) -> tuple[_State, dict[str, Any]]:
        """Do what is due next; return the next state, and the row that was logged."""
        start = time.perf_counter()
        due = state.curriculum.expects_validation or self._epochs_to_validation(state) <= 0
        state = replace(state, curriculum=replace(state.curriculum))
        state, row = self._validation(state) if due else self._epoch(state)
        row["seconds"] = round(time.perf_counter() - start, 3)
        return replace(state, step=state.step + 1, metrics_bytes=self.run.log(row)), row

    def _epoch(self, state: _State) -> tuple[_State, dict[str, Any]]:
        key, imitate_key, teacher_key, optimizee_key, length_key = self.keys.of_epoch(state.epoch)
        stage, unroll_length = state.curriculum.stage, state.curriculum.unroll_length
        segment_length = self.config.objective_settings.segment_length
        segments, steps = unroll_length // segment_length, None
        if self.technique.random_lengths is not None:
            segments, steps = self.technique.random_lengths.draw(length_key)
            unroll_length = segments * steps
        names = list(self.problems)
        name = names[int(jax.random.randint(optimizee_key, (), 0, len(names)))]
        imitation = self.technique.imitation
        teacher = None
        moments = "meta_state"
        if imitation is None or jax.random.uniform(imitate_key) >= imitation.ratio(stage):
            active = None if steps is None else jnp.asarray(steps)
            mixture = self._mixture(state.epoch)
            objective = make_unroll(self.config, state.optimizer, self.problems[name], active, mixture)
        else:
            chosen = int(jax.random.randint(teacher_key, (), 0, len(imitation.teachers)))
            teacher = imitation.teachers[chosen]
            objective = make_imitation(
                self.config, state.optimizer, self.problems[name], self.imitated, jnp.asarray(chosen)
            )
            segments = max(1, unroll_length // segment_length)
            if imitation.own_meta_optimizer:
                moments = "imitation_state"
        optimizer, meta_state, metrics = self.train_epoch(
            state.optimizer, getattr(state, moments), objective, key, segments
        )
        state.curriculum.end_epoch()
        diverged = int(metrics.diverged_tasks)
        state = replace(
            state,
            optimizer=optimizer,
            epoch=state.epoch + 1,
            diverged=state.diverged + diverged,
            **{moments: meta_state},
        )
        return state, {
            "epoch": state.epoch,
            "stage": stage,
            "on": name,
            "unroll": unroll_length,
            "teacher": teacher,
            "mean_loss": float(metrics.mean_loss),
            "final_loss": float(metrics.final_loss),
            "gradient_norm": float(metrics.gradient_norm),
            "diverged_tasks": diverged,
            "skipped_steps": int(metrics.skipped_steps),
        }

    def _mixture(self, epoch: int) -> Mixture | None:
        """Who acts in this epoch, in self-improving; None once it is the learned optimizer alone."""
        improving = self.technique.self_improving
        if improving is None or improving.learned_probability(epoch) == 1:
            return None
        return Mixture(self.mixed, jnp.asarray(improving.learned_probability(epoch), jnp.float32))

    def _validation(self, state: _State) -> tuple[_State, dict[str, Any]]:
        stage, length = state.curriculum.stage, state.curriculum.validation_length
        is_restored = stage > 0 and state.curriculum.periods < 0
        loss = self.validate(state.optimizer, self.keys.validation, length)
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
                self.run.weights, state.best, self.config.optimizer, provenance(self.config, state.best_epoch, row)
            )
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
        BlockingIOError: another training is at work in the folder.
        FileExistsError: the folder is not empty, and `resume` was not asked for.
        FileNotFoundError: there is nothing to resume, or no weights to begin with.
        ValueError: settings that make no sense, optimizees or weights that cannot be trained or are of another kind of
            optimizer, or a damaged run.
    """
    if resume == (config is not None):
        raise ValueError("train takes either a configuration or resume=True, which reads the run's own.")
    check_type("config", config, TrainingConfig | None)
    directory = RunDirectory(run)
    settings = directory.config() if config is None else config
    with jax.enable_x64(False):  # its settings say what a run computes, not who calls it
        return _train(directory, settings, resume, data_dir, report)


def _train(
    directory: RunDirectory,
    settings: TrainingConfig,
    resume: bool,
    data_dir: str | Path | None,
    report: Callable[[Event], None],
) -> LearnedOptimizer:
    untaught = create_learned(settings.optimizer, jax.random.key(0))
    check_floating(untaught, f"weight of {settings.optimizer}", _ARRAY_OR_CONSTANT)
    if not resume:
        directory.check_empty()  # before the time that data may take
        check_taken(settings)
    loaded = load_optimizees(expand(settings.optimizees), "train", data_dir)
    problems = {name: loaded[name] for name in expand(settings.on)}
    validated = {name: loaded[name] for name in expand(settings.validate_on or settings.on)}
    if not resume:
        for problem in loaded.values():  # what is amiss with one shows before there is a folder
            eqx.filter_eval_shape(rollout, untaught, problem, jax.random.key(0), 1)
        directory.create(settings, taken_weights(settings))
    trainer = _Trainer(directory, settings, problems, validated)
    with alone_in(directory.path, "training"):
        state = trainer.load() if resume else trainer.start
        saved = time.monotonic()
        try:
            while not trainer.finished(state):
                state, row = trainer.advance(state)
                report(trainer.event(state, row))
                if "validation_loss" in row or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    trainer.save(state)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            trainer.save(state)  # that after the last whole epoch or validation
            raise
        trainer.save(state)
        write_card(directory, settings, state.epoch, state.best_epoch, state.diverged)
    return load_weights(directory.weights)[0]
