"""Imitation: regressing the learned optimizer's updates onto a teacher's (Algorithm 2, equation 1).

A teacher optimizes an optimizee; on the gradients that it met, segment by segment, the learned optimizer's updates are
pulled towards the teacher's: Σ_t ‖Δθ_t^teacher - Δθ_t^φ‖².
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, PyTree

from ..optimizers import CoordinatewiseOptimizer, LearnedOptimizer, start_optimizer
from .augmentation import Constants
from .flat import coordinate_shard, flat_points, flat_teachers, num_coordinates, start_flat
from .objective import Segment, TaskObjective, begin, finite_tasks, mean_over_tasks, sum_finite
from .parallel import COORDINATES, TASKS
from .replay import replay_gradient
from .teachers import Teachers


class Imitated(NamedTuple):
    """Where tasks stand between segments. All but the state of coordinatewise optimizers leads with the tasks."""

    key: Key[Array, " tasks"]
    constants: Constants
    params: PyTree
    teachers: Any
    state: PyTree
    is_first: Bool[Array, " tasks"]


class Imitation(TaskObjective):
    """The imitation loss of equation 1 with ω = 1; `chosen` is the number of the teacher.

    With `mean_over_coordinates` it is half the mean over coordinates, summed over steps, as in the released program.
    The losses of a segment are the teacher's own on the optimizee.
    """

    teachers: Teachers = eqx.field(kw_only=True)
    chosen: Int[Array, ""] = eqx.field(kw_only=True)
    mean_over_coordinates: bool = eqx.field(static=True, default=False)

    @property
    def scale(self) -> float:
        """Of the sum of squares over steps and coordinates."""
        return 0.5 / num_coordinates(self) if self.mean_over_coordinates else 1.0


class BlockwiseImitation(Imitation):
    """For coordinatewise optimizers: block by block of coordinates, on recorded gradients."""

    def start(self, optimizer: LearnedOptimizer, keys: Key[Array, " tasks"]) -> Imitated:
        assert isinstance(optimizer, CoordinatewiseOptimizer)
        constants, params = start_flat(self, keys)
        state = optimizer.init_coordinates(len(keys) * coordinate_shard(self).size)
        teachers = jax.vmap(flat_teachers(self, self.teachers).init)(params)
        return Imitated(keys, constants, params, teachers, state, jnp.ones(len(keys), bool))

    def segment(self, optimizer: LearnedOptimizer, carry: Imitated, keys: Key[Array, " tasks"]) -> Segment:
        assert isinstance(optimizer, CoordinatewiseOptimizer)
        shard, num_tasks = coordinate_shard(self), keys.shape[0]
        act = jax.vmap(flat_teachers(self, self.teachers).act, in_axes=(None, 0, 0, 0))

        def step(loop, point_keys):
            params, states = loop
            point = flat_points(self, carry.constants, params, point_keys, keys)
            updates, states = act(self.chosen, point.seen, states, params)
            return (params + updates, states), (point.loss, shard.local(point.seen), shard.local(updates))

        (params, teachers), (losses, gradients, updates) = lax.scan(
            step, (carry.params, carry.teachers), self.point_keys(keys)[:-1]
        )
        finite = finite_tasks(losses, gradients, updates)
        kept = jnp.repeat(finite, shard.size)
        steps = self.settings.segment_length
        _, gradient, state = replay_gradient(
            optimizer,
            carry.state,
            carry.is_first[0],
            jnp.where(kept, gradients.reshape(steps, -1), 0.0),
            jnp.where(kept, updates.reshape(steps, -1), 0.0),
            self.scale * kept * jnp.tile(shard.is_real(), num_tasks),
            lambda update, teacher: (update - teacher) ** 2,
        )
        gradient = mean_over_tasks(gradient, finite, (TASKS, COORDINATES))
        after = carry._replace(params=params, teachers=teachers, state=state, is_first=jnp.zeros_like(carry.is_first))
        return Segment(losses, gradient, finite, after)


class AutodiffImitation(Imitation):
    """For any learned optimizer: it follows the teacher's trajectory step by step, and is differentiated."""

    def start(self, optimizer: LearnedOptimizer, keys: Key[Array, " tasks"]) -> Imitated:
        def start_task(key):
            constants = self.draw(key)
            params = self.task(constants).init(key)
            state = start_optimizer(optimizer, params, key)
            return Imitated(key, constants, params, self.teachers.init(params), state, jnp.ones((), bool))

        return jax.vmap(start_task)(keys)

    def distance(
        self, optimizer: LearnedOptimizer, carry: Imitated, keys: Key[Array, " steps"], segment_key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[Float[Array, " steps"], Imitated]]:
        """The imitation loss of one task's segment; with the teacher's losses and the carry."""
        state = begin(carry.is_first, start_optimizer(optimizer, carry.params, carry.key), carry.state)

        @jax.checkpoint
        def follow(optimizer, point, state, params, updates):
            mine, state = optimizer.update(point.seen, state, params, value=point.loss)
            squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), mine, updates)
            return jax.tree.reduce(jnp.add, squares), state

        def step(loop, key):
            params, teachers, state, total = loop
            point = self.point(carry.constants, params, key, segment_key)
            updates, teachers = self.teachers.act(self.chosen, point.seen, teachers, params)
            squares, state = follow(optimizer, point, state, params, updates)
            return (jax.tree.map(jnp.add, params, updates), teachers, state, total + squares), point.loss

        zero = jnp.zeros((), jax.tree.leaves(carry.params)[0].dtype)
        (params, teachers, state, total), losses = lax.scan(step, (carry.params, carry.teachers, state, zero), keys)
        after = carry._replace(params=params, teachers=teachers, state=state, is_first=jnp.zeros((), bool))
        return self.scale * total, (losses, after)

    def segment(self, optimizer: LearnedOptimizer, carry: Imitated, keys: Key[Array, " tasks"]) -> Segment:
        per_task = eqx.filter_vmap(
            eqx.filter_value_and_grad(self.distance, has_aux=True), in_axes=(None, 0, 1, 0), out_axes=((0, (1, 0)), 0)
        )
        (_, (losses, carry)), gradients = per_task(optimizer, carry, self.point_keys(keys)[:-1], keys)
        finite = finite_tasks(losses, *(g[None] for g in jax.tree.leaves(gradients)))
        return Segment(losses, mean_over_tasks(sum_finite(gradients, finite), finite, (TASKS,)), finite, carry)
