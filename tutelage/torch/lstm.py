"""The LSTM layer of L2O-DM and RNNprop, with coordinates in columns."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .rule import affine

UNITS = 20


def lstm_shapes(name: str, inputs: int) -> dict[str, tuple[int, ...]]:
    """Of the arrays of a layer."""
    return {f"{name}.weight": (4 * UNITS, inputs + UNITS), f"{name}.bias": (4 * UNITS,)}


class LSTM(nn.Module):
    """z = W [x, h] + b, split into input i, candidate j, forget f and output o; then
    c' = σ(f + 1) c + σ(i) tanh(j) and h' = σ(o) tanh(c') (Andrychowicz et al. 2016)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weights: dict[str, Tensor], name: str):
        """`weights` has those of the layer as in `lstm_shapes`."""
        super().__init__()
        # All gates go through one σ, as tanh(z) = 2 σ(2 z) - 1: on a CPU, PyTorch's tanh takes several times as long.
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        twice = weight.new_tensor([1.0, 2.0, 1.0, 1.0]).repeat_interleave(UNITS)[:, None]
        forget_one = bias.new_tensor([0.0, 0.0, 1.0, 0.0]).repeat_interleave(UNITS)
        self.register_buffer("weight", twice * weight)
        self.register_buffer("bias", twice * (bias + forget_one)[:, None])

    def forward(
        self,
        inputs: Float[Tensor, "pieces inputs part"],
        hidden: Float[Tensor, "pieces units part"],
        cell: Float[Tensor, "pieces units part"],
    ) -> Float[Tensor, "pieces units part"]:
        """The hidden state, which is advanced in place, as is that of the cell."""
        gates = affine(self.weight, self.bias, torch.cat([inputs, hidden], dim=1)).sigmoid_()
        i, j, f, o = gates.chunk(4, dim=1)
        cell.mul_(f).sub_(i).addcmul_(i, j, value=2)
        squashed = torch.mul(cell, 2, out=j).sigmoid_()
        return torch.addcmul(o, o, squashed, value=-2, out=hidden).neg_()
