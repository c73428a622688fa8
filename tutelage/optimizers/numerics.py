"""Functions with the derivatives that learned optimizers need."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def root(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The square root, with derivative 0 at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def root_mean_square(x: Float[Array, "..."]) -> Float[Array, ""]:
    """Over all of x, with derivative 0 where all of it is 0."""
    return root(jnp.mean(x**2))


def straight_through_clip(x: Float[Array, "..."], low: float, high: float) -> Float[Array, "..."]:
    """`x` cut to [low, high], with the derivative of x everywhere."""
    return x + lax.stop_gradient(jnp.clip(x, low, high) - x)
