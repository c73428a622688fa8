"""What an update rule is in PyTorch: fixed weights, and a step on one batch of coordinates."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

_BLOCK = 1 << 20
# Where parameters are shorter, asking of each coordinate which it belongs to takes less than a column for each of them.
_SHORT = 1 << 10
# Batched products of small matrices use a CPU's cores better than one of long ones.
_PIECE = 1 << 10
START: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
"""What a rule remembers at first is of this kind, whatever PyTorch's defaults are."""


@dataclass(frozen=True)
class Block:
    """Coordinates of a batch that are worked on at once."""

    coordinates: slice
    tensors: slice
    """The parameters that they belong to."""
    sizes: list[int]
    """How many belong to each."""
    counts: Int[Tensor, " tensors"]
    """The same as a tensor."""

    def spread(self, x: Shaped[Tensor, "*features tensors"]) -> Shaped[Tensor, "*features _"]:
        """Each parameter's value at all of its coordinates; one for all where there is one parameter."""
        if len(self.sizes) == 1:
            return x
        size = self.coordinates.stop - self.coordinates.start
        if size < _SHORT * len(self.sizes):
            return x.repeat_interleave(self.counts, dim=-1, output_size=size)
        columns = zip(x.split(1, dim=-1), self.sizes, strict=True)
        return torch.cat([column.expand(*x.shape[:-1], size) for column, size in columns], dim=-1)

    def sum(self, x: Float[Tensor, "features coordinates"]) -> Float[Tensor, "features tensors"]:
        """The sum over each parameter's coordinates."""
        return torch.stack([part.sum(dim=1) for part in x.split(self.sizes, dim=1)], dim=1)


@dataclass(frozen=True)
class Batch:
    """The coordinates of all parameters, one parameter after the other, and what is remembered of them."""

    sizes: list[int]
    ranks: list[int]
    """The number of axes of each parameter."""
    coordinates: Float[Tensor, "rows coordinates"]
    tensors: Float[Tensor, "tensor_rows tensors"]
    problem: Float[Tensor, " problem_rows"]
    block_size: int
    """Coordinates worked on at once."""

    @cached_property
    def counts(self) -> Float[Tensor, " tensors"]:
        """The `sizes` as a tensor."""
        return torch.tensor(self.sizes, dtype=torch.float32, device=self.coordinates.device)

    @cached_property
    def are_vectors(self) -> Bool[Tensor, " tensors"]:
        """Which parameters have fewer than two axes."""
        return torch.tensor([rank < 2 for rank in self.ranks], device=self.coordinates.device)

    @cached_property
    def in_vectors(self) -> tuple[Int[Tensor, " chosen"], Int[Tensor, " chosen"]]:
        """The coordinates of parameters with fewer than two axes, and of which parameter each is."""
        numbers = torch.arange(sum(self.sizes), device=self.coordinates.device)
        parts = numbers.split(self.sizes)
        chosen = torch.cat([numbers[:0], *(part for part, rank in zip(parts, self.ranks, strict=True) if rank < 2)])
        return chosen, torch.bucketize(chosen, torch.stack([part[-1] for part in parts]))

    @cached_property
    def blocks(self) -> list[Block]:
        """All coordinates, in order."""
        ends, found, first = list(accumulate(self.sizes)), [], 0
        for part in stretches(ends[-1], self.block_size):
            last = first
            while ends[last] < part.stop:
                last += 1
            inner = [part.start, *ends[first:last], part.stop]
            sizes = [b - a for a, b in pairwise(inner)]
            counts = torch.tensor(sizes, device=self.coordinates.device)
            found.append(Block(part, slice(first, last + 1), sizes, counts))
            first = last + (ends[last] == part.stop)
        return found


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
    cpu_block: ClassVar[int] = 1 << 14
    """Coordinates worked on at once on a CPU, whose cache should hold what they need."""

    def start_coordinates(self, size: int, seed: int) -> Float[Tensor, "rows coordinates"]:
        """What is remembered at first of a parameter with this many coordinates; `seed` is for random parts."""
        return torch.zeros(sum(self.row_sizes), size, **START)

    def start_tensor(self) -> Float[Tensor, " tensor_rows"]:
        """What is remembered at first of a parameter as a whole."""
        return torch.zeros(self.tensor_rows, **START)

    def start_problem(self) -> Float[Tensor, " problem_rows"]:
        """What is remembered at first of all parameters together."""
        return torch.zeros(self.problem_rows, **START)

    def block_size(self, device: torch.device) -> int:
        """Coordinates worked on at once; elsewhere than on a CPU that bounds memory."""
        return self.cpu_block if device.type == "cpu" else _BLOCK

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
        for block in stretches(len(gradients), batch.block_size, _PIECE):
            memory = [pieces(part) for part in batch.coordinates[:, block].split(self.row_sizes)]
            working = tuple(part.float() for part in memory)
            pieces(moves[None, block]).copy_(self.advance(pieces(gradients[None, block]), working))
            for part, advanced in zip(memory, working, strict=True):
                part.copy_(advanced)  # does nothing where they are the same
        return moves


def stretches(total: int, size: int, multiple: int = 1) -> Iterator[slice]:
    """Numbers from 0 up to `total`, by `size`; what is no `multiple` at the end for itself."""
    even = total // multiple * multiple
    for start in range(0, even, size):
        yield slice(start, min(start + size, even))
    if even < total:
        yield slice(even, total)


def pieces(rows: Float[Tensor, "rows coordinates"]) -> Float[Tensor, "pieces rows part"]:
    """A view of a block of coordinates as a batch of pieces; one piece where it does not divide."""
    size = _PIECE if rows.shape[1] % _PIECE == 0 else rows.shape[1]
    return rows.unflatten(1, (-1, size)).transpose(0, 1)


def affine(
    weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, "outputs 1"], x: Float[Tensor, "pieces inputs part"]
) -> Float[Tensor, "pieces outputs part"]:
    """W x + b."""
    return torch.baddbmm(bias, weight.expand(len(x), -1, -1), x)
