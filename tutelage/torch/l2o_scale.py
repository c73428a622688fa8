"""L2O-Scale in PyTorch; see `tutelage.optimizers.l2o_scale`."""

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .rule import START, Batch, Rule

PARAMETER_UNITS = 10
TENSOR_UNITS = 20
GLOBAL_UNITS = 20
SCALES = 4
FEATURES = 3 * SCALES
_LOG_LEARNING_RATE_RANGE = (math.log(1e-6) / 2, math.log(1e-2) / 2)
_LOG_STEP_LIMIT = 33.0
_EPSILON = 1e-16
_SQUARE_EPSILON = 1e-12


def _gru_shapes(name: str, inputs: int, units: int) -> dict[str, tuple[int, ...]]:
    seen = inputs + units
    return {
        f"{name}.gates_weight": (2 * units, seen),
        f"{name}.gates_bias": (2 * units,),
        f"{name}.candidate_weight": (units, seen),
        f"{name}.candidate_bias": (units,),
    }


def _affine_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _readout_shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (PARAMETER_UNITS,), f"{name}.bias": ()}


class GRU(nn.Module):
    """One GRU layer, features first, with an additional bias from outside (Wichrowska et al. 2017)."""

    gates_weight: Tensor
    gates_bias: Tensor
    candidate_weight: Tensor
    candidate_bias: Tensor

    def __init__(self, weights: dict[str, Tensor], name: str):
        super().__init__()
        for part in "gates_weight", "candidate_weight":
            self.register_buffer(part, weights[f"{name}.{part}"])
        for part in "gates_bias", "candidate_bias":
            self.register_buffer(part, weights[f"{name}.{part}"][:, None])

    def forward(
        self,
        inputs: Float[Tensor, "inputs rows"],
        hidden: Float[Tensor, "units rows"],
        bias: Float[Tensor, "three_units _"],
    ) -> Float[Tensor, "units rows"]:
        """The next hidden state; `bias` is that of reset, update and candidate."""
        units = len(hidden)
        gates = torch.addmm(self.gates_bias + bias[: 2 * units], self.gates_weight, torch.cat([inputs, hidden]))
        reset, update = gates.sigmoid_().chunk(2)
        outer = self.candidate_bias + bias[2 * units :]
        candidate = torch.addmm(outer, self.candidate_weight, torch.cat([inputs, reset * hidden])).tanh_()
        return torch.lerp(candidate, hidden, update)


