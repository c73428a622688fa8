"""RNNprop in PyTorch; see `tutelage.optimizers.rnnprop`."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import elu

from .lstm import LSTM, UNITS, lstm_shapes
from .rule import CoordinatewiseRule, affine

_OUTPUT_SCALE = 0.01
_DECAY = 0.95
_EPSILON = 1e-8


class RNNProp(CoordinatewiseRule):
    """Adam's direction and the scaled gradient through two LSTM layers (Lv, Jiang and Li 2017)."""

    shapes = (
        {"input_weight": (UNITS, 2), "input_bias": (UNITS,), "readout_weight": (UNITS,), "readout_bias": ()}
        | lstm_shapes("lstm_1", UNITS)
        | lstm_shapes("lstm_2", UNITS)
    )
    # Moments, β^t (what is left in them of their zero start), and the layers' states.
    row_sizes = (1, 1, 1, UNITS, UNITS, UNITS, UNITS)
    input_weight: Tensor
    input_bias: Tensor
    readout_weight: Tensor
    readout_bias: Tensor

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__(weights)
        self.lstm_1, self.lstm_2 = LSTM(weights, "lstm_1"), LSTM(weights, "lstm_2")
        self.register_buffer("input_weight", weights["input_weight"])
        self.register_buffer("input_bias", weights["input_bias"][:, None])
        self.register_buffer("readout_weight", weights["readout_weight"][None])
        self.register_buffer("readout_bias", weights["readout_bias"][None, None])

    def start_coordinates(self, size: int, seed: int) -> Float[Tensor, "rows coordinates"]:
        memory = super().start_coordinates(size, seed)
        memory[2] = 1
        return memory

    def advance(
        self, gradients: Float[Tensor, "pieces 1 part"], memory: tuple[Tensor, ...]
    ) -> Float[Tensor, "pieces 1 part"]:
        first, second, remainder, hidden_1, cell_1, hidden_2, cell_2 = memory
        first.mul_(_DECAY).add_(gradients, alpha=1 - _DECAY)
        second.mul_(_DECAY).addcmul_(gradients, gradients, value=1 - _DECAY)
        since_start = 1 - remainder.mul_(_DECAY)
        scale = (second / since_start).sqrt_().add_(_EPSILON)
        inputs = torch.cat([first / since_start / scale, gradients / scale], dim=1)
        hidden = elu(affine(self.input_weight, self.input_bias, inputs), inplace=True)
        hidden = self.lstm_1(hidden, hidden_1, cell_1)
        hidden = self.lstm_2(hidden, hidden_2, cell_2)
        return _OUTPUT_SCALE * torch.tanh(affine(self.readout_weight, self.readout_bias, hidden))
