"""L2O-DM in PyTorch; see `tutelage.optimizers.l2o_dm`."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .lstm import LSTM, UNITS, lstm_shapes
from .rule import CoordinatewiseRule, affine

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
        self.register_buffer("readout_weight", _OUTPUT_SCALE * weights["readout_weight"][None])
        self.register_buffer("readout_bias", _OUTPUT_SCALE * weights["readout_bias"][None, None])

    def advance(
        self, gradients: Float[Tensor, "pieces 1 part"], memory: tuple[Tensor, ...]
    ) -> Float[Tensor, "pieces 1 part"]:
        log = (gradients.abs() + torch.finfo(torch.float32).eps).log() / _STEEPNESS
        inputs = torch.cat([log.clamp(min=-1), (gradients * math.exp(_STEEPNESS)).clamp(-1, 1)], dim=1)
        hidden = self.lstm_1(inputs, memory[0], memory[1])
        hidden = self.lstm_2(hidden, memory[2], memory[3])
        return affine(self.readout_weight, self.readout_bias, hidden)
