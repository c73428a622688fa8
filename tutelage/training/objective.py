"""Meta-objectives: what the learned optimizer's weights are moved by, one segment at a time.

A segment is some steps (20 in the paper) of an optimizee's training. Parameters and optimizer state are carried from
segment to segment as numbers, without gradient (truncation).
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, PyTree

from ..optimizees import Optimizee
from ..optimizers import LearnedOptimizer
from .augmentation import Augmentation, Constants
from .parallel import COORDINATES, TASKS
from .teachers import Teachers

SEGMENT_LENGTH = 20
LOG_EPSILON = 1e-6

Carry = Any


class Segment(NamedTuple):
    """What a segment gave, for the tasks on this device.

    `gradient` is the mean over the tasks of all devices that stayed finite; a task that diverged (inf or nan in
    a loss or gradient) counts for nothing. Points that a shorter segment does not reach have the loss of the last one.
    """

    losses: Float[Array, "points tasks"]
    gradient: PyTree
    finite: Bool[Array, " tasks"]
    carry: Carry


class Point(NamedTuple):
    """The objective at one point of a task, its derivative, and the gradient that the optimizer sees."""

    loss: Float[Array, ""]
    derivative: PyTree
    seen: PyTree


@dataclass(frozen=True)
class ObjectiveSettings:
    """What the meta-objective is made of."""

    log_objective: bool = False
    """Mean of log(f_t / (f_0 + ε) + ε), f_0 the initial loss (L2O-Scale), instead of the sum of f_t."""
    log_epsilon: float = LOG_EPSILON
    objective_batches: int = 0
    """With n > 0, f_t is the mean over n batches drawn once a segment, and gradients are on one of these (L2O-Scale as
    released: 10,000 images); with 0 each point has a batch of its own for both."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    segment_length: int = SEGMENT_LENGTH
    """Steps between two steps of the meta-optimizer, at most."""


def relative_losses(losses: Float[Array, " *n"], initial: Float[Array, " *#n"], epsilon: float) -> Float[Array, " *n"]:
    """f_t / (f_0 + ε) + ε, of which logarithms are taken."""
    return losses / (initial + epsilon) + epsilon


class Mixture(eqx.Module):
    """Self-improving: at every step the update comes from the learned optimizer or from one of the teachers."""

    teachers: Teachers
    learned_probability: Float[Array, ""]

    def choose(self, key: PRNGKeyArray) -> Int[Array, ""]:
        """-1 for the learned optimizer, else the number of the teacher."""
        learned_key, teacher_key = jax.random.split(jax.random.fold_in(key, 4))
        teacher = jax.random.randint(teacher_key, (), 0, len(self.teachers.optimizers))
        return jnp.where(jax.random.uniform(learned_key) < self.learned_probability, -1, teacher)


class MetaObjective(eqx.Module):
    """A way to get a gradient for the optimizer's weights from several tasks at once.

    A task is one optimizee from a fresh start. The methods are called inside `shard_map` over `training_mesh`.
    """

    @abstractmethod
    def start(self, optimizer: LearnedOptimizer, keys: Key[Array, " tasks"]) -> Carry:
        """Fresh tasks, one per key."""

    @abstractmethod
    def segment(self, optimizer: LearnedOptimizer, carry: Carry, keys: Key[Array, " tasks"]) -> Segment:
        """The next segment of every task; one key per task."""


