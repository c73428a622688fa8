"""The LSTM layer of L2O-DM and RNNprop, with coordinates in columns."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

UNITS = 20


def lstm_shapes(name: str, inputs: int) -> dict[str, tuple[int, ...]]:
    """Of the arrays of a layer."""
    return {f"{name}.weight": (4 * UNITS, inputs + UNITS), f"{name}.bias": (4 * UNITS,)}


class LSTM(nn.Module):
    """z = W [x, h] + b, split into input i, candidate j, forget f and output o; then
    c' = σ(f + 1) c + σ(i) tanh(j) and h' = σ(o) tanh(c') (Andrychowicz et al. 2016)."""

    of_inputs: Tensor
    of_hidden: Tensor
    bias: Tensor

    def __init__(self, weights: dict[str, Tensor], name: str):
        """`weights` has those of the layer as in `lstm_shapes`."""
        super().__init__()
        # All gates go through one tanh, as σ(z) = (1 + tanh(z / 2)) / 2.
        halves = torch.tensor([0.5, 1.0, 0.5, 0.5]).repeat_interleave(UNITS)
        forget_one = torch.tensor([0.0, 0.0, 1.0, 0.0]).repeat_interleave(UNITS)
        weight = halves[:, None] * weights[f"{name}.weight"]
        self.register_buffer("of_inputs", weight[:, :-UNITS].contiguous())
        self.register_buffer("of_hidden", weight[:, -UNITS:].contiguous())
        self.register_buffer("bias", (halves * (weights[f"{name}.bias"] + forget_one))[:, None])

    def forward(
        self,
        inputs: Float[Tensor, "inputs coordinates"],
        hidden: Float[Tensor, "units coordinates"],
        cell: Float[Tensor, "units coordinates"],
    ) -> tuple[Float[Tensor, "units coordinates"], Float[Tensor, "units coordinates"]]:
        """The next hidden and cell state."""
        gates = torch.addmm(self.bias, self.of_inputs, inputs).addmm_(self.of_hidden, hidden).tanh_()
        i, j, f, o = gates.chunk(4)
        cell = f.add_(1).mul_(cell).addcmul_(i.add_(1), j).mul_(0.5)
        return o.add_(1).mul_(0.5).mul_(torch.tanh(cell)), cell
