"""The gradient of a coordinatewise rule on recorded gradients, computed block by block.

Given the gradients that it receives, a coordinatewise optimizer treats coordinates independently. So its updates
can be computed again for a block of coordinates at a time, and differentiated there: activations stay in cache
and memory does not grow with the number of coordinates. Both techniques need just this: the meta-gradient of an
unroll is the gradient of Σ updates · cotangents, imitation that of Σ (updates - teacher's updates)².
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from ..optimizers import CoordinatewiseOptimizer
from .objective import begin

# Coordinates in a block. On a CPU the activations of a block should stay in cache; other devices want long rows.
BLOCK_SIZE_CPU = 256
BLOCK_SIZE_ACCELERATOR = 1 << 18

Objective = Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]]


def block_size(num_coordinates: int) -> int:
    """Block size that wastes least padding, near what suits the backend."""
    limit = BLOCK_SIZE_CPU if jax.default_backend() == "cpu" else BLOCK_SIZE_ACCELERATOR
    blocks = -(-num_coordinates // limit)
    per_block = -(-num_coordinates // blocks)
    return -(-per_block // 16) * 16


def replay(
    optimizer: CoordinatewiseOptimizer, state: PyTree, gradients: Float[Array, "steps coordinates"]
) -> tuple[Float[Array, "steps coordinates"], PyTree]:
    """The updates that `optimizer` makes on the given gradients, and its final state."""

    def step(state, gradient):
        updates, state = optimizer.step(gradient, state)
        return state, updates

    state, updates = lax.scan(step, state, gradients)
    return updates, state


def replay_gradient(
    optimizer: CoordinatewiseOptimizer,
    state: PyTree,
    is_first: Bool[Array, ""],
    gradients: Float[Array, "steps coordinates"],
    targets: Float[Array, "steps coordinates"],
    weights: Float[Array, " coordinates"],
    objective: Objective,
) -> tuple[Float[Array, ""], PyTree, PyTree]:
    """Value and gradient of Σ weights · objective(updates, targets) with respect to the optimizer's weights.

    Args:
        state: the optimizer's state before the first gradient; every leaf ends with the axis of coordinates.
        is_first: whether it is the initial state, which may depend on the optimizer's weights.
        weights: one per coordinate; 0 leaves a coordinate out.
        objective: elementwise.

    Returns:
        The value, its gradient in the structure of the optimizer, and the state after the last gradient.
    """
    total = weights.shape[0]
    size = block_size(total)
    num_blocks = -(-total // size)

    def cut(x):  # [..., coordinates] -> [blocks, ..., size]
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, num_blocks * size - total)])
        return jnp.moveaxis(padded.reshape(*x.shape[:-1], num_blocks, size), -2, 0)

    def join(x):
        return jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)[..., :total]

    trainable, fixed = eqx.partition(optimizer, eqx.is_inexact_array)

    def block_value(trainable, state, gradients, targets, weights):
        optimizer = eqx.combine(trainable, fixed)
        updates, state = replay(optimizer, begin(is_first, optimizer.init_coordinates(size), state), gradients)
        return jnp.sum(weights * objective(updates, targets)), state

    def body(totals, block):
        (value, state), gradient = jax.value_and_grad(block_value, has_aux=True)(trainable, *block)
        return jax.tree.map(jnp.add, totals, (value, gradient)), state

    zero = (jnp.zeros((), weights.dtype), jax.tree.map(jnp.zeros_like, trainable))
    blocks = jax.tree.map(cut, (state, gradients, targets, weights))
    (value, gradient), states = lax.scan(body, zero, blocks)
    return value, gradient, jax.tree.map(join, states)
