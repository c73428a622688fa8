"""Truncated unrolling: the learned optimizer's meta-gradient on segments of an optimizee's training.

A segment of T steps starts at θ_0 and has T+1 points, each with the loss of its own batch; the meta-loss is their
sum. The gradient that enters the optimizer is treated as data unless second derivatives are
asked for.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray, PyTree

from ..optimizers import KEPT, CoordinatewiseOptimizer, LearnedOptimizer, start_optimizer
from .augmentation import Constants
from .flat import coordinate_shard, flat_points, flat_teachers, start_flat
from .objective import Mixture, Segment, TaskObjective, begin, finite_tasks, mean_over_tasks, sum_finite
from .parallel import COORDINATES, TASKS
from .replay import replay_gradient
from .teachers import Teachers


class Unrolled(NamedTuple):
    """Where tasks stand between segments. All but the state of coordinatewise optimizers leads with the tasks."""

    key: Key[Array, " tasks"]
    constants: Constants
    params: PyTree
    state: PyTree
    teachers: Any
    """The teachers' states, in self-improving."""
    initial_loss: Float[Array, " tasks"]
    is_first: Bool[Array, " tasks"]
    """Whether the next segment is the first: its initial state depends on the optimizer's weights."""


class Unroll(TaskObjective):
    """What both ways to compute the meta-gradient have in common."""

    mixture: Mixture | None = None
    """Self-improving, where that is on."""

    def teachers(self, mixture: Mixture) -> Teachers:
        """For parameters as the unroll has them."""
        return mixture.teachers

    def teacher_states(self, params: PyTree) -> Any:
        return None if self.mixture is None else self.teachers(self.mixture).init(params)


class BlockwiseUnroll(Unroll):
    """The exact meta-gradient of a coordinatewise optimizer without second derivatives.

    With the gradients g_t as data, θ_t = θ_0 + Σ_{s<t} Δ_s, so the derivative of Σ_t f_t(θ_t) with respect to the
    update Δ_s is Σ_{t>s} ∇f_t: numbers that the forward pass has already. What is left is the gradient of
    Σ_s Δ_s · Σ_{t>s} ∇f_t for the updates on recorded gradients, which `replay_gradient` computes block by block.
    The optimizee is differentiated once and none of its activations is kept.
    """

    def teachers(self, mixture: Mixture) -> Teachers:
        return flat_teachers(self, mixture.teachers)

    def start(self, optimizer: LearnedOptimizer, keys: Key[Array, " tasks"]) -> Unrolled:
        assert isinstance(optimizer, CoordinatewiseOptimizer)
        constants, params = start_flat(self, keys)
        return Unrolled(
            keys,
            constants,
            params,
            optimizer.init_coordinates(len(keys) * coordinate_shard(self).size),
            jax.vmap(self.teacher_states)(params),
            jnp.zeros(len(keys), params.dtype),
            jnp.ones(len(keys), bool),
        )

    def segment(self, optimizer: LearnedOptimizer, carry: Unrolled, keys: Key[Array, " tasks"]) -> Segment:
        assert isinstance(optimizer, CoordinatewiseOptimizer)
        shard, num_tasks = coordinate_shard(self), keys.shape[0]

        def step(loop, point_keys):
            params, state, teacher_states = loop
            point = flat_points(self, carry.constants, params, point_keys, keys)
            seen = shard.local(point.seen)
            updates, state = optimizer.step(seen.reshape(-1), state)
            updates, learned = shard.gather(updates.reshape(num_tasks, -1)), None
            if self.mixture is not None:
                chosen = jax.vmap(self.mixture.choose)(point_keys)
                updates, teacher_states = jax.vmap(self.teachers(self.mixture).follow)(
                    chosen, point.seen, teacher_states, params, updates
                )
                learned = chosen < 0
            derivative = None if self.sees_derivative else shard.local(point.derivative)
            return (params + updates, state, teacher_states), (point.loss, seen, derivative, learned)

        batch_keys = self.point_keys(keys)
        loop, (losses, gradients, derivatives, learned) = self.scan_steps(
            step, (carry.params, carry.state, carry.teachers), batch_keys[:-1]
        )
        params, state, teacher_states = loop
        last = flat_points(self, carry.constants, params, batch_keys[-1], keys)
        losses = jnp.concatenate([losses, last.loss[None]])
        initial_loss = jnp.where(carry.is_first, losses[0], carry.initial_loss)
        weights = jax.vmap(jax.grad(self.meta_loss), in_axes=(1, 0), out_axes=1)(losses, initial_loss)
        derivatives = jnp.concatenate(
            [gradients if derivatives is None else derivatives, shard.local(last.derivative)[None]]
        )

        finite = finite_tasks(losses, weights, gradients, derivatives)
        # A diverged task becomes zeros with weight 0: the weight alone would leave 0 · inf.
        kept = jnp.repeat(finite, shard.size)
        later = jnp.cumsum((weights[1:, :, None] * derivatives[1:])[::-1], axis=0)[::-1]
        acting = self.reached()[:-1, None] if learned is None else learned & self.reached()[:-1, None]
        later = jnp.where(acting[:, :, None], later, 0.0)
        steps = self.settings.segment_length
        _, gradient, _ = replay_gradient(
            optimizer,
            jax.tree.map(lambda x: jnp.where(kept, x, 0.0), carry.state),
            carry.is_first[0],
            jnp.where(kept, gradients.reshape(steps, -1), 0.0),
            jnp.where(kept, later.reshape(steps, -1), 0.0),
            kept * jnp.tile(shard.is_real(), num_tasks),
            lambda update, cotangent: update * cotangent,
        )
        gradient = mean_over_tasks(gradient, finite, (TASKS, COORDINATES))
        losses = jnp.where(self.reached()[:, None], losses, losses[-1])
        after = carry._replace(
            params=params,
            state=state,
            teachers=teacher_states,
            initial_loss=initial_loss,
            is_first=jnp.zeros_like(carry.is_first),
        )
        return Segment(losses, gradient, finite, after)


