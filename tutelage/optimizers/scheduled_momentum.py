"""Aligned momentum for a number of steps that is known, and for networks whose units die."""

import math
from dataclasses import replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .aligned_momentum import EPSILON, NEVER_THERE, AlignedMomentum, AlignedMomentumState, start_near
from .numerics import root, root_mean_square
from .tensors import Tensors

LONGEST_WARMUP = 0.3
"""As a share of the steps: in a short run rates are not to grow until they fall again."""
ABSENT = 1e-2
"""Size of a bias's gradient, against what is usual in its tensor, below which its unit counts as dead."""
_START = {  # that the schedule and tempering make differ; found by hand, docs/experiments.md says how
    "log_rate": math.log(0.063),
    "log_warmup": math.log(1350.0),
    "log_gain": math.log(0.003),
    "log_floor": math.log(0.00003),
    "log_share": math.log(0.1),
    "log_awakening": math.log(3.0),
}


class ScheduledMomentum(AlignedMomentum):
    """Aligned momentum on a schedule, which keeps small what is small for its tensor, and raises biases of dead units.

    Its updates are multiplied with 1 - (t - 1) / `num_steps` at step t = 1, 2, …, and its warmup takes 0.3 `num_steps`
    at most. After `num_steps` it stands still. Which number of steps to follow is not learned.

    It has two numbers more. With A the root mean square of sqrt(v̂) over the tensor of a coordinate, momentum is divided
    by

        s = sqrt(v̂ + (share · A)²) + F

    A class that answers to one image in a thousand gets gradients that are rare and small where the image is another's
    and rare and large where it is its own. Divided by their own size alone all count the same, and the many small ones
    keep the class dead. In vectors and scalars the revival of aligned momentum is replaced by

        awakening · e^min(-b, 0) · min(warmup / t, 1) · G / (G + F) · (1 + y / 0.01)^-2 · A / (A + 1e-15 G)

    with y = sqrt(v̂) / A, so that a bias that alone in its tensor has no gradient is raised, from the start. Where none
    has one, as in a tensor that is frozen, or all are rounding, as before batch normalization, they stay.
    """

    scheduled: ClassVar[bool] = True
    log_share: Float[Array, ""] = eqx.field(kw_only=True)
    log_awakening: Float[Array, ""] = eqx.field(kw_only=True)
    num_steps: int = eqx.field(static=True, default=10_000)

    @staticmethod
    def create(key: PRNGKeyArray) -> "ScheduledMomentum":
        """Numbers found by hand, each off by a random twentieth or so, for 10,000 steps."""
        weights: dict[str, Any] = start_near(key, **_START)
        return ScheduledMomentum(**weights)

    def for_steps(self, num_steps: int) -> "ScheduledMomentum":
        return replace(self, num_steps=num_steps)

    def _log_warmup(self) -> Float[Array, ""]:
        return jnp.minimum(super()._log_warmup(), math.log(LONGEST_WARMUP * self.num_steps))

    def _scale(
        self, size: Float[Array, " coordinates"], floor: Float[Array, ""], tensors: Tensors
    ) -> Float[Array, " coordinates"]:
        share = jnp.exp(self.log_share) * tensors.spread(_of_tensors(size, tensors))[0]
        return root(size**2 + share**2) + floor

    def _raised(
        self,
        fading: Float[Array, ""],
        boldness: Float[Array, ""],
        size: Float[Array, " coordinates"],
        floor: Float[Array, ""],
        tensors: Tensors,
    ) -> Float[Array, " coordinates"]:
        in_matrices = super()._raised(fading, boldness, size, floor, tensors)
        whole = root_mean_square(size) + EPSILON
        of_tensors = _of_tensors(size, tensors)
        is_vector = jnp.array([[float(rank < 2) for rank in tensors.ranks]], size.dtype)
        usual = of_tensors + NEVER_THERE * whole
        is_vector, usual, present = tensors.spread(jnp.concatenate([is_vector, usual, of_tensors / usual]))
        strength = jnp.exp(self.log_awakening + fading - jnp.maximum(boldness, 0.0)) * whole / (whole + floor)
        in_vectors = strength * present * (1 + size / usual / ABSENT) ** -2
        return jnp.where(is_vector > 0, in_vectors, in_matrices)

    def update(
        self,
        grads: PyTree,
        state: AlignedMomentumState,
        params: PyTree | None = None,
        *,
        value: Float[Array, ""] | None = None,
        **extra: Any,
    ) -> tuple[PyTree, AlignedMomentumState]:
        updates, after = super().update(grads, state, params, value=value, **extra)
        left = jnp.maximum(1 - state.step / self.num_steps, 0.0)
        return jax.tree.map(lambda x: x * left.astype(x.dtype), updates), after


def _of_tensors(size: Float[Array, " coordinates"], tensors: Tensors) -> Float[Array, "1 tensors"]:
    """The root mean square over each tensor."""
    return root(tensors.sum(size[None] ** 2) / jnp.array(tensors.sizes, size.dtype))
