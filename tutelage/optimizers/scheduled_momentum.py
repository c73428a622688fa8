"""Aligned momentum for a number of steps that is known: its rates fall to 0 over them."""

import math
from dataclasses import replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .aligned_momentum import AlignedMomentum, AlignedMomentumState, start_near

LONGEST_WARMUP = 0.3
"""As a share of the steps: in a short run rates are not to grow until they fall again."""
_START = {  # that the schedule makes differ; found by hand, docs/experiments.md says how
    "log_rate": math.log(0.063),
    "log_gain": math.log(0.003),
    "log_warmup": math.log(1350.0),
    "log_floor": math.log(0.00003),
}


class ScheduledMomentum(AlignedMomentum):
    """Aligned momentum whose updates are multiplied with 1 - (t - 1) / `num_steps` at step t = 1, 2, ….

    Its warmup takes 0.3 `num_steps` at most. After `num_steps` it stands still. Which number of steps to follow is not
    learned.
    """

    scheduled: ClassVar[bool] = True
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
