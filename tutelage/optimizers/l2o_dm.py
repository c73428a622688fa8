"""L2O-DM, the learned optimizer of Andrychowicz et al. (2016)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .learned import CoordinatewiseOptimizer
from .lstm import LSTM, LSTMState, truncated_normal

UNITS = 20
OUTPUT_SCALE = 0.01
_STEEPNESS = 5  # k in the paper's appendix A
_EPSILON = float(jnp.finfo(jnp.float32).eps)


def log_and_sign(gradients: Float[Array, " coordinates"]) -> Float[Array, "2 coordinates"]:
    """Gradients of any magnitude as two features between about -1 and 1.

    With k = 5: max(log(|g| + ε) / k, -1) and clip(g e^k, -1, 1), ε being float32's machine epsilon
    (Andrychowicz et al. 2016, appendix A, in the form of their program).
    """
    log = jnp.log(jnp.abs(gradients) + _EPSILON) / _STEEPNESS
    return jnp.stack([jnp.maximum(log, -1.0), jnp.clip(gradients * math.exp(_STEEPNESS), -1.0, 1.0)])


class L2ODM(CoordinatewiseOptimizer):
    """Two LSTM layers of 20 units on each coordinate's gradient; the update is 0.01 times a linear readout.

    5,141 weights. Source: "Learning to learn by gradient descent by gradient descent" (2016).
    """

    lstm_1: LSTM
    lstm_2: LSTM
    readout_weight: Float[Array, " units"]
    readout_bias: Float[Array, ""]

    @staticmethod
    def create(key: PRNGKeyArray) -> "L2ODM":
        """Random initial weights."""
        first, second, readout = jax.random.split(key, 3)
        return L2ODM(
            LSTM.create(first, 2, UNITS),
            LSTM.create(second, UNITS, UNITS),
            truncated_normal(readout, (UNITS,), UNITS),
            jnp.float32(0.0),
        )

    def init_coordinates(self, num_coordinates: int) -> tuple[LSTMState, LSTMState]:
        return self.lstm_1.init(num_coordinates), self.lstm_2.init(num_coordinates)

    def step(
        self, gradients: Float[Array, " coordinates"], state: tuple[LSTMState, LSTMState]
    ) -> tuple[Float[Array, " coordinates"], tuple[LSTMState, LSTMState]]:
        hidden, state_1 = self.lstm_1(log_and_sign(gradients), state[0])
        hidden, state_2 = self.lstm_2(hidden, state[1])
        return OUTPUT_SCALE * (self.readout_weight @ hidden + self.readout_bias), (state_1, state_2)
