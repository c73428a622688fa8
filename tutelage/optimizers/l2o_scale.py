"""L2O-Scale, the hierarchical learned optimizer of Wichrowska et al. (2017)."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .blocks import map_blocks
from .gru import GRU
from .learned import KEPT, LearnedOptimizer
from .numerics import root, straight_through_clip
from .tensors import Tensors

PARAMETER_UNITS = 10
TENSOR_UNITS = 20
GLOBAL_UNITS = 20
SCALES = 4
FEATURES = 3 * SCALES
# Log learning rates start uniform between these, per coordinate, plus one such number per tensor.
LOG_LEARNING_RATE_RANGE = (math.log(1e-6) / 2, math.log(1e-2) / 2)
_LOG_STEP_LIMIT = 33.0
_EPSILON = 1e-16
_SQUARE_EPSILON = 1e-12


class Affine(eqx.Module):
    """W x + b, features first."""

    weight: Float[Array, "outputs inputs"]
    bias: Float[Array, " outputs"]

    @staticmethod
    def create(key: PRNGKeyArray, inputs: int, outputs: int) -> "Affine":
        """Normal with σ = 0.5 / sqrt(inputs), bias 0."""
        weight = 0.5 / inputs**0.5 * jax.random.normal(key, (outputs, inputs), jnp.float32)
        return Affine(weight, jnp.zeros(outputs, jnp.float32))

    def __call__(self, x: Float[Array, "inputs rows"]) -> Float[Array, "outputs rows"]:
        return self.weight @ x + self.bias[:, None]


class Readout(eqx.Module):
    """w · h + b for every coordinate."""

    weight: Float[Array, " units"]
    bias: Float[Array, ""]

    def __call__(self, hidden: Float[Array, "units coordinates"]) -> Float[Array, " coordinates"]:
        return self.weight @ hidden + self.bias


class Coordinates(NamedTuple):
    """What L2O-Scale remembers of each coordinate."""

    accumulators: Float[Array, "scales coordinates"]
    mean_squares: Float[Array, "scales coordinates"]
    input_decay: Float[Array, " coordinates"]
    scale_decay: Float[Array, " coordinates"]
    log_learning_rate: Float[Array, " coordinates"]
    parameter: Float[Array, "parameter_units coordinates"]


class L2OScaleState(NamedTuple):
    """What L2O-Scale remembers of each coordinate, each tensor, and the whole problem."""

    coordinates: Coordinates
    tensor: Float[Array, "tensor_units tensors"]
    problem: Float[Array, "global_units 1"]


class L2OScale(LearnedOptimizer):
    """A GRU of 10 units per coordinate, one of 20 per tensor and one of 20 for the whole problem.

    A tensor's GRU sees the means over its coordinates, the global one those over tensors; from above comes a bias.
    Gradients enter at four time scales, scaled by their running root mean square, and every coordinate has a
    learning rate of its own that the GRU changes. The updates of all tensors are computed as one batch.

    Source: "Learned Optimizers that Scale and Generalize" (2017). With `global_sees_last_tensor` the global GRU
    is fed the state of the last tensor alone, as the authors' program does, instead of the mean over tensors.
    """

    parameter_gru: GRU
    tensor_gru: GRU
    global_gru: GRU
    tensor_to_parameter: Affine
    global_to_parameter: Affine
    global_to_tensor: Affine
    direction_weight: Float[Array, " parameter_units"]
    shortcut_weight: Float[Array, " scales"]
    scale_decay: Readout
    input_decay: Readout
    learning_rate: Readout
    learning_rate_momentum: Float[Array, ""]
    step_size_offset: Float[Array, ""]
    parameter_start: Float[Array, " parameter_units"]
    tensor_start: Float[Array, " tensor_units"]
    global_start: Float[Array, " global_units"]
    global_sees_last_tensor: bool = eqx.field(static=True, default=False)

    @staticmethod
    def create(key: PRNGKeyArray, global_sees_last_tensor: bool = False) -> "L2OScale":
        """Random initial weights."""
        keys = iter(jax.random.split(key, 13))

        def normal(mean: float, scale: float, size: int) -> Array:
            return mean + scale * jax.random.normal(next(keys), (size,), jnp.float32)

        def uniform(size: int) -> Array:
            return jax.random.uniform(next(keys), (size,), jnp.float32, -1.0, 1.0)

        def readout_scale() -> float:
            return 0.5 / PARAMETER_UNITS**0.5

        return L2OScale(
            parameter_gru=GRU.create(next(keys), FEATURES, PARAMETER_UNITS),
            tensor_gru=GRU.create(next(keys), FEATURES + PARAMETER_UNITS, TENSOR_UNITS),
            global_gru=GRU.create(next(keys), TENSOR_UNITS, GLOBAL_UNITS),
            tensor_to_parameter=Affine.create(next(keys), TENSOR_UNITS, 3 * PARAMETER_UNITS),
            global_to_parameter=Affine.create(next(keys), GLOBAL_UNITS, 3 * PARAMETER_UNITS),
            global_to_tensor=Affine.create(next(keys), GLOBAL_UNITS, 3 * TENSOR_UNITS),
            direction_weight=normal(0.0, readout_scale(), PARAMETER_UNITS),
            shortcut_weight=normal(1 / SCALES, 0.1 / SCALES**0.5, SCALES),
            scale_decay=Readout(normal(0.0, readout_scale(), PARAMETER_UNITS), jnp.float32(3.2)),
            input_decay=Readout(normal(0.0, readout_scale(), PARAMETER_UNITS), jnp.float32(2.2)),
            learning_rate=Readout(jnp.zeros(PARAMETER_UNITS, jnp.float32), jnp.float32(0.0)),
            learning_rate_momentum=jnp.float32(3.2),
            step_size_offset=jnp.float32(-1.0),
            parameter_start=uniform(PARAMETER_UNITS),
            tensor_start=uniform(TENSOR_UNITS),
            global_start=uniform(GLOBAL_UNITS),
            global_sees_last_tensor=global_sees_last_tensor,
        )

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> L2OScaleState:
        """The RNN states at their learned start, everything else at 0, learning rates drawn with `key`."""
        tensors = Tensors(params)
        total, dtype = sum(tensors.sizes), self.parameter_start.dtype
        coordinate_key, tensor_key = jax.random.split(jax.random.key(0) if key is None else key)
        low, high = LOG_LEARNING_RATE_RANGE
        per_tensor = jax.random.uniform(tensor_key, (1, len(tensors.sizes)), dtype, low, high)
        log_learning_rate = jax.random.uniform(coordinate_key, (total,), dtype, low, high)
        if tensors.sizes:
            log_learning_rate = log_learning_rate + tensors.spread(per_tensor)[0]
        zeros = jnp.zeros((SCALES, total), dtype)
        coordinates = Coordinates(
            zeros,
            zeros,
            zeros[0],
            zeros[0],
            log_learning_rate,
            jnp.repeat(self.parameter_start[:, None], total, axis=1),
        )
        tensor = jnp.repeat(self.tensor_start[:, None], len(tensors.sizes), axis=1)
        return L2OScaleState(coordinates, tensor, self.global_start[:, None])

    def update(
        self,
        grads: PyTree,
        state: L2OScaleState,
        params: PyTree | None = None,
        *,
        value: Float[Array, ""] | None = None,
        **extra: Any,
    ) -> tuple[PyTree, L2OScaleState]:
        tensors = Tensors(grads)
        if not tensors.sizes:
            return grads, state
        flat, unravel = ravel_pytree(grads)
        log_learning_rate = state.coordinates.log_learning_rate
        mean_log_learning_rate = log_learning_rate.mean()
        (updates, coordinates), means = map_blocks(
            _advance,
            (self, mean_log_learning_rate),
            tensors,
            (flat.astype(log_learning_rate.dtype), state.coordinates),
            self.tensor_to_parameter(state.tensor) + self.global_to_parameter(state.problem),
        )
        updates, means = checkpoint_name((updates, means), KEPT)
        updates = updates * tensors.spread(1 / jnp.sqrt(means[-1:] + _EPSILON))[0]

        tensor = self.tensor_gru(means[:-1], state.tensor, self.global_to_tensor(state.problem))
        global_input = tensor[:, -1:] if self.global_sees_last_tensor else tensor.mean(axis=1, keepdims=True)
        no_bias = jnp.zeros((3 * GLOBAL_UNITS, 1), tensor.dtype)
        problem = self.global_gru(global_input, state.problem, no_bias)
        return unravel(updates.astype(flat.dtype)), L2OScaleState(coordinates, tensor, problem)


def _history(
    gradients: Float[Array, " coordinates"], own: Coordinates
) -> tuple[Float[Array, "scales coordinates"], Coordinates]:
    """The gradients of four time scales, each scaled by its root mean square."""
    decays = [own.input_decay]
    for _ in range(SCALES - 1):
        decays.append(root(decays[-1]))
    decay = jnp.stack(decays)
    accumulators = gradients + decay * (own.accumulators - gradients)
    # zero only before the first step, which has no history to weigh
    scale_decay = jnp.where(own.mean_squares == 0, 0.0, own.scale_decay)
    squares = accumulators**2 + _SQUARE_EPSILON
    mean_squares = squares + scale_decay * (own.mean_squares - squares)
    scaled = jnp.arcsinh(accumulators / jnp.sqrt(mean_squares + _EPSILON))
    return scaled, own._replace(accumulators=accumulators, mean_squares=mean_squares)


def _advance(
    weights: tuple[L2OScale, Float[Array, ""]],
    coordinates: tuple[Float[Array, " coordinates"], Coordinates],
    from_above: Float[Array, "three_parameter_units _"],
) -> tuple[tuple[Float[Array, " coordinates"], Coordinates], Float[Array, "averaged coordinates"]]:
    """A step of some coordinates.

    Args:
        weights: the optimizer, and the mean log learning rate of the whole problem.
        coordinates: their gradients, and what is remembered of them.

    Returns:
        Their updates, not yet divided by the RMS of their tensor's direction; what they remember; and what is to be
        averaged over each tensor: hidden units, features and the square of the direction.
    """
    optimizer, mean_log_learning_rate = weights
    gradients, own = coordinates
    scaled, own = _history(gradients, own)
    log_squares = jnp.log(own.mean_squares + _EPSILON)
    features = jnp.concatenate(
        [
            scaled,
            scaled[:-1] * scaled[1:],
            log_squares - log_squares.mean(axis=0),
            (own.log_learning_rate - mean_log_learning_rate)[None],
        ]
    )
    hidden = optimizer.parameter_gru(features, own.parameter, from_above)
    direction = optimizer.direction_weight @ hidden + optimizer.shortcut_weight @ scaled
    log_step = straight_through_clip(
        own.log_learning_rate + optimizer.learning_rate(hidden), -_LOG_STEP_LIMIT, _LOG_STEP_LIMIT
    )
    updates = -jnp.exp(log_step + optimizer.step_size_offset) * direction
    momentum = jax.nn.sigmoid(optimizer.learning_rate_momentum)
    own = own._replace(
        input_decay=jax.nn.sigmoid(optimizer.input_decay(hidden)),
        scale_decay=jax.nn.sigmoid(optimizer.scale_decay(hidden)),
        log_learning_rate=log_step + momentum * (own.log_learning_rate - log_step),
        parameter=hidden,
    )
    return (updates, own), jnp.concatenate([hidden, features, (direction**2)[None]])
