"""Aligned momentum: thirteen learned numbers that say how to step, and when to step more boldly or more carefully."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .learned import LearnedOptimizer, State
from .numerics import root, root_mean_square
from .tensors import Tensors

REFERENCE_SIZE = 1000.0
"""Coordinates of the tensor whose rate is the learned one itself."""
LOG_BOLDNESS_RANGE = -8.0, 1.0
"""Once the loss is 0, rounding agrees with itself, and boldness would grow without end."""
VANISHED, NEVER_THERE = 1e-5, 1e-15
"""Sizes of a coordinate's gradient, against all coordinates', between which it was there and is no more."""
ABSENT = 1e-2
"""Size of a bias's gradient, against what is usual in its tensor, below which its unit counts as dead."""
EPSILON = 1e-16
"""Added to what is divided by and may be 0."""
_START = {  # found by hand; docs/experiments.md says how
    "log_rate": math.log(0.042),
    "log_momentum_forgetting": math.log(0.1),
    "log_square_forgetting": math.log(0.1),
    "log_power": math.log(1.5),
    "log_size_exponent": math.log(0.5),
    "log_vector_factor": math.log(0.7),
    "log_gain": math.log(0.01),
    "log_target": math.log(0.025),
    "log_warmup": math.log(450.0),
    "log_floor": math.log(0.001),
    "log_revival": math.log(0.3),
    "log_share": math.log(0.1),
    "log_awakening": math.log(3.0),
}


class AlignedMomentumState(NamedTuple):
    """What aligned momentum remembers: two numbers a coordinate, as Adam, and three for the whole problem."""

    momentum: Float[Array, " coordinates"]
    mean_square: Float[Array, " coordinates"]
    log_boldness: Float[Array, ""]
    """How far alignment has raised or lowered all rates."""
    mean_size: Float[Array, ""]
    """Of the gradients so far: the mean of their root mean square over all coordinates."""
    step: Float[Array, ""]


