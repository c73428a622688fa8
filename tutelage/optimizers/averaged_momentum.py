"""Aligned momentum near the average of where it has been, so that its rates need not fall as far."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .aligned_momentum import AlignedMomentum, AlignedMomentumState, start_near
from .learned import State
from .tensors import Tensors

_START = {  # that the average makes differ, and its own; found by hand, docs/experiments.md says how
    "log_rate": math.log(0.05),
    "log_momentum_forgetting": math.log(0.15),
    "log_square_forgetting": math.log(0.15),
    "log_power": math.log(1.3),
    "log_floor": math.log(0.0001),
    "log_lead": math.log(0.3),
    "log_recency": math.log(1.0),
}


class AveragedMomentumState(NamedTuple):
    """What averaged momentum remembers: three numbers a coordinate, and three for the whole problem."""

    aligned: AlignedMomentumState
    lag: Float[Array, " coordinates"]
    """From where aligned momentum's steps lead to their average."""


class AveragedMomentum(AlignedMomentum):
    """Parameters near the average of all points that aligned momentum's steps lead to.

    With u its update at step t = 1, 2, …, the points z, their average a and the parameters θ are

        z ← z + u
        a ← a + (1 + recency) / (t + recency) · (z - a)
        θ = a + lead · (z - a)

    from θ = a = z at the start: an average in which point t counts about as t^recency. So steps on a batch's noise are
    soon averaged away, and what many batches agree on adds up. Averages in place of a schedule are those of Defazio et
    al. 2024, "The Road Less Scheduled". The two numbers are learned with the thirteen of aligned momentum, and the
    weights are the logarithms of all.
    """

    log_lead: Float[Array, ""]
    log_recency: Float[Array, ""]

    @staticmethod
    def create(key: PRNGKeyArray) -> "AveragedMomentum":
        """Numbers found by hand, each off by a random twentieth or so."""
        return AveragedMomentum(**start_near(key, **_START))

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> State:
        aligned = super().init(params, key=key)
        return AveragedMomentumState(aligned, jnp.zeros_like(aligned.momentum))

    def _advance(
        self, gradient: Float[Array, " coordinates"], state: State, tensors: Tensors
    ) -> tuple[Float[Array, " coordinates"], State]:
        moves, aligned = super()._advance(gradient, state.aligned, tensors)
        recency = jnp.exp(self.log_recency)
        lag = (1 - (1 + recency) / (aligned.step + recency)) * (state.lag - moves)
        moves = moves + (1 - jnp.exp(self.log_lead)) * (lag - state.lag)
        return moves, AveragedMomentumState(aligned, lag)
