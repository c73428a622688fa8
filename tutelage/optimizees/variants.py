"""Variants of any optimizee: noisy, rescaled, sparse gradients, log objective. They can be put around each other.

Of the ensemble in Wichrowska et al. (2017). Noise and sparsity are in the gradient that the optimizer sees; the loss
and its derivative, which training and evaluation measure, stay those of the problem.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .optimizee import Batch, Optimizee, Params


class _Variant(Optimizee):
    """The same problem as `inner`, until a subclass changes something."""

    inner: Optimizee

    def init(self, key: PRNGKeyArray) -> Params:
        return self.inner.init(key)

    def sample(self, key: PRNGKeyArray) -> Batch:
        return self.inner.sample(key)

    def loss(self, params: Params, batch: Batch) -> Float[Array, ""]:
        return self.inner.loss(params, batch)

    def observe(self, gradient: Params, batch: Batch) -> Params:
        return self.inner.observe(gradient, batch)


class _RandomlyObserved(_Variant):
    """A batch is the inner one and a key for the randomness of what is seen."""

    def sample(self, key: PRNGKeyArray) -> tuple[Batch, PRNGKeyArray]:
        inner_key, own_key = jax.random.split(key)
        return self.inner.sample(inner_key), own_key

    def loss(self, params: Params, batch: tuple[Batch, PRNGKeyArray]) -> Float[Array, ""]:
        return self.inner.loss(params, batch[0])

    def _each(self, gradient: Params, key: PRNGKeyArray, change) -> Params:
        leaves, structure = jax.tree.flatten(gradient)
        keys = jax.random.split(key, len(leaves))
        return jax.tree.unflatten(structure, [change(k, x) for k, x in zip(keys, leaves, strict=True)])


class Noisy(_RandomlyObserved):
    """Every element of the gradient is seen with Gaussian noise of standard deviation `noise`."""

    noise: float = eqx.field(static=True)

    def observe(self, gradient: Params, batch: tuple[Batch, PRNGKeyArray]) -> Params:
        inner = self.inner.observe(gradient, batch[0])
        return self._each(inner, batch[1], lambda k, x: x + self.noise * jax.random.normal(k, x.shape, x.dtype))


class SparseGradient(_RandomlyObserved):
    """Every element of the gradient is seen with probability `kept`, otherwise as 0."""

    kept: float = eqx.field(static=True)

    def observe(self, gradient: Params, batch: tuple[Batch, PRNGKeyArray]) -> Params:
        inner = self.inner.observe(gradient, batch[0])
        return self._each(
            inner, batch[1], lambda k, x: jnp.where(jax.random.bernoulli(k, jnp.float32(self.kept), x.shape), x, 0.0)
        )


class Rescaled(_Variant):
    """f(s θ) from θ_0 / s: the same problem with parameters in another unit."""

    scale: float = eqx.field(static=True)

    def init(self, key: PRNGKeyArray) -> Params:
        return jax.tree.map(lambda x: x / self.scale, self.inner.init(key))

    def loss(self, params: Params, batch: Batch) -> Float[Array, ""]:
        return self.inner.loss(jax.tree.map(lambda x: self.scale * x, params), batch)


class LogObjective(_Variant):
    """log(1 + f / ε), ε = 1e-3: flat far away, steep near the minimum, which stays 0."""

    def loss(self, params: Params, batch: Batch) -> Float[Array, ""]:
        return jnp.log1p(self.inner.loss(params, batch) / 1e-3)
