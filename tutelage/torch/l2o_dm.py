"""L2O-DM in PyTorch; see `tutelage.optimizers.l2o_dm`."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .lstm import LSTM, UNITS, lstm_shapes
from .rule import CoordinatewiseRule

_STEEPNESS = 5
_OUTPUT_SCALE = 0.01


class L2ODM(CoordinatewiseRule):
    """Two LSTM layers on each coordinate's gradient (Andrychowicz et al. 2016)."""

    shapes = lstm_shapes("lstm_1", 2) | lstm_shapes("lstm_2", UNITS) | {"readout_weight": (UNITS,), "readout_bias": ()}
    row_sizes = (UNITS,) * 4
    readout_weight: Tensor
    readout_bias: Tensor

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__(weights)
        self.lstm_1, self.lstm_2 = LSTM(weights, "lstm_1"), LSTM(weights, "lstm_2")
        self.register_buffer("readout_weight", _OUTPUT_SCALE * weights["readout_weight"])
        self.register_buffer("readout_bias", _OUTPUT_SCALE * weights["readout_bias"])

    def advance(
        self, gradients: Float[Tensor, " coordinates"], memory: tuple[Tensor, ...]
    ) -> tuple[Float[Tensor, " coordinates"], tuple[Tensor, ...]]:
        log = (gradients.abs() + torch.finfo(torch.float32).eps).log() / _STEEPNESS
        inputs = torch.stack([log.clamp(min=-1), (gradients * math.exp(_STEEPNESS)).clamp(-1, 1)])
        hidden_1, cell_1 = self.lstm_1(inputs, memory[0], memory[1])
        hidden_2, cell_2 = self.lstm_2(hidden_1, memory[2], memory[3])
        return self.readout_weight @ hidden_2 + self.readout_bias, (hidden_1, cell_1, hidden_2, cell_2)
