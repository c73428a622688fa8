"""Which coordinates belong to which tensor, where all tensors lie one after the other."""

from collections.abc import Sequence
from itertools import accumulate

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree


class Stretches:
    """Stretches of these lengths, one after the other, of one row of coordinates."""

    def __init__(self, sizes: Sequence[int]):
        self.sizes = sizes
        self.starts = list(accumulate(sizes, initial=0))[:-1]

    def sum(self, x: Float[Array, "features coordinates"]) -> Float[Array, "features stretches"]:
        """The sum over each stretch's coordinates."""
        parts = zip(self.starts, self.sizes, strict=True)
        return jnp.stack([x[:, start : start + size].sum(axis=1) for start, size in parts], axis=1)

    def mean(self, x: Float[Array, "features coordinates"]) -> Float[Array, "features stretches"]:
        """The mean over each stretch's coordinates."""
        return self.sum(x) / np.array(self.sizes, np.float32)

    def spread(self, x: Float[Array, "features stretches"]) -> Float[Array, "features coordinates"]:
        """Each stretch's value at all of its coordinates."""
        columns = [jnp.broadcast_to(x[:, t : t + 1], (x.shape[0], size)) for t, size in enumerate(self.sizes)]
        return jnp.concatenate(columns, axis=1)


class Tensors(Stretches):
    """The leaves of a tree that are not empty."""

    def __init__(self, tree: PyTree):
        leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.size]
        super().__init__([leaf.size for leaf in leaves])
        self.ranks = [leaf.ndim for leaf in leaves]
