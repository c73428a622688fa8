"""A task seen as a function of one vector of coordinates."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from .augmentation import Constants
from .objective import Point, TaskObjective


class FlatTask:
    """A task of `objective` with its parameters flattened, leaf after leaf."""

    def __init__(self, objective: TaskObjective, constants: Constants):
        self.objective = objective
        self.constants = constants

    def init(self, key: PRNGKeyArray) -> Float[Array, " coordinates"]:
        """A fresh start."""
        return ravel_pytree(self.objective.task(self.constants).init(key))[0]

    def point(self, coordinates: Float[Array, " coordinates"], key: PRNGKeyArray, segment_key: PRNGKeyArray) -> Point:
        """As `TaskObjective.point`, with vectors."""
        shapes = jax.eval_shape(self.objective.task(self.constants).init, key)
        _, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
        point = self.objective.point(self.constants, unravel(coordinates), key, segment_key)
        return Point(point.loss, ravel_pytree(point.derivative)[0], ravel_pytree(point.seen)[0])


def num_coordinates(objective: TaskObjective) -> int:
    """Of each task."""

    def start(key):
        return FlatTask(objective, objective.draw(key)).init(key)

    return jax.eval_shape(start, jax.eval_shape(lambda: jax.random.key(0))).size
