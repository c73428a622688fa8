"""Which coordinates belong to which tensor, where all tensors lie one after the other."""

from itertools import accumulate

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


class Tensors:
    """The leaves of a tree that are not empty, as stretches of one row of coordinates."""

    def __init__(self, tree: PyTree):
        leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.size]
        self.sizes = [leaf.size for leaf in leaves]
        self.ranks = [leaf.ndim for leaf in leaves]
        self.starts = list(accumulate(self.sizes, initial=0))[:-1]

    def mean(self, x: Float[Array, "features coordinates"]) -> Float[Array, "features tensors"]:
        """The mean over each tensor's coordinates."""
        parts = zip(self.starts, self.sizes, strict=True)
        return jnp.stack([x[:, start : start + size].mean(axis=1) for start, size in parts], axis=1)

    def spread(self, x: Float[Array, "features tensors"]) -> Float[Array, "features coordinates"]:
        """Each tensor's value at all of its coordinates."""
        columns = [jnp.broadcast_to(x[:, t : t + 1], (x.shape[0], size)) for t, size in enumerate(self.sizes)]
        return jnp.concatenate(columns, axis=1)
