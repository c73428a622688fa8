"""Gradient estimators that do not differentiate: evolution strategies, plain and persistent.

Both estimate the gradient of the meta-loss smoothed by Gaussian noise of standard deviation σ on the optimizer's
weights, from pairs of unrolls with opposite noise on the same batches. They do not suffer from exploding gradients,
and what they are the gradient of includes all dependence on the weights: there is no detached gradient here.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from ..optimizers import LearnedOptimizer
from .objective import MetaObjective, Segment, finite_tasks, mean_over_tasks, sum_finite
from .parallel import TASKS
from .unroll import AutodiffUnroll, Unrolled


class Antithetic(NamedTuple):
    """Where the two trajectories of each task stand, and the noise that they have had so far."""

    plus: Unrolled
    minus: Unrolled
    noise: PyTree


class _Evolution(MetaObjective):
    """The noise, and what both estimators make of a pair of meta-losses."""

    unroll: AutodiffUnroll
    sigma: float = eqx.field(static=True)

    def noise(self, optimizer: LearnedOptimizer, key: PRNGKeyArray) -> PyTree:
        """ε, one number per weight."""
        leaves, structure = jax.tree.flatten(eqx.filter(optimizer, eqx.is_inexact_array))
        keys = jax.random.split(jax.random.fold_in(key, 6), len(leaves))
        drawn = [self.sigma * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(structure, drawn)

    def slope(self, above: Float[Array, ""], below: Float[Array, ""], noise: PyTree) -> PyTree:
        """(L₊ - L₋) ε / (2 σ²)."""
        return jax.tree.map(lambda x: (above - below) * x / (2 * self.sigma**2), noise)


class EvolutionStrategies(_Evolution):
    """Truncated antithetic evolution strategies: (L(φ + ε) - L(φ - ε)) ε / (2 σ²), ε ~ N(0, σ²), for each segment.

    Both unrolls of a segment begin where the unroll with φ itself ended the last one. As in truncated backpropagation
    the effect on later segments is left out.
    """

    def start(self, optimizer: LearnedOptimizer, keys: Key[Array, " tasks"]) -> Unrolled:
        return self.unroll.start(optimizer, keys)

    def segment(self, optimizer: LearnedOptimizer, carry: Unrolled, keys: Key[Array, " tasks"]) -> Segment:
        def task(carry, point_keys, key):
            noise = self.noise(optimizer, key)
            plus, minus = _moved(optimizer, noise, 1.0), _moved(optimizer, noise, -1.0)
            above, _ = self.unroll.unroll(plus, carry, point_keys, key)
            below, _ = self.unroll.unroll(minus, carry, point_keys, key)
            _, (losses, after) = self.unroll.unroll(optimizer, carry, point_keys, key)
            return losses, self.slope(above, below, noise), after

        per_task = jax.vmap(task, in_axes=(0, 1, 0), out_axes=(1, 0, 0))
        return _segment(*per_task(carry, self.unroll.point_keys(keys), keys))


class PersistentEvolutionStrategies(_Evolution):
    """Persistent evolution strategies (Vicol, Metz and Sohl-Dickstein 2021), antithetic.

    The two trajectories of a task run on across segments, each with fresh noise in every segment, and a segment's
    losses are multiplied with the sum of all noise so far. The estimate is unbiased for the whole unroll, not only for
    the segment. The losses reported are the mean of both trajectories.
    """

    def start(self, optimizer: LearnedOptimizer, keys: Key[Array, " tasks"]) -> Antithetic:
        start = self.unroll.start(optimizer, keys)
        weights = eqx.filter(optimizer, eqx.is_inexact_array)
        return Antithetic(start, start, jax.tree.map(lambda x: jnp.zeros((len(keys), *x.shape), x.dtype), weights))

    def segment(self, optimizer: LearnedOptimizer, carry: Antithetic, keys: Key[Array, " tasks"]) -> Segment:
        def task(carry, point_keys, key):
            noise = self.noise(optimizer, key)
            so_far = jax.tree.map(jnp.add, carry.noise, noise)
            above, (plus_losses, plus) = self.unroll.unroll(_moved(optimizer, noise, 1.0), carry.plus, point_keys, key)
            below, (minus_losses, minus) = self.unroll.unroll(
                _moved(optimizer, noise, -1.0), carry.minus, point_keys, key
            )
            losses = 0.5 * (plus_losses + minus_losses)
            return losses, self.slope(above, below, so_far), Antithetic(plus, minus, so_far)

        per_task = jax.vmap(task, in_axes=(0, 1, 0), out_axes=(1, 0, 0))
        return _segment(*per_task(carry, self.unroll.point_keys(keys), keys))


def _moved(optimizer: LearnedOptimizer, noise: PyTree, sign: float) -> LearnedOptimizer:
    return eqx.apply_updates(optimizer, jax.tree.map(lambda x: sign * x, noise))


def _segment(losses: Float[Array, "points tasks"], gradients: PyTree, carry: PyTree) -> Segment:
    finite = finite_tasks(losses, *(g[None] for g in jax.tree.leaves(gradients)))
    return Segment(losses, mean_over_tasks(sum_finite(gradients, finite), finite, (TASKS,)), finite, carry)
