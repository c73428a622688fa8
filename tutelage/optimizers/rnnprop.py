"""RNNprop, the learned optimizer of Lv, Jiang and Li (2017)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .learned import CoordinatewiseOptimizer
from .lstm import LSTM, LSTMState, truncated_normal
from .numerics import root

UNITS = 20
OUTPUT_SCALE = 0.01
DECAY = 0.95  # β1 and β2
_EPSILON = 1e-8


class RNNPropState(NamedTuple):
    """Adam's moments, what is left of their zero start, and the layers' states."""

    first_moment: Float[Array, " coordinates"]
    second_moment: Float[Array, " coordinates"]
    remainder: Float[Array, " coordinates"]
    """β^t: the weight that the zero at the start still has in the moments. Kept per coordinate, as training cuts
    states into blocks of coordinates."""
    lstm_1: LSTMState
    lstm_2: LSTMState


class RNNProp(CoordinatewiseOptimizer):
    """Adam's direction and the scaled gradient through a dense layer and two LSTM layers of 20 units.

    With m and v the moments of Adam, β1 = β2 = 0.95, and m̂ and v̂ corrected for their start at zero, the inputs are
    m̂ / (sqrt(v̂) + 1e-8) and g / (sqrt(v̂) + 1e-8); the update is 0.01 tanh of a linear readout. 6,641 weights.

    Source: "Learning Gradient Descent: Better Generalization and Longer Horizons" (2017), in the form of "Training
    Stronger Baselines for Learning to Optimize" (2020): order of the inputs, sign and scale of the update.
    """

    input_weight: Float[Array, "units 2"]
    input_bias: Float[Array, " units"]
    lstm_1: LSTM
    lstm_2: LSTM
    readout_weight: Float[Array, " units"]
    readout_bias: Float[Array, ""]

    @staticmethod
    def create(key: PRNGKeyArray) -> "RNNProp":
        """Random initial weights."""
        first, second, inputs, readout = jax.random.split(key, 4)
        return RNNProp(
            truncated_normal(inputs, (UNITS, 2), 2),
            jnp.zeros(UNITS, jnp.float32),
            LSTM.create(first, UNITS, UNITS),
            LSTM.create(second, UNITS, UNITS),
            truncated_normal(readout, (UNITS,), UNITS),
            jnp.float32(0.0),
        )

    def init_coordinates(self, num_coordinates: int) -> RNNPropState:
        zeros = jnp.zeros(num_coordinates, self.input_bias.dtype)
        return RNNPropState(
            zeros, zeros, zeros + 1, self.lstm_1.init(num_coordinates), self.lstm_2.init(num_coordinates)
        )

    def features(
        self, gradients: Float[Array, " coordinates"], state: RNNPropState
    ) -> tuple[Float[Array, "2 coordinates"], RNNPropState]:
        """The two inputs, and the state with its moments advanced."""
        first = DECAY * state.first_moment + (1 - DECAY) * gradients
        second = DECAY * state.second_moment + (1 - DECAY) * gradients**2
        remainder = DECAY * state.remainder
        scale = root(second / (1 - remainder)) + _EPSILON
        inputs = jnp.stack([first / (1 - remainder) / scale, gradients / scale])
        return inputs, state._replace(first_moment=first, second_moment=second, remainder=remainder)

    def step(
        self, gradients: Float[Array, " coordinates"], state: RNNPropState
    ) -> tuple[Float[Array, " coordinates"], RNNPropState]:
        inputs, state = self.features(gradients, state)
        hidden = jax.nn.elu(self.input_weight @ inputs + self.input_bias[:, None])
        hidden, lstm_1 = self.lstm_1(hidden, state.lstm_1)
        hidden, lstm_2 = self.lstm_2(hidden, state.lstm_2)
        updates = OUTPUT_SCALE * jnp.tanh(self.readout_weight @ hidden + self.readout_bias)
        return updates, state._replace(lstm_1=lstm_1, lstm_2=lstm_2)
