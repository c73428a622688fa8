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
    cpu_block = 1 << 18  # fewer steps of Python; what is larger than 32 MiB would come from the kernel each time
    problem_rows = 3  # log boldness, mean size of the gradients, number of steps

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__(weights)
        self.number = {name: math.exp(weights[f"log_{name}"]) for name in _NUMBERS}
        self.logarithm = {name: float(weights[name]) for name in _LOGARITHMS}

    def _log_factors(self, batch: Batch) -> Float[Tensor, " tensors"]:
        """Of each parameter's rate, by its size."""
        by_size = -self.number["size_exponent"] * (batch.counts / _REFERENCE_SIZE).log()
        return torch.where(batch.are_vectors, self.logarithm["log_vector_factor"], by_size)

    def _log_warmup(self) -> float:
        return self.logarithm["log_warmup"]

    def _advance_mean_squares(
        self, gradients: Coordinates, batch: Batch, unbias: Float[Tensor, ""]
    ) -> Float[Tensor, " tensors"]:
        """Takes the gradients into the second moments, and gives the mean of v̂ over each parameter."""
        sums = gradients.new_zeros(len(batch.sizes))
        for block in batch.blocks:
            memory = batch.coordinates[1, block.coordinates]
            mean_square = memory.float()
            mean_square.lerp_(gradients[block.coordinates].square(), self.number["square_forgetting"])
            parts = torch._foreach_norm(mean_square.split(block.sizes), 1)  # pyright: ignore[reportPrivateImportUsage]
            sums[block.tensors] += torch.stack(parts)  # none is below 0
            memory.copy_(mean_square)  # does nothing where they are the same
        return sums.mul_(unbias) / batch.counts

    def _advance_momentum(
        self,
        gradients: Coordinates,
        batch: Batch,
        unbias: Float[Tensor, ""],
        shares: Float[Tensor, " tensors"],
        floor: Float[Tensor, ""],
    ) -> tuple[Coordinates, Float[Tensor, ""]]:
        """Takes the gradients into the momentum, after the second moments.

        Returns:
            The momentum, not unbiased, by its scale; and how well the gradients agree with the momentum before.
        """
        directions = torch.empty_like(gradients)
        products = gradients.new_zeros(3)
        for block in batch.blocks:
            gradient = gradients[block.coordinates]
            memory, mean_square = batch.coordinates[:2, block.coordinates]
            momentum = memory.float()
            squares = torch.addcmul(block.spread(shares[block.tensors]), mean_square.float(), unbias)
            inverse = squares.sqrt_().add_(floor).reciprocal_()
            fresh, old = gradient * inverse, momentum * inverse
            products += torch.stack([fresh @ old, fresh @ fresh, old @ old])
            momentum.lerp_(gradient, self.number["momentum_forgetting"])
            torch.mul(momentum, inverse, out=directions[block.coordinates])
            memory.copy_(momentum)
        both, of_fresh, of_old = products
        return directions, both / (of_fresh.sqrt() * of_old.sqrt() + _EPSILON)

    def step(self, gradients: Float[Tensor, " coordinates"], batch: Batch) -> Float[Tensor, " coordinates"]:
        log_boldness, mean_size, step = batch.problem
        step += 1
        mean_size += (torch.linalg.vector_norm(gradients) / math.sqrt(len(gradients)) - mean_size) / step
        floor = self.number["floor"] * mean_size + _EPSILON
        unbias = 1 / (1 - (1 - self.number["momentum_forgetting"]) ** step)
        unbias_square = 1 / (1 - (1 - self.number["square_forgetting"]) ** step)
        mean_squares = self._advance_mean_squares(gradients, batch, unbias_square)

        shares = self.number["share"] ** 2 * mean_squares
        moves, alignment = self._advance_momentum(gradients, batch, unbias_square, shares, floor)
        change = self.number["gain"] * (alignment - self.number["target"])
        log_boldness += torch.where(step > 1, change, 0.0)
        log_boldness.clamp_(*_LOG_BOLDNESS_RANGE)

        age = step.log() - self._log_warmup()
        rates = torch.exp(self._log_factors(batch) + self.logarithm["log_rate"] + log_boldness + age.clamp(max=0))
        weakened = rates * torch.exp(-age.clamp(min=0) - log_boldness.clamp(min=0))
        revivals = torch.where(batch.are_vectors, 0.0, self.number["revival"] * weakened)
        of_parameters = torch.stack([rates, revivals])
        whole = (mean_squares @ batch.counts / len(gradients)).sqrt()
        for block in batch.blocks:
            rate, revival = block.spread(of_parameters[:, block.tensors])
            move = moves[block.coordinates]
            power = move.abs().mul_(unbias).log_().mul_(self.number["power"]).exp_().copysign_(move)  # pow_ is slower
            size = (batch.coordinates[1, block.coordinates].float() * unbias_square).sqrt_()
            move.copy_(_vanished(size, whole, floor).mul_(revival).sub_(power.mul_(rate)))

        whole += _EPSILON
        own = mean_squares.sqrt()
        usual = own + _NEVER_THERE * whole
        strengths = self.number["awakening"] * weakened * whole / (whole + floor) * own / usual
        chosen, parameter = batch.in_vectors
        size = (batch.coordinates[1, chosen].float() * unbias_square).sqrt_()
        moves[chosen] += strengths[parameter] / (1 + size / usual[parameter] / _ABSENT) ** 2
        return moves


class AveragedMomentum(AlignedMomentum):
    """The same near the average of where it has been; see `tutelage.optimizers.averaged_momentum`."""

    shapes = AlignedMomentum.shapes | {"log_lead": (), "log_recency": ()}
    row_sizes = (1, 1, 1)  # the moments, and from where steps lead to their average

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__(weights)
        self.number |= {name: math.exp(weights[f"log_{name}"]) for name in ("lead", "recency")}

    def step(self, gradients: Float[Tensor, " coordinates"], batch: Batch) -> Float[Tensor, " coordinates"]:
        moves = super().step(gradients, batch)
        recency = self.number["recency"]
        kept = 1 - (1 + recency) / (batch.problem[-1] + recency)
        for block in batch.blocks:
            move, memory = moves[block.coordinates], batch.coordinates[2, block.coordinates]
            before = memory.float()
            after = (before - move).mul_(kept)
            move.add_(after - before, alpha=1 - self.number["lead"])
            memory.copy_(after)
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


def _vanished(size: Float[Tensor, " n"], whole: Float[Tensor, ""], floor: Float[Tensor, ""]) -> Float[Tensor, " n"]:
    """From 0 to 1: how far the gradient of each coordinate that had one is gone, while others are above the floor.

    `whole` is the root mean square of `size`.
    """
    ratio = size / (whole + _EPSILON)
    falling = (ratio / _VANISHED).add_(1).square_().mul_(ratio + _NEVER_THERE)
    return ratio.div_(falling).mul_(whole / (whole + floor))
