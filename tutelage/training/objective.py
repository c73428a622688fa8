"""Meta-objectives: what the learned optimizer's weights are moved by, one segment at a time.

A segment is `SEGMENT_LENGTH` steps of an optimizee's training. Parameters and optimizer state are carried from
segment to segment as numbers, without gradient (truncation).
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Key, PyTree

from ..optimizees import Optimizee
from ..optimizers import LearnedOptimizer
from .flat import FlatOptimizee
from .parallel import COORDINATES, TASKS, CoordinateShard

SEGMENT_LENGTH = 20

Carry = Any


class Segment(NamedTuple):
    """What a segment gave, for the tasks on this device.

    `gradient` is the mean over the tasks of all devices that stayed finite; a task that diverged (inf or nan in
    a loss or gradient) counts for nothing.
    """

    losses: Float[Array, "points tasks"]
    gradient: PyTree
    finite: Bool[Array, " tasks"]
    carry: Carry


class MetaObjective(eqx.Module):
    """A way to get a gradient for the optimizer's weights from several tasks at once.

    A task is one optimizee from a fresh start. The methods are called inside `shard_map` over `training_mesh`.
    """

    optimizee: Optimizee

    @abstractmethod
    def start(self, optimizer: LearnedOptimizer, keys: Key[Array, " tasks"]) -> Carry:
        """Fresh tasks, one per key."""

    @abstractmethod
    def segment(self, optimizer: LearnedOptimizer, carry: Carry, keys: Key[Array, " tasks"]) -> Segment:
        """The next segment of every task; one key per task."""

    def coordinates(self) -> tuple[FlatOptimizee, CoordinateShard]:
        """The optimizee as a vector of coordinates, and this device's share of them."""
        flat = FlatOptimizee(self.optimizee)
        return flat, CoordinateShard(flat.num_coordinates, lax.axis_size(COORDINATES))


def point_keys(keys: Key[Array, " tasks"]) -> Key[Array, "points tasks"]:
    """From one key per task, keys [points, tasks] for the batches of a segment's steps and its end."""
    return jax.vmap(lambda key: jax.random.split(key, SEGMENT_LENGTH + 1), out_axes=1)(keys)


def finite_tasks(*arrays: Float[Array, "_ tasks ..."]) -> Bool[Array, " tasks"]:
    """For each task, whether every number is finite, on all devices that share it."""
    finite = jnp.stack([jnp.isfinite(x).all(axis=(0, *range(2, x.ndim))) for x in arrays]).all(axis=0)
    return lax.pmin(finite.astype(jnp.int32), COORDINATES).astype(bool)


def mean_over_tasks(total: PyTree, finite: Bool[Array, " tasks"], axes: tuple[str, ...]) -> PyTree:
    """Sum `total` over the devices along `axes` and divide by the number of finite tasks."""
    count = jnp.maximum(lax.psum(finite.sum(), TASKS), 1)
    return jax.tree.map(lambda x: lax.psum(x, axes) / count, total)
