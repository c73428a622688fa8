"""Aligned momentum in PyTorch; see `tutelage.optimizers.aligned_momentum`."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .rule import Batch, Rule

_REFERENCE_SIZE = 1000.0
_LOG_BOLDNESS_RANGE = -8.0, 1.0
_LONGEST_WARMUP = 0.3
_VANISHED, _NEVER_THERE = 1e-5, 1e-15
_EPSILON = 1e-16
_ABSENT = 1e-2
_NUMBERS = (
    *("momentum_forgetting", "square_forgetting", "power", "size_exponent", "gain", "target", "floor"),
    *("revival", "share", "awakening"),
)
_LOGARITHMS = "log_rate", "log_vector_factor", "log_warmup"

Coordinates = Float[Tensor, " coordinates"]


class AlignedMomentum(Rule):
    """Normalized momentum, raised to a power, at a rate that follows how well new gradients agree with old ones."""

    shapes = dict.fromkeys([*(f"log_{name}" for name in _NUMBERS), *_LOGARITHMS], ())
    row_sizes = (1, 1)  # the moments
    problem_rows = 3  # log boldness, mean size of the gradients, number of steps

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__(weights)
        self.number = {name: math.exp(weights[f"log_{name}"]) for name in _NUMBERS}
        self.logarithm = {name: float(weights[name]) for name in _LOGARITHMS}

    def _log_factors(self, batch: Batch) -> list[float]:
        """Of each parameter's rate, by its size."""
        return [
            -self.number["size_exponent"] * math.log(size / _REFERENCE_SIZE)
            if rank > 1
            else self.logarithm["log_vector_factor"]
            for size, rank in zip(batch.sizes, batch.ranks, strict=True)
        ]

    def _log_warmup(self) -> float:
        return self.logarithm["log_warmup"]

    def _raised(
        self,
        weakened: Float[Tensor, ""],
        size: Coordinates,
        of_parameters: Float[Tensor, " tensors"],
        floor: Float[Tensor, ""],
        batch: Batch,
    ) -> Coordinates:
        """How far each coordinate is raised; `weakened` is by age and boldness."""
        whole = _root_mean_square(size)
        raised = _vanished(size, whole, floor).mul_(self.number["revival"] * weakened)
        whole = whole + _EPSILON
        usual = of_parameters + _NEVER_THERE * whole
        strength = self.number["awakening"] * weakened * whole / (whole + floor) * of_parameters / usual
        chosen, parameter = batch.in_vectors
        raised[chosen] = strength[parameter] / (1 + size[chosen] / usual[parameter] / _ABSENT) ** 2
        return raised

    def step(self, gradients: Float[Tensor, " coordinates"], batch: Batch) -> Float[Tensor, " coordinates"]:
        log_boldness, mean_size, step = batch.problem
        step += 1
        mean_size += (_root_mean_square(gradients) - mean_size) / step

        memory = batch.coordinates.float()
        momentum, mean_square = memory
        before = momentum.clone()
        momentum.lerp_(gradients, self.number["momentum_forgetting"])
        forget_square = self.number["square_forgetting"]
        mean_square.mul_(1 - forget_square).addcmul_(gradients, gradients, value=forget_square)
        batch.coordinates.copy_(memory)
        size = (mean_square / (1 - (1 - forget_square) ** step)).sqrt_()
        floor = self.number["floor"] * mean_size + _EPSILON
        of_parameters = _of_parameters(size, batch)
        share = batch.spread((self.number["share"] * of_parameters[None]) ** 2)[0]
        scale = share.addcmul_(size, size).sqrt_().add_(floor)

        alignment = _cosine(gradients / scale, before.div_(scale))
        change = self.number["gain"] * (alignment - self.number["target"])
        log_boldness += torch.where(step > 1, change, 0.0)
        log_boldness.clamp_(*_LOG_BOLDNESS_RANGE)

        direction = (momentum / scale).div_(1 - (1 - self.number["momentum_forgetting"]) ** step)
        age = step.log() - self._log_warmup()
        weakened = torch.exp(-age.clamp(min=0) - log_boldness.clamp(min=0))
        moves = self._raised(weakened, size, of_parameters, floor, batch)
        moves -= direction.abs().log_().mul_(self.number["power"]).exp_().copysign_(direction)  # pow_ is slower
        moves *= torch.exp(self.logarithm["log_rate"] + log_boldness + age.clamp(max=0))
        for part, log_factor in zip(moves.split(batch.sizes), self._log_factors(batch), strict=True):
            part *= math.exp(log_factor)
        return moves


class ScheduledMomentum(AlignedMomentum):
    """The same with updates that fall to 0 over `num_steps`; see `tutelage.optimizers.scheduled_momentum`."""

    scheduled = True

    def _log_warmup(self) -> float:
        return min(super()._log_warmup(), math.log(_LONGEST_WARMUP * self.num_steps))

    def step(self, gradients: Float[Tensor, " coordinates"], batch: Batch) -> Float[Tensor, " coordinates"]:
        moves = super().step(gradients, batch)
        step = batch.problem[-1]
        return moves.mul_((1 - (step - 1) / self.num_steps).clamp(min=0))


def _of_parameters(size: Coordinates, batch: Batch) -> Float[Tensor, " tensors"]:
    """The root mean square over each parameter."""
    norms = torch._foreach_norm(size.split(batch.sizes))  # pyright: ignore[reportPrivateImportUsage]
    return torch.stack(norms) / batch.counts.to(size.dtype).sqrt()


def _root_mean_square(x: Coordinates) -> Float[Tensor, ""]:
    return torch.linalg.vector_norm(x) / math.sqrt(len(x))


def _vanished(size: Float[Tensor, " n"], whole: Float[Tensor, ""], floor: Float[Tensor, ""]) -> Float[Tensor, " n"]:
    """From 0 to 1: how far the gradient of each coordinate that had one is gone, while others are above the floor.

    `whole` is the root mean square of `size`.
    """
    ratio = size / (whole + _EPSILON)
    falling = (ratio / _VANISHED).add_(1).square_().mul_(ratio + _NEVER_THERE)
    return ratio.div_(falling).mul_(whole / (whole + floor))


def _cosine(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Of the angle between two vectors; 0 where one of them is 0."""
    return a @ b / (torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b) + _EPSILON)