class TaskObjective(MetaObjective):
    """What the objectives have in common that evaluate an optimizee themselves."""

    optimizee: Optimizee
    settings: ObjectiveSettings = eqx.field(static=True, default=ObjectiveSettings())
    active_steps: Int[Array, ""] | None = None
    """Steps of each segment, where these are fewer than the settings' and known only at run time."""

    def draw(self, key: PRNGKeyArray) -> Constants:
        """What stays the same throughout the task with this key."""
        return self.settings.augmentation.draw(self.optimizee, key)

    def task(self, constants: Constants) -> Optimizee:
        """One task's optimizee."""
        return self.settings.augmentation.apply(self.optimizee, constants)

    @property
    def sees_derivative(self) -> bool:
        """Whether what the optimizer sees is the objective's own derivative."""
        return self.settings.objective_batches == 0 and type(self.optimizee).observe is Optimizee.observe

    def differentiable_point(
        self, constants: Constants, params: PyTree, key: PRNGKeyArray, segment_key: PRNGKeyArray
    ) -> tuple[Callable[[PyTree], Float[Array, ""]], Callable[[PyTree], tuple[Float[Array, ""], PyTree]]]:
        """Two functions of the parameters: the objective, and what the optimizer is told (loss, gradient)."""
        task, batches = self.task(constants), self.settings.objective_batches
        segment_keys = jax.random.split(segment_key, batches) if batches else None
        batch = task.sample(key if segment_keys is None else segment_keys[jax.random.randint(key, (), 0, batches)])

        def told(params):
            loss, gradient = jax.value_and_grad(task.loss)(params, batch)
            return loss, task.observe(gradient, batch)

        def objective(params):
            if segment_keys is None:
                return task.loss(params, batch)
            return jnp.mean(jax.vmap(lambda key: task.loss(params, task.sample(key)))(segment_keys))

        return objective, told

    def point(self, constants: Constants, params: PyTree, key: PRNGKeyArray, segment_key: PRNGKeyArray) -> Point:
        """One point of a task; `key` draws its batch, `segment_key` those of the segment's objective."""
        objective, told = self.differentiable_point(constants, params, key, segment_key)
        if self.sees_derivative:
            loss, gradient = told(params)
            return Point(loss, gradient, gradient)
        return Point(*jax.value_and_grad(objective)(params), told(params)[1])

    def reached(self) -> Bool[Array, " points"]:
        """Which points of a segment there are: those before its active steps and the last, after them."""
        points = jnp.arange(self.settings.segment_length + 1)
        if self.active_steps is None:
            return points >= 0
        return (points < self.active_steps) | (points == self.settings.segment_length)

    def meta_loss(self, losses: Float[Array, " points"], initial: Float[Array, ""]) -> Float[Array, ""]:
        """Of one task's segment, from its losses and the task's initial loss."""
        reached = self.reached()
        if not self.settings.log_objective:
            return jnp.sum(jnp.where(reached, losses, 0.0))
        logs = jnp.log(relative_losses(losses, initial, self.settings.log_epsilon))
        return jnp.sum(jnp.where(reached, logs, 0.0)) / jnp.sum(reached)

    def scan_steps(self, step: Callable, carry: PyTree, keys: Key[Array, "steps ..."]) -> tuple[PyTree, PyTree]:
        """Like `lax.scan` over the keys, but steps that are not active change nothing and give zeros."""
        active = self.active_steps
        if active is None:
            return lax.scan(step, carry, keys)

        def maybe(carry, numbered):
            number, key = numbered

            def skip(carry, key):
                outputs = jax.eval_shape(step, carry, key)[1]
                return carry, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), outputs)

            return lax.cond(number < active, step, skip, carry, key)

        return lax.scan(maybe, carry, (jnp.arange(len(keys)), keys))

    def point_keys(self, keys: Key[Array, " tasks"]) -> Key[Array, "points tasks"]:
        """From one key per task, keys [points, tasks] for the batches of a segment's steps and its end."""
        points = self.settings.segment_length + 1
        return jax.vmap(lambda key: jax.random.split(key, points), out_axes=1)(keys)


def begin(is_first: Bool[Array, ""], start: PyTree, state: PyTree) -> PyTree:
    """`start` in the first segment, so that it gets a gradient where it is learned, and `state` in later ones."""
    return jax.tree.map(lambda new, old: jnp.where(is_first, new, old), start, state)


def finite_tasks(*arrays: Float[Array, "_ tasks ..."]) -> Bool[Array, " tasks"]:
    """For each task, whether every number is finite, on all devices that share it."""
    finite = jnp.stack([jnp.isfinite(x).all(axis=(0, *range(2, x.ndim))) for x in arrays]).all(axis=0)
    return lax.pmin(finite.astype(jnp.int32), COORDINATES).astype(bool)


def mean_over_tasks(total: PyTree, finite: Bool[Array, " tasks"], axes: tuple[str, ...]) -> PyTree:
    """Sum `total` over the devices along `axes` and divide by the number of finite tasks."""
    count = jnp.maximum(lax.psum(finite.sum(), TASKS), 1)
    return jax.tree.map(lambda x: lax.psum(x, axes) / count, total)


def sum_finite(gradients: PyTree, finite: Bool[Array, " tasks"]) -> PyTree:
    """The sum over the finite tasks of gradients that lead with the axis of tasks."""

    def total(gradient):
        kept = finite.reshape(-1, *(1,) * (gradient.ndim - 1))
        return jnp.where(kept, gradient, 0.0).sum(axis=0)

    return jax.tree.map(total, gradients)
