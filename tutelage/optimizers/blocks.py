"""Working through the coordinates of tensors block by block."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PyTree

from .tensors import Stretches

# Coordinates in a block. On a CPU what a step computes for a block should stay in cache.
BLOCK_SIZE_CPU = 8192

Function = Callable[[PyTree, PyTree, Float[Array, "features _"]], tuple[PyTree, Float[Array, "averaged _"]]]


def map_blocks(
    function: Function,
    weights: PyTree,
    tensors: Stretches,
    coordinates: PyTree,
    of_tensors: Float[Array, "features tensors"],
) -> tuple[PyTree, Float[Array, "averaged tensors"]]:
    """`function` of all coordinates: on a CPU block by block, elsewhere of all at once.

    A block lies within one tensor; what the blocks leave over of all tensors is one more batch. The backward pass
    computes each block again, so that of all that `function` computes only its results are kept.

    Args:
        function: takes the weights, arrays of some coordinates and the features of the tensors that these belong to (a
            column for each, or one for all); gives arrays of the coordinates, and features to be averaged over tensors.
        weights: arrays alone, as are the coordinates, which end with the axis of coordinates.

    Returns:
        The arrays of all coordinates, and the means over each tensor.
    """
    if jax.default_backend() != "cpu" or max(tensors.sizes) < BLOCK_SIZE_CPU:
        results, averaged = function(weights, coordinates, tensors.spread(of_tensors))
        sums = tensors.sum(averaged)
    else:
        both: Any = _blockwise(function, _Division(tensors.sizes), weights, coordinates, of_tensors)
        results, sums = both
    return results, sums / np.array(tensors.sizes, np.float32)


class _Division(NamedTuple):
    """How tensors of these sizes are divided into blocks, and what these leave over."""

    sizes: tuple[int, ...]

    @property
    def tensors(self) -> Stretches:
        return Stretches(self.sizes)

    @property
    def left(self) -> Stretches:
        return Stretches(tuple(size % BLOCK_SIZE_CPU for size in self.sizes))

    @property
    def blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each begins, and which tensor it belongs to."""
        pairs = [
            (start + at, tensor)
            for tensor, (start, size) in enumerate(zip(self.tensors.starts, self.sizes, strict=True))
            for at in range(0, size - size % BLOCK_SIZE_CPU, BLOCK_SIZE_CPU)
        ]
        starts, owners = np.array(pairs, np.int32).T
        return starts, owners

    def gather_left(self, x: Float[Array, "*features coordinates"]) -> Float[Array, "*features left"]:
        """What is left over, one tensor's after the other's."""
        ends = np.add(self.tensors.starts, self.sizes)
        return jnp.concatenate([x[..., end - n : end] for end, n in zip(ends, self.left.sizes, strict=True)], axis=-1)

    def put_left(
        self, x: Float[Array, "*features coordinates"], left: Float[Array, "*features left"]
    ) -> Float[Array, "*features coordinates"]:
        """The inverse."""
        ends = np.add(self.tensors.starts, self.sizes)
        for end, start, n in zip(ends, self.left.starts, self.left.sizes, strict=True):
            x = _put(x, left[..., start : start + n], int(end) - n)
            x = lax.optimization_barrier(x)  # else XLA makes all of them one pass over x, with a test per number
        return x


def _take(x, start):
    return lax.dynamic_slice_in_dim(x, start, BLOCK_SIZE_CPU, axis=-1)


def _put(x, block, start):
    return lax.dynamic_update_slice_in_dim(x, block, start, axis=-1)


def _column(x, tensor):
    return lax.dynamic_slice_in_dim(x, tensor, 1, axis=-1)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _blockwise(function: Function, division: _Division, weights: PyTree, coordinates: PyTree, of_tensors: Any) -> Any:
    left = jax.tree.map(division.gather_left, coordinates)
    results_left, averaged = function(weights, left, division.left.spread(of_tensors))
    sums = division.left.sum(averaged)
    total = sum(division.sizes)
    results = jax.tree.map(lambda x: jnp.zeros((*x.shape[:-1], total), x.dtype), results_left)

    def step(carry, block):
        results, sums = carry
        start, owner = block
        own = jax.tree.map(lambda x: _take(x, start), coordinates)
        made, averaged = function(weights, own, _column(of_tensors, owner))
        results = jax.tree.map(lambda x, block: _put(x, block, start), results, made)
        return (results, sums.at[:, owner].add(averaged.sum(axis=1))), None

    (results, sums), _ = lax.scan(step, (results, sums), division.blocks)
    return jax.tree.map(division.put_left, results, results_left), sums


def _forward(function, division, weights, coordinates, of_tensors):
    return _blockwise(function, division, weights, coordinates, of_tensors), (weights, coordinates, of_tensors)


def _backward(function, division, saved, cotangents):
    weights, coordinates, of_tensors = saved
    of_results, of_sums = cotangents

    def pull(own, column, of_made, of_averaged):
        (_, averaged), back = jax.vjp(function, weights, own, column)
        return back((of_made, jnp.broadcast_to(of_averaged, averaged.shape)))

    left, of_left = (jax.tree.map(division.gather_left, x) for x in (coordinates, of_results))
    of_weights, of_own_left, of_spread = pull(
        left, division.left.spread(of_tensors), of_left, division.left.spread(of_sums)
    )
    of_columns = division.left.sum(of_spread)

    def step(carry, block):
        of_weights, of_coordinates, of_columns = carry
        start, owner = block
        own, of_made = (jax.tree.map(lambda x: _take(x, start), x) for x in (coordinates, of_results))
        more, of_own, of_column = pull(own, _column(of_tensors, owner), of_made, _column(of_sums, owner))
        of_weights = jax.tree.map(jnp.add, of_weights, more)
        of_coordinates = jax.tree.map(lambda x, block: _put(x, block, start), of_coordinates, of_own)
        return (of_weights, of_coordinates, of_columns.at[:, owner].add(of_column[:, 0])), None

    nothing = jax.tree.map(jnp.zeros_like, coordinates)
    (of_weights, of_coordinates, of_columns), _ = lax.scan(step, (of_weights, nothing, of_columns), division.blocks)
    return of_weights, jax.tree.map(division.put_left, of_coordinates, of_own_left), of_columns


_blockwise.defvjp(_forward, _backward)
