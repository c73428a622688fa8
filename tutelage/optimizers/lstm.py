"""The LSTM layer that coordinatewise optimizers are made of, with coordinates in columns."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class LSTMState(NamedTuple):
    """Hidden and cell state."""

    hidden: Float[Array, "units coordinates"]
    cell: Float[Array, "units coordinates"]


def truncated_normal(key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int) -> Array:
    """Normal with σ = 1/sqrt(fan-in), cut at two σ."""
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, jnp.float32) / jnp.sqrt(fan_in)


class LSTM(eqx.Module):
    """One LSTM layer as in Andrychowicz et al. (2016), features first.

    z = W [x, h] + b, split into input i, candidate j, forget f and output o; then
    c' = σ(f + 1) c + σ(i) tanh(j) and h' = σ(o) tanh(c').
    """

    weight: Float[Array, "gates inputs_and_units"]
    bias: Float[Array, " gates"]

    @staticmethod
    def create(key: PRNGKeyArray, inputs: int, units: int) -> "LSTM":
        """Random weights and biases: truncated normal, fan-in counting inputs and units together."""
        weight_key, bias_key = jax.random.split(key)
        fan_in = inputs + units
        return LSTM(
            truncated_normal(weight_key, (4 * units, fan_in), fan_in),
            truncated_normal(bias_key, (4 * units,), fan_in),
        )

    @property
    def units(self) -> int:
        return self.bias.shape[0] // 4

    def init(self, num_coordinates: int) -> LSTMState:
        """The zero state."""
        zeros = jnp.zeros((self.units, num_coordinates), self.bias.dtype)
        return LSTMState(zeros, zeros)

    def __call__(
        self, inputs: Float[Array, "inputs coordinates"], state: LSTMState
    ) -> tuple[Float[Array, "units coordinates"], LSTMState]:
        z = self.weight @ jnp.concatenate([inputs, state.hidden]) + self.bias[:, None]
        i, j, f, o = jnp.split(z, 4)
        cell = jax.nn.sigmoid(f + 1) * state.cell + jax.nn.sigmoid(i) * jnp.tanh(j)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return hidden, LSTMState(hidden, cell)