@jax.custom_vjp
def _detached_point(objective, constants, params, key, segment_key):
    """The objective, differentiable in the parameters, and the gradient that the optimizer sees, as data."""
    return _detached_forward(objective, constants, params, key, segment_key)[0]


def _detached_forward(objective, constants, params, key, segment_key):
    loss, derivative, seen = objective.point(constants, params, key, segment_key)
    return (loss, seen), derivative


def _detached_backward(derivative, cotangents):
    of_loss, _ = cotangents
    return None, None, jax.tree.map(lambda g: of_loss * g, derivative), None, None


_detached_point.defvjp(_detached_forward, _detached_backward)


class AutodiffUnroll(Unroll):
    """The meta-gradient by differentiating through the unroll, for any learned optimizer.

    With `second_derivatives` the gradient that enters the optimizer depends on its weights too; without, the loss's
    own derivative is the stored gradient, so that the optimizee is not differentiated a second time. What a step of
    the optimizer computes is computed again in the backward pass, so that a step keeps no more than its state and
    what the optimizer names `KEPT`.
    """

    second_derivatives: bool = eqx.field(static=True, default=False)

    def start(self, optimizer: LearnedOptimizer, keys: Key[Array, " tasks"]) -> Unrolled:
        return jax.vmap(self.start_task, in_axes=(None, 0))(optimizer, keys)

    def start_task(self, optimizer: LearnedOptimizer, key: PRNGKeyArray) -> Unrolled:
        """One task."""
        constants = self.draw(key)
        params = self.task(constants).init(key)
        loss_type = jax.eval_shape(lambda: self.point(constants, params, key, key).loss)
        return Unrolled(
            key,
            constants,
            params,
            start_optimizer(optimizer, params, key),
            self.teacher_states(params),
            jnp.zeros((), loss_type.dtype),
            jnp.ones((), bool),
        )

    def _evaluate(
        self, constants: Constants, params: PyTree, key: PRNGKeyArray, segment_key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], PyTree]:
        if not self.second_derivatives:
            return _detached_point(self, constants, params, key, segment_key)
        objective, told = self.differentiable_point(constants, params, key, segment_key)
        loss, seen = told(params)
        return (loss if self.settings.objective_batches == 0 else objective(params)), seen

    def unroll(
        self, optimizer: LearnedOptimizer, carry: Unrolled, keys: Key[Array, " points"], segment_key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[Float[Array, " points"], Unrolled]]:
        """The meta-loss of one task's segment, differentiable in the optimizer; with the losses and the carry."""
        state = begin(carry.is_first, start_optimizer(optimizer, carry.params, carry.key), carry.state)
        update = jax.checkpoint(_update, prevent_cse=False, policy=jax.checkpoint_policies.save_only_these_names(KEPT))

        def step(loop, key):
            params, state, teacher_states = loop
            loss, seen = self._evaluate(carry.constants, params, key, segment_key)
            updates, state = update(optimizer, seen, state, params, lax.stop_gradient(loss))
            if self.mixture is not None:
                data = lax.stop_gradient((seen, teacher_states, params))
                updates, teacher_states = self.teachers(self.mixture).follow(self.mixture.choose(key), *data, updates)
            return (jax.tree.map(jnp.add, params, updates), state, teacher_states), loss

        (params, state, teacher_states), losses = self.scan_steps(
            step, (carry.params, state, carry.teachers), keys[:-1]
        )
        last, _ = self._evaluate(carry.constants, params, keys[-1], segment_key)
        losses = jnp.append(losses, last)
        initial_loss = lax.stop_gradient(jnp.where(carry.is_first, losses[0], carry.initial_loss))
        after = carry._replace(
            params=params,
            state=state,
            teachers=teacher_states,
            initial_loss=initial_loss,
            is_first=jnp.zeros((), bool),
        )
        return self.meta_loss(losses, initial_loss), (jnp.where(self.reached(), losses, last), after)

    def segment(self, optimizer: LearnedOptimizer, carry: Unrolled, keys: Key[Array, " tasks"]) -> Segment:
        per_task = eqx.filter_vmap(
            eqx.filter_value_and_grad(self.unroll, has_aux=True), in_axes=(None, 0, 1, 0), out_axes=((0, (1, 0)), 0)
        )
        (_, (losses, carry)), gradients = per_task(optimizer, carry, self.point_keys(keys), keys)
        finite = finite_tasks(losses, *(g[None] for g in jax.tree.leaves(gradients)))
        gradient = mean_over_tasks(sum_finite(gradients, finite), finite, (TASKS,))
        return Segment(losses, gradient, finite, carry)


def _update(optimizer, seen, state, params, loss):
    return optimizer.update(seen, state, params, value=loss)
