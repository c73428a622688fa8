"""Tasks seen as functions of one vector of coordinates, for the objectives that go through blocks of these."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from ..floating import widened
from ..optimizers import CoordinatewiseOptimizer, LearnedOptimizer
from .augmentation import Constants
from .objective import Point, TaskObjective
from .parallel import COORDINATES, CoordinateShard
from .teachers import Teachers


class FlatTask:
    """A task of `objective` with its parameters flattened, leaf after leaf, in single precision or better."""

    def __init__(self, objective: TaskObjective, constants: Constants):
        self.objective = objective
        self.constants = constants

    def init(self, key: PRNGKeyArray) -> Float[Array, " coordinates"]:
        """A fresh start."""
        return widened(ravel_pytree(self.objective.task(self.constants).init(key))[0])

    def point(self, coordinates: Float[Array, " coordinates"], key: PRNGKeyArray, segment_key: PRNGKeyArray) -> Point:
        """As `TaskObjective.point`, with vectors."""
        point = self.objective.point(self.constants, unflatten(self.objective)(coordinates), key, segment_key)
        derivative, seen = (widened(ravel_pytree(part)[0]) for part in (point.derivative, point.seen))
        return Point(widened(point.loss), derivative, seen)


def unflatten(objective: TaskObjective) -> Callable[[Float[Array, " coordinates"]], PyTree]:
    """A function from one number per coordinate to parameters of its tasks."""
    shapes = _shapes(lambda key: objective.task(objective.draw(key)).init(key))
    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
    return lambda coordinates: unravel(coordinates.astype(flat.dtype))


class _OnVectors(eqx.Module):
    """An optimizer that is told the layout of parameters that were flattened."""

    optimizer: LearnedOptimizer
    unflatten: Callable[[Array], PyTree] = eqx.field(static=True)

    def init(self, params: Float[Array, " coordinates"]) -> PyTree:
        return self.optimizer.init(self.unflatten(params))

    def update(
        self, grads: Float[Array, " coordinates"], state: PyTree, params: Float[Array, " coordinates"]
    ) -> tuple[Float[Array, " coordinates"], PyTree]:
        updates, state = self.optimizer.update(self.unflatten(grads), state, self.unflatten(params))
        return widened(ravel_pytree(updates)[0]), state


def flat_teachers(objective: TaskObjective, teachers: Teachers) -> Teachers:
    """The same teachers, for flattened parameters; what treats all coordinates alike needs no layout."""

    def flat(teacher: Any) -> Any:
        needs_layout = isinstance(teacher, LearnedOptimizer) and not isinstance(teacher, CoordinatewiseOptimizer)
        return _OnVectors(teacher, unflatten(objective)) if needs_layout else teacher

    return Teachers(tuple(map(flat, teachers.optimizers)))


def start_flat(
    objective: TaskObjective, keys: Key[Array, " tasks"]
) -> tuple[Constants, Float[Array, "tasks coordinates"]]:
    """What stays the same throughout each task, and its fresh start."""
    constants = jax.vmap(objective.draw)(keys)
    return constants, jax.vmap(lambda constants, key: FlatTask(objective, constants).init(key))(constants, keys)


def flat_points(
    objective: TaskObjective,
    constants: Constants,
    params: Float[Array, "tasks coordinates"],
    keys: Key[Array, " tasks"],
    segment_keys: Key[Array, " tasks"],
) -> Point:
    """One point of every task."""
    return jax.vmap(lambda constants, *point: FlatTask(objective, constants).point(*point))(
        constants, params, keys, segment_keys
    )


def num_coordinates(objective: TaskObjective) -> int:
    """Of each task."""
    return _shapes(lambda key: FlatTask(objective, objective.draw(key)).init(key)).size


def _shapes(start: Callable[[PRNGKeyArray], PyTree]) -> PyTree:
    """Of what a function of a key returns."""
    return jax.eval_shape(start, jax.eval_shape(lambda: jax.random.key(0)))


def coordinate_shard(objective: TaskObjective) -> CoordinateShard:
    """How each task's coordinates are cut over the devices; inside `shard_map`."""
    return CoordinateShard(num_coordinates(objective), lax.axis_size(COORDINATES))
