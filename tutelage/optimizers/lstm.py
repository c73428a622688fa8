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


@jax.custom_vjp
def _cell(
    weight: Float[Array, "gates inputs_and_units"],
    bias: Float[Array, " gates"],
    inputs: Float[Array, "inputs_and_units coordinates"],
    cell: Float[Array, "units coordinates"],
) -> tuple[Float[Array, "units coordinates"], Float[Array, "units coordinates"]]:
    """The next hidden and cell state from [x, h] and c, with all four gates through one tanh.

    `weight` and `bias` are those of z with the rows of i, f and o halved, as σ(z) = (1 + tanh(z / 2)) / 2.
    """
    return _cell_forward(weight, bias, inputs, cell)[0]


def _cell_forward(weight, bias, inputs, cell):
    i, j, f, o = jnp.split(jnp.tanh(weight @ inputs + bias[:, None]), 4)
    input_gate, forget_gate, output_gate = 0.5 + 0.5 * i, 0.5 + 0.5 * f, 0.5 + 0.5 * o
    next_cell = forget_gate * cell + input_gate * j
    squashed = jnp.tanh(next_cell)
    # What the backward pass multiplies by, computed here, where the gates are at hand: XLA vectorizes products of
    # slices of one array badly when that array is itself read back from a loop's stack.
    per_cell = jnp.concatenate(
        [0.5 * j * (1 - i * i), input_gate * (1 - j * j), 0.5 * cell * (1 - f * f)]
    )  # d c' / d z of i, j and f
    per_hidden = 0.5 * squashed * (1 - o * o)  # d h' / d z of o
    through_squash = output_gate * (1 - squashed * squashed)  # d h' / d c'
    saved = weight, inputs, per_cell, per_hidden, through_squash, forget_gate
    return (output_gate * squashed, next_cell), saved


def _cell_backward(saved, cotangents):
    weight, inputs, per_cell, per_hidden, through_squash, forget_gate = saved
    of_hidden, of_cell = cotangents
    of_cell = of_cell + of_hidden * through_squash
    of_ijf = (of_cell * per_cell.reshape(3, *of_cell.shape)).reshape(per_cell.shape)
    of_z = jnp.concatenate([of_ijf, of_hidden * per_hidden])
    return of_z @ inputs.T, of_z.sum(axis=1), weight.T @ of_z, of_cell * forget_gate


_cell.defvjp(_cell_forward, _cell_backward)


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
        halves = jnp.repeat(jnp.array([0.5, 1.0, 0.5, 0.5], self.bias.dtype), self.units)
        forget_one = jnp.repeat(jnp.array([0.0, 0.0, 1.0, 0.0], self.bias.dtype), self.units)
        hidden, cell = _cell(
            halves[:, None] * self.weight,
            halves * (self.bias + forget_one),
            jnp.concatenate([inputs, state.hidden]),
            state.cell,
        )
        return hidden, LSTMState(hidden, cell)