class AlignedMomentum(LearnedOptimizer):
    """Normalized momentum, raised to a power, at a rate that follows how well new gradients agree with old ones.

    With m and v Adam's moments, m̂ and v̂ corrected for their start at 0, n the size of a tensor and A the root mean
    square of sqrt(v̂) over it, the update of its coordinates is

        -rate · (n / 1000)^(-size exponent) · e^b · min(t / warmup, 1) · sign(m̂) |m̂ / s|^power

    at step t = 1, 2, …, with

        s = sqrt(v̂ + (share · A)²) + F

    where F is floor · (the mean over all steps so far of g's root mean square over all coordinates), so that what is
    only rounding near zero loss moves nothing. A power above 1 takes back the steps of coordinates whose gradients are
    mostly noise. What is small for its tensor counts by its size: a class that answers to one image in a thousand gets
    gradients that are rare and small where the image is another's and rare and large where it is its own, and divided
    by their own size alone all would count the same. For vectors and scalars the factor by size is replaced by a
    learned one.

    Coordinates whose gradient has vanished, as those of a dead ReLU unit, are raised: with the same factors, and for
    the last one

        revival · e^min(-b, 0) · min(warmup / t, 1) · G / (G + F) · (1 + x / 1e-5)^-2 · x / (x + 1e-15)

    where G is the root mean square of sqrt(v̂) over all coordinates and x the ratio of sqrt(v̂) to it: only for a while
    after the gradient was last seen, more so early, when units die, and not at zero loss, where all gradients are
    rounding. In vectors and scalars it is

        awakening · e^min(-b, 0) · min(warmup / t, 1) · G / (G + F) · (1 + y / 0.01)^-2 · A / (A + 1e-15 G)

    with y = sqrt(v̂) / A, so that a bias that alone in its tensor has no gradient is raised, from the start. Where none
    has one, as in a tensor that is frozen, or all are rounding, as before batch normalization, they stay.

    b, the boldness, begins at 0, and every step after the first adds

        gain · (cos(g / s, m / s) - target)

    over all coordinates, with m from before the step: it grows while fresh gradients agree with the momentum, and
    shrinks when they are noise or the last steps went too far. It stays between -8 and 1. The thirteen numbers are
    positive; the weights are their logarithms. A gradient's scale makes no difference, nor does the layout of a tensor.
    """

    log_rate: Float[Array, ""]
    log_momentum_forgetting: Float[Array, ""]
    """1 - β1, and below 1 - β2."""
    log_square_forgetting: Float[Array, ""]
    log_power: Float[Array, ""]
    log_size_exponent: Float[Array, ""]
    log_vector_factor: Float[Array, ""]
    log_gain: Float[Array, ""]
    log_target: Float[Array, ""]
    log_warmup: Float[Array, ""]
    log_floor: Float[Array, ""]
    log_revival: Float[Array, ""]
    log_share: Float[Array, ""]
    log_awakening: Float[Array, ""]

    @staticmethod
    def create(key: PRNGKeyArray) -> "AlignedMomentum":
        """Numbers found by hand, each off by a random twentieth or so."""
        return AlignedMomentum(**start_near(key))

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> State:
        zeros = jnp.zeros(sum(leaf.size for leaf in jax.tree.leaves(params)), self.log_rate.dtype)
        nothing = jnp.zeros((), self.log_rate.dtype)
        return AlignedMomentumState(zeros, zeros, nothing, nothing, nothing)

    def _log_factors(self, tensors: Tensors) -> Float[Array, "1 tensors"]:
        """Of each tensor's rate, by its size."""
        exponent = jnp.exp(self.log_size_exponent)
        return jnp.stack(
            [
                -exponent * math.log(size / REFERENCE_SIZE) if rank > 1 else self.log_vector_factor
                for size, rank in zip(tensors.sizes, tensors.ranks, strict=True)
            ]
        )[None]

    def _log_warmup(self) -> Float[Array, ""]:
        return self.log_warmup

    def _raised(
        self,
        fading: Float[Array, ""],
        boldness: Float[Array, ""],
        size: Float[Array, " coordinates"],
        of_tensors: Float[Array, " tensors"],
        floor: Float[Array, ""],
        tensors: Tensors,
    ) -> Float[Array, " coordinates"]:
        """How far each coordinate is raised.

        `fading` is the logarithm of min(warmup / t, 1), `size` sqrt(v̂), `of_tensors` its root mean square over each.
        """
        whole = root_mean_square(size)
        raised = jnp.exp(self.log_revival + fading - jnp.maximum(boldness, 0.0)) * _vanished(size, whole, floor)
        whole = whole + EPSILON
        usual = of_tensors + NEVER_THERE * whole
        present = of_tensors / usual
        strength = jnp.exp(self.log_awakening + fading - jnp.maximum(boldness, 0.0)) * whole / (whole + floor)
        chosen, tensor = tensors.in_vectors()  # computed for all coordinates, it would take twice as long as all else
        in_vectors = strength * present[tensor] * (1 + size[chosen] / usual[tensor] / ABSENT) ** -2
        return raised.at[chosen].set(in_vectors, indices_are_sorted=True, unique_indices=True)

    def update(
        self,
        grads: PyTree,
        state: State,
        params: PyTree | None = None,
        *,
        value: Float[Array, ""] | None = None,
        **extra: Any,
    ) -> tuple[PyTree, State]:
        tensors = Tensors(grads)
        if not tensors.sizes:
            return grads, state
        flat, unravel = ravel_pytree(grads)
        moves, state = self._advance(flat.astype(self.log_rate.dtype), state, tensors)
        return unravel(moves.astype(flat.dtype)), state

    def _advance(
        self, gradient: Float[Array, " coordinates"], state: State, tensors: Tensors
    ) -> tuple[Float[Array, " coordinates"], State]:
        """The update of all coordinates, and the next state."""
        step = state.step + 1
        forget, forget_square = jnp.exp(self.log_momentum_forgetting), jnp.exp(self.log_square_forgetting)
        momentum = state.momentum + forget * (gradient - state.momentum)
        mean_square = state.mean_square + forget_square * (gradient**2 - state.mean_square)
        mean_size = state.mean_size + (root_mean_square(gradient) - state.mean_size) / step
        size = root(mean_square / (1 - (1 - forget_square) ** step))
        floor = jnp.exp(self.log_floor) * mean_size + EPSILON
        of_tensors = _of_tensors(size, tensors)
        share = jnp.exp(self.log_share) * tensors.spread(of_tensors[None])[0]
        scale = root(size**2 + share**2) + floor

        alignment = _cosine(gradient / scale, state.momentum / scale)
        change = jnp.exp(self.log_gain) * (alignment - jnp.exp(self.log_target))
        boldness = jnp.where(state.step > 0, state.log_boldness + change, 0.0)
        boldness = jnp.clip(boldness, *LOG_BOLDNESS_RANGE)

        direction = momentum / (1 - (1 - forget) ** step) / scale
        age = jnp.log(step) - self._log_warmup()
        warmth, fading = jnp.minimum(age, 0.0), -jnp.maximum(age, 0.0)
        rates = tensors.spread(jnp.exp(self.log_rate + boldness + warmth + self._log_factors(tensors)))[0]
        raised = self._raised(fading, boldness, size, of_tensors, floor, tensors)
        moves = rates * (raised - _signed_power(direction, jnp.exp(self.log_power)))
        return moves, AlignedMomentumState(momentum, mean_square, boldness, mean_size, step)


def start_near(key: PRNGKeyArray, **others: float) -> dict[str, Float[Array, ""]]:
    """The weights found by hand, `others` in place of some or added, each off by a random twentieth or so."""
    start = _START | others
    noise = 0.05 * jax.random.normal(key, (len(start),), jnp.float32)
    return {name: value + x for (name, value), x in zip(start.items(), noise, strict=True)}


def _of_tensors(size: Float[Array, " coordinates"], tensors: Tensors) -> Float[Array, " tensors"]:
    """The root mean square over each tensor."""
    return root(tensors.sum(size[None] ** 2)[0] / jnp.array(tensors.sizes, size.dtype))


def _vanished(size: Float[Array, " n"], whole: Float[Array, ""], floor: Float[Array, ""]) -> Float[Array, " n"]:
    """From 0 to 1: how far the gradient of each coordinate that had one is gone, while others are above the floor.

    `whole` is the root mean square of `size`.
    """
    ratio = size / (whole + EPSILON)
    return whole / (whole + floor) * (1 + ratio / VANISHED) ** -2 * ratio / (ratio + NEVER_THERE)


def _cosine(a: Float[Array, " n"], b: Float[Array, " n"]) -> Float[Array, ""]:
    """Of the angle between two vectors; 0 where one of them is 0."""
    return a @ b / (root(a @ a) * root(b @ b) + EPSILON)


def _signed_power(x: Float[Array, " n"], power: Float[Array, ""]) -> Float[Array, " n"]:
    """sign(x) |x|^power, with derivative 0 at 0."""
    size = jnp.abs(x)
    return jnp.where(size > 0, jnp.sign(x) * jnp.exp(power * jnp.log(jnp.where(size > 0, size, 1.0))), 0.0)
