"""Which coordinates belong to which tensor, where all tensors lie one after the other."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree, Shaped


class Stretches:
    """Stretches of these lengths, one after the other, of one row of coordinates."""

    def __init__(self, sizes: Sequence[int]):
        self.sizes = tuple(sizes)
        self.starts = tuple(accumulate(self.sizes, initial=0))[:-1]

    def sum(self, x: Float[Array, "features coordinates"]) -> Float[Array, "features stretches"]:
        """The sum over each stretch's coordinates."""
        return _sum(self.sizes, x)

    def spread(self, x: Shaped[Array, "features stretches"]) -> Shaped[Array, "features coordinates"]:
        """Each stretch's value at all of its coordinates."""
        return _spread(self.sizes, x)


class Tensors(Stretches):
    """The leaves of a tree that are not empty."""

    def __init__(self, tree: PyTree):
        leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.size]
        super().__init__([leaf.size for leaf in leaves])
        self.ranks = [leaf.ndim for leaf in leaves]

    def in_vectors(self) -> tuple[Int[Array, " chosen"], Int[Array, " chosen"]]:
        """Which coordinates are of vectors and scalars, and of which tensor each of them is."""
        vectors = [tensor for tensor, rank in enumerate(self.ranks) if rank < 2]
        if not vectors:
            return jnp.arange(0), jnp.arange(0)
        joined = Stretches([self.sizes[tensor] for tensor in vectors])
        moves = [self.starts[tensor] - start for tensor, start in zip(vectors, joined.starts, strict=True)]
        tensor, move = joined.spread(jnp.array([vectors, moves]))
        return jnp.arange(len(tensor)) + move, tensor


# The two are each other's transpose; autodiff's own adds up as many arrays of all coordinates as there are stretches.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum(sizes, x):
    parts = jnp.split(x, np.cumsum(sizes[:-1]), axis=1)
    return jnp.stack([part.sum(axis=1) for part in parts], axis=1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _spread(sizes, x):
    columns = [jnp.broadcast_to(x[:, t : t + 1], (x.shape[0], size)) for t, size in enumerate(sizes)]
    # fused into what uses it, XLA would ask of every number which stretch it belongs to
    return lax.optimization_barrier(jnp.concatenate(columns, axis=1))


_sum.defvjp(lambda sizes, x: (_sum(sizes, x), None), lambda sizes, _, of_sums: (_spread(sizes, of_sums),))
_spread.defvjp(lambda sizes, x: (_spread(sizes, x), None), lambda sizes, _, of_all: (_sum(sizes, of_all),))
