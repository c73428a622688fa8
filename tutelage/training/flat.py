"""An optimizee seen as a function of one vector of coordinates."""

from functools import cached_property

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from ..optimizees import Optimizee


class FlatOptimizee:
    """`optimizee` with its parameters flattened, leaf after leaf, into a vector of `num_coordinates`."""

    def __init__(self, optimizee: Optimizee):
        self.optimizee = optimizee

    @cached_property
    def _template(self):
        shapes = jax.eval_shape(self.optimizee.init, jax.eval_shape(lambda: jax.random.key(0)))
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    @property
    def num_coordinates(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self._template))

    def init(self, key: PRNGKeyArray) -> Float[Array, " coordinates"]:
        return ravel_pytree(self.optimizee.init(key))[0]

    def loss_and_gradient(
        self, coordinates: Float[Array, " coordinates"], key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Float[Array, " coordinates"]]:
        """The loss on a batch drawn with `key`, and its gradient."""
        _, unravel = ravel_pytree(self._template)
        batch = self.optimizee.sample(key)
        return jax.value_and_grad(lambda x: self.optimizee.loss(unravel(x), batch))(coordinates)
