"""Tasks seen as functions of one vector of coordinates, for the objectives that go through blocks of these."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PRNGKeyArray

from ..floating import widened
from .augmentation import Constants
from .objective import Point, TaskObjective
from .parallel import COORDINATES, CoordinateShard


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
        shapes = jax.eval_shape(self.objective.task(self.constants).init, key)
        flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
        params = unravel(coordinates.astype(flat.dtype))
        point = self.objective.point(self.constants, params, key, segment_key)
        derivative, seen = (widened(ravel_pytree(part)[0]) for part in (point.derivative, point.seen))
        return Point(widened(point.loss), derivative, seen)


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

    def start(key):
        return FlatTask(objective, objective.draw(key)).init(key)

    return jax.eval_shape(start, jax.eval_shape(lambda: jax.random.key(0))).size


def coordinate_shard(objective: TaskObjective) -> CoordinateShard:
    """How each task's coordinates are cut over the devices; inside `shard_map`."""
    return CoordinateShard(num_coordinates(objective), lax.axis_size(COORDINATES))
