"""The GRU layer of L2O-Scale, with its rows in columns."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

GATE_BIAS = 2.2


class GRU(eqx.Module):
    """One GRU layer as in Wichrowska et al. (2017), features first, with an additional bias from outside.

    r = σ(W_r [x, h] + b_r + β_r), u = σ(W_u [x, h] + b_u + β_u), c = tanh(W_c [x, r ⊙ h] + b_c + β_c), and then
    h' = u h + (1 - u) c.
    """

    gates_weight: Float[Array, "gates inputs_and_units"]
    """Of r, then of u."""
    gates_bias: Float[Array, " gates"]
    candidate_weight: Float[Array, "units inputs_and_units"]
    candidate_bias: Float[Array, " units"]

    @staticmethod
    def create(key: PRNGKeyArray, inputs: int, units: int) -> "GRU":
        """Weights normal with σ = 0.5 / sqrt(fan-in), fan-in counting inputs and units; gate bias 2.2."""
        gates, candidate = jax.random.split(key)
        fan_in = inputs + units
        scale = 0.5 / fan_in**0.5
        return GRU(
            scale * jax.random.normal(gates, (2 * units, fan_in), jnp.float32),
            jnp.full(2 * units, GATE_BIAS, jnp.float32),
            scale * jax.random.normal(candidate, (units, fan_in), jnp.float32),
            jnp.zeros(units, jnp.float32),
        )

    def __call__(
        self,
        inputs: Float[Array, "inputs rows"],
        hidden: Float[Array, "units rows"],
        bias: Float[Array, "three_units _"],
    ) -> Float[Array, "units rows"]:
        """The next hidden state; `bias` is β of r, u and c, for each row or for all of them at once."""
        units = hidden.shape[0]
        gates = self.gates_weight @ jnp.concatenate([inputs, hidden]) + self.gates_bias[:, None]
        reset, update = jnp.split(jax.nn.sigmoid(gates + bias[: 2 * units]), 2)
        candidate = self.candidate_weight @ jnp.concatenate([inputs, reset * hidden]) + self.candidate_bias[:, None]
        candidate = jnp.tanh(candidate + bias[2 * units :])
        return candidate + update * (hidden - candidate)
