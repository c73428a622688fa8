"""Truncated unrolling: the learned optimizer's meta-gradient on segments of an optimizee's training.

A segment of T steps starts at θ_0 and has T+1 points, each with the loss of its own batch; the meta-loss is their
sum. The gradient that enters the optimizer is treated as data unless second derivatives are
asked for.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from ..optimizees import Optimizee
from ..optimizers import CoordinatewiseOptimizer, LearnedOptimizer
from .objective import (
    SEGMENT_LENGTH,
    Carry,
    MetaObjective,
    Segment,
    finite_tasks,
    mean_over_tasks,
    point_keys,
)
from .parallel import COORDINATES, TASKS
from .replay import replay_gradient


class BlockwiseUnroll(MetaObjective):
    """The exact meta-gradient of a coordinatewise optimizer without second derivatives.

    With the gradients g_t as data, θ_t = θ_0 + Σ_{s<t} Δ_s, so the derivative of Σ_t f_t(θ_t) with respect to the
    update Δ_s is Σ_{t>s} g_t: numbers that the forward pass has already. What is left is the gradient of
    Σ_s Δ_s · Σ_{t>s} g_t for the updates on recorded gradients, which `replay_gradient` computes block by block.
    The optimizee is differentiated once and none of its activations is kept.
    """

    def start(self, optimizer: LearnedOptimizer, keys: Key[Array, " tasks"]) -> Carry:
        assert isinstance(optimizer, CoordinatewiseOptimizer)
        flat, shard = self.coordinates()
        return jax.vmap(flat.init)(keys), optimizer.init_coordinates(keys.shape[0] * shard.size)

    def segment(self, optimizer: LearnedOptimizer, carry: Carry, keys: Key[Array, " tasks"]) -> Segment:
        assert isinstance(optimizer, CoordinatewiseOptimizer)
        flat, shard = self.coordinates()
        num_tasks = keys.shape[0]
        start_params, start_state = carry
        evaluate = jax.vmap(flat.loss_and_gradient)

        def step(carry, keys):
            params, state = carry
            losses, gradients = evaluate(params, keys)
            mine = shard.local(gradients)
            updates, state = optimizer.step(mine.reshape(-1), state)
            params = params + shard.gather(updates.reshape(num_tasks, -1))
            return (params, state), (losses, mine)

        batch_keys = point_keys(keys)
        (params, state), (losses, gradients) = lax.scan(step, (start_params, start_state), batch_keys[:-1])
        last_loss, last_gradient = evaluate(params, batch_keys[-1])
        last_gradient = shard.local(last_gradient)
        losses = jnp.concatenate([losses, last_loss[None]])

        finite = finite_tasks(losses, gradients, last_gradient[None])
        # A diverged task becomes zeros with weight 0: the weight alone would leave 0 · inf.
        kept = jnp.repeat(finite, shard.size)
        later = jnp.cumsum(jnp.concatenate([gradients[1:], last_gradient[None]])[::-1], axis=0)[::-1]
        _, gradient, _ = replay_gradient(
            optimizer,
            jax.tree.map(lambda x: jnp.where(kept, x, 0.0), start_state),
            jnp.where(kept, gradients.reshape(SEGMENT_LENGTH, -1), 0.0),
            jnp.where(kept, later.reshape(SEGMENT_LENGTH, -1), 0.0),
            kept * jnp.tile(shard.is_real(), num_tasks),
            lambda update, cotangent: update * cotangent,
        )
        gradient = mean_over_tasks(gradient, finite, (TASKS, COORDINATES))
        return Segment(losses, gradient, finite, (params, state))


@jax.custom_vjp
def _loss_and_detached_gradient(optimizee, params, batch):
    return jax.value_and_grad(optimizee.loss)(params, batch)


def _detached_forward(optimizee, params, batch):
    loss, gradient = _loss_and_detached_gradient(optimizee, params, batch)
    return (loss, gradient), gradient


def _detached_backward(gradient, cotangents):
    of_loss, _ = cotangents
    return None, jax.tree.map(lambda g: of_loss * g, gradient), None


_loss_and_detached_gradient.defvjp(_detached_forward, _detached_backward)


class AutodiffUnroll(MetaObjective):
    """The meta-gradient by differentiating through the unroll, for any learned optimizer.

    With `second_derivatives` the gradient that enters the optimizer depends on its weights too; without, the loss's
    own derivative is the stored gradient, so that the optimizee is not differentiated a second time.
    """

    second_derivatives: bool = eqx.field(static=True, default=False)

    def start(self, optimizer: LearnedOptimizer, keys: Key[Array, " tasks"]) -> Carry:
        params = jax.vmap(self.optimizee.init)(keys)
        return params, jax.vmap(optimizer.init)(params)

    def meta_loss(
        self, optimizer: LearnedOptimizer, carry: Carry, keys: Key[Array, " tasks"]
    ) -> tuple[Float[Array, ""], tuple[Float[Array, " points"], Carry]]:
        """The sum of one task's losses, differentiable in the optimizer; with the losses and the carry."""

        def evaluate(params, key):
            batch = self.optimizee.sample(key)
            if self.second_derivatives:
                return jax.value_and_grad(self.optimizee.loss)(params, batch)
            return _loss_and_detached_gradient(self.optimizee, params, batch)

        def step(carry, key):
            params, state = carry
            loss, gradient = evaluate(params, key)
            updates, state = optimizer.update(gradient, state, params, value=loss)
            return (jax.tree.map(jnp.add, params, updates), state), loss

        carry, losses = lax.scan(step, carry, keys[:-1])
        losses = jnp.append(losses, evaluate(carry[0], keys[-1])[0])
        return jnp.sum(losses), (losses, carry)

    def segment(self, optimizer: LearnedOptimizer, carry: Carry, keys: Key[Array, " tasks"]) -> Segment:
        per_task = eqx.filter_vmap(eqx.filter_value_and_grad(self.meta_loss, has_aux=True), in_axes=(None, 0, 1))
        (_, (losses, carry)), gradients = per_task(optimizer, carry, point_keys(keys))
        finite = finite_tasks(losses.T, *(g[None] for g in jax.tree.leaves(gradients)))

        def total(gradient):
            kept = finite.reshape(-1, *(1,) * (gradient.ndim - 1))
            return jnp.where(kept, gradient, 0.0).sum(axis=0)

        gradient = mean_over_tasks(jax.tree.map(total, gradients), finite, (TASKS,))
        return Segment(losses.T, gradient, finite, carry)


def make_unroll(optimizer: LearnedOptimizer, optimizee: Optimizee, second_derivatives: bool) -> MetaObjective:
    """The fastest exact way for this optimizer."""
    if isinstance(optimizer, CoordinatewiseOptimizer) and not second_derivatives:
        return BlockwiseUnroll(optimizee)
    return AutodiffUnroll(optimizee, second_derivatives)
