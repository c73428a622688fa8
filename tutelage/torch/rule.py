"""What an update rule is in PyTorch: fixed weights, and a step on one batch of coordinates."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

# Coordinates worked on at once: on a CPU what a block needs should stay in the cache, elsewhere it bounds memory.
# Blocks are cut into pieces, as batched products of small matrices use the cores better than one of long ones.
_CPU_BLOCK, _OTHER_BLOCK = 1 << 14, 1 << 20
_PIECE = 1 << 10
START: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
"""What a rule remembers at first is of this kind, whatever PyTorch's defaults are."""


@dataclass(frozen=True)
class Batch:
    """The coordinates of all parameters, one parameter after the other, and what is remembered of them."""

    sizes: list[int]
    ranks: list[int]
    """The number of axes of each parameter."""
    coordinates: Float[Tensor, "rows coordinates"]
    tensors: Float[Tensor, "tensor_rows tensors"]
    problem: Float[Tensor, " problem_rows"]

    @cached_property
    def counts(self) -> Int[Tensor, " tensors"]:
        """The `sizes` as a tensor."""
        return torch.tensor(self.sizes, device=self.coordinates.device)

    @cached_property
    def in_vectors(self) -> tuple[Int[Tensor, " chosen"], Int[Tensor, " chosen"]]:
        """The coordinates of parameters with fewer than two axes, and of which parameter each is."""
        numbers = torch.arange(len(self.sizes), device=self.counts.device)
        parameter = self.spread(numbers[None])[0]
        vectors = torch.tensor([rank < 2 for rank in self.ranks], device=numbers.device)
        chosen = vectors[parameter].nonzero()[:, 0]
        return chosen, parameter[chosen]

    def spread(self, x: Shaped[Tensor, "features tensors"]) -> Shaped[Tensor, "features coordinates"]:
        """Each parameter's value at all of its coordinates."""
        return torch.repeat_interleave(x, self.counts, dim=1, output_size=sum(self.sizes))

    def mean(self, x: Float[Tensor, "features coordinates"]) -> Float[Tensor, "features tensors"]:
        """The mean over each parameter's coordinates."""
        return torch.stack([part.mean(dim=1) for part in x.split(self.sizes, dim=1)], dim=1)


class Rule(nn.Module, ABC):
    """An update rule with taught weights, which are buffers."""

    shapes: ClassVar[dict[str, tuple[int, ...]]]
    """Of the arrays in a file of its weights."""
    row_sizes: ClassVar[tuple[int, ...]]
    """Of what is remembered per coordinate: how many numbers each part has."""
    tensor_rows: ClassVar[int] = 0
    """Numbers remembered per parameter tensor."""
    problem_rows: ClassVar[int] = 0
    """Numbers remembered for all parameters together."""

    def start_coordinates(self, size: int, seed: int) -> Float[Tensor, "rows coordinates"]:
        """What is remembered at first of a parameter with this many coordinates; `seed` is for random parts."""
        return torch.zeros(sum(self.row_sizes), size, **START)

    def start_tensor(self) -> Float[Tensor, " tensor_rows"]:
        """What is remembered at first of a parameter as a whole."""
        return torch.zeros(self.tensor_rows, **START)

    def start_problem(self) -> Float[Tensor, " problem_rows"]:
        """What is remembered at first of all parameters together."""
        return torch.zeros(self.problem_rows, **START)

    scheduled: ClassVar[bool] = False
    """Whether the rule follows a schedule for `num_steps` steps."""
    num_steps: int = 0

    @abstractmethod
    def __init__(self, weights: dict[str, Tensor]):
        """From arrays of these `shapes`."""
        super().__init__()

    @abstractmethod
    def step(self, gradients: Float[Tensor, " coordinates"], batch: Batch) -> Float[Tensor, " coordinates"]:
        """What is to be added to the coordinates. The batch's memory is advanced in place."""


class CoordinatewiseRule(Rule):
    """A rule that treats every coordinate alike and independently."""

    @abstractmethod
    def advance(
        self, gradients: Float[Tensor, "pieces 1 part"], memory: tuple[Tensor, ...]
    ) -> Float[Tensor, "pieces 1 part"]:
        """The moves for one gradient per coordinate.

        Args:
            memory: parts of `row_sizes` rows, each [pieces, rows, part]; to be advanced in place.
        """

    def step(self, gradients: Float[Tensor, " coordinates"], batch: Batch) -> Float[Tensor, " coordinates"]:
        moves = torch.empty_like(gradients)
        for block in blocks(gradients, _PIECE):
            memory = [pieces(part) for part in batch.coordinates[:, block].split(self.row_sizes)]
            working = tuple(part.float() for part in memory)
            pieces(moves[None, block]).copy_(self.advance(pieces(gradients[None, block]), working))
            for part, advanced in zip(memory, working, strict=True):
                part.copy_(advanced)  # does nothing where they are the same
        return moves


def blocks(coordinates: Float[Tensor, " coordinates"], multiple: int = 1) -> Iterator[slice]:
    """Stretches of coordinates to work on one after the other: of a `multiple` of coordinates, but for the last."""
    size = _CPU_BLOCK if coordinates.device.type == "cpu" else _OTHER_BLOCK
    even = len(coordinates) // multiple * multiple
    for start in range(0, even, size):
        yield slice(start, min(start + size, even))
    if even < len(coordinates):
        yield slice(even, len(coordinates))


def pieces(rows: Float[Tensor, "rows coordinates"]) -> Float[Tensor, "pieces rows part"]:
    """A view of a block of coordinates as a batch of pieces; one piece where it does not divide."""
    size = _PIECE if rows.shape[1] % _PIECE == 0 else rows.shape[1]
    return rows.unflatten(1, (-1, size)).transpose(0, 1)


def affine(
    weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, "outputs 1"], x: Float[Tensor, "pieces inputs part"]
) -> Float[Tensor, "pieces outputs part"]:
    """W x + b."""
    return torch.baddbmm(bias, weight.expand(len(x), -1, -1), x)