class Affine(nn.Module):
    """W x + b, features first."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weights: dict[str, Tensor], name: str):
        super().__init__()
        self.register_buffer("weight", torch.atleast_2d(weights[f"{name}.weight"]))
        self.register_buffer("bias", torch.atleast_1d(weights[f"{name}.bias"])[:, None])

    def forward(self, x: Float[Tensor, "inputs rows"]) -> Float[Tensor, "outputs rows"]:
        return torch.addmm(self.bias, self.weight, x)


class L2OScale(Rule):
    """A GRU per coordinate, one per tensor and one for the whole problem (Wichrowska et al. 2017)."""

    global_sees_last_tensor: ClassVar[bool] = False
    direction_weight: Tensor
    shortcut_weight: Tensor
    parameter_start: Tensor
    tensor_start: Tensor
    global_start: Tensor

    shapes = (
        _gru_shapes("parameter_gru", FEATURES, PARAMETER_UNITS)
        | _gru_shapes("tensor_gru", FEATURES + PARAMETER_UNITS, TENSOR_UNITS)
        | _gru_shapes("global_gru", TENSOR_UNITS, GLOBAL_UNITS)
        | _affine_shapes("tensor_to_parameter", TENSOR_UNITS, 3 * PARAMETER_UNITS)
        | _affine_shapes("global_to_parameter", GLOBAL_UNITS, 3 * PARAMETER_UNITS)
        | _affine_shapes("global_to_tensor", GLOBAL_UNITS, 3 * TENSOR_UNITS)
        | _readout_shapes("scale_decay")
        | _readout_shapes("input_decay")
        | _readout_shapes("learning_rate")
        | {"direction_weight": (PARAMETER_UNITS,), "shortcut_weight": (SCALES,)}
        | {"learning_rate_momentum": (), "step_size_offset": ()}
        | {"parameter_start": (PARAMETER_UNITS,), "tensor_start": (TENSOR_UNITS,), "global_start": (GLOBAL_UNITS,)}
    )
    # Accumulators, mean squares, input decay, scale decay, log learning rate, and the GRU's state.
    row_sizes = (SCALES, SCALES, 1, 1, 1, PARAMETER_UNITS)
    tensor_rows = TENSOR_UNITS
    problem_rows = GLOBAL_UNITS

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__(weights)
        self.parameter_gru = GRU(weights, "parameter_gru")
        self.tensor_gru = GRU(weights, "tensor_gru")
        self.global_gru = GRU(weights, "global_gru")
        self.tensor_to_parameter = Affine(weights, "tensor_to_parameter")
        self.global_to_parameter = Affine(weights, "global_to_parameter")
        self.global_to_tensor = Affine(weights, "global_to_tensor")
        self.scale_decay = Affine(weights, "scale_decay")
        self.input_decay = Affine(weights, "input_decay")
        self.learning_rate = Affine(weights, "learning_rate")
        for name in "direction_weight", "shortcut_weight", "parameter_start", "tensor_start", "global_start":
            self.register_buffer(name, weights[name])
        self.momentum = torch.sigmoid(weights["learning_rate_momentum"]).item()
        self.step_size_offset = weights["step_size_offset"].item()

    def start_coordinates(self, size: int, seed: int) -> Float[Tensor, "rows coordinates"]:
        """Learning rates are random: uniform logarithms per coordinate, plus one per tensor."""
        generator = torch.Generator("cpu").manual_seed(seed)
        low, high = _LOG_LEARNING_RATE_RANGE
        rates = torch.empty(size, **START).uniform_(low, high, generator=generator)
        rates += torch.empty(1, **START).uniform_(low, high, generator=generator)
        hidden = self.parameter_start.cpu()[:, None].expand(-1, size)
        return torch.cat([torch.zeros(2 * SCALES + 2, size, **START), rates[None], hidden])

    def start_tensor(self) -> Float[Tensor, " tensor_rows"]:
        return self.tensor_start.cpu()

    def start_problem(self) -> Float[Tensor, " problem_rows"]:
        return self.global_start.cpu()

    def _features(
        self, gradients: Float[Tensor, " coordinates"], memory: tuple[Tensor, ...], mean_rate: Float[Tensor, ""]
    ) -> tuple[Float[Tensor, "features coordinates"], Tensor, Tensor]:
        """What the GRU sees of the gradients at four time scales; accumulators and mean squares, advanced."""
        accumulators, mean_squares, input_decay, scale_decay, log_learning_rate, _ = memory
        decays = [input_decay]
        for _ in range(SCALES - 1):
            decays.append(decays[-1].sqrt())
        accumulators = torch.lerp(gradients.expand(SCALES, -1), accumulators, torch.cat(decays))
        squares = accumulators**2 + _SQUARE_EPSILON
        # zero only before the first step, which has no history to weigh
        mean_squares = torch.lerp(squares, mean_squares, torch.where(mean_squares == 0, 0.0, scale_decay))
        scaled = torch.asinh(accumulators / (mean_squares + _EPSILON).sqrt())
        log_squares = (mean_squares + _EPSILON).log()
        centred = log_squares - log_squares.mean(dim=0)
        features = torch.cat([scaled, scaled[:-1] * scaled[1:], centred, log_learning_rate - mean_rate])
        return features, accumulators, mean_squares

    def step(self, gradients: Float[Tensor, " coordinates"], batch: Batch) -> Float[Tensor, " coordinates"]:
        problem = batch.problem[:, None]
        tensors = batch.tensors
        from_above = self.tensor_to_parameter(tensors) + self.global_to_parameter(problem)
        _, _, _, _, rates, _ = batch.coordinates.split(self.row_sizes)
        mean_rate = rates.float().mean()
        direction, log_step = torch.empty_like(gradients), torch.empty_like(gradients)
        sums = gradients.new_zeros(PARAMETER_UNITS + FEATURES, len(batch.sizes))
        for block in batch.blocks:
            here = block.coordinates
            parts = batch.coordinates[:, here].split(self.row_sizes)
            memory = tuple(part.float() for part in parts)
            features, accumulators, mean_squares = self._features(gradients[here], memory, mean_rate)
            hidden = self.parameter_gru(features, memory[-1], block.spread(from_above[:, block.tensors]))
            direction[here] = self.direction_weight @ hidden + self.shortcut_weight @ features[:SCALES]
            rate = memory[4]
            moved = (rate + self.learning_rate(hidden)).clamp_(-_LOG_STEP_LIMIT, _LOG_STEP_LIMIT)
            log_step[here] = moved[0]
            sums[:, block.tensors] += block.sum(torch.cat([hidden, features]))
            input_decay, scale_decay = self.input_decay(hidden).sigmoid_(), self.scale_decay(hidden).sigmoid_()
            new = accumulators, mean_squares, input_decay, scale_decay, moved.lerp_(rate, self.momentum), hidden
            for part, advanced in zip(parts, new, strict=True):
                part.copy_(advanced)

        advanced = self.tensor_gru(sums / batch.counts, tensors, self.global_to_tensor(problem))
        global_input = advanced[:, -1:] if self.global_sees_last_tensor else advanced.mean(dim=1, keepdim=True)
        batch.problem.copy_(self.global_gru(global_input, problem, problem.new_zeros(3 * GLOBAL_UNITS, 1))[:, 0])
        batch.tensors.copy_(advanced)
        for part in direction.split(batch.sizes):
            part /= (torch.mean(part**2) + _EPSILON).sqrt()
        return log_step.add_(self.step_size_offset).exp_().neg_().mul_(direction)


class L2OScaleAsReleased(L2OScale):
    """The global GRU is fed the state of the last tensor alone, as in the authors' program."""

    global_sees_last_tensor = True
