"""Imitation: regressing the learned optimizer's updates onto a teacher's (Algorithm 2, equation 1).

A teacher optimizes an optimizee; on the gradients that it met, segment by segment of `SEGMENT_LENGTH` steps, the
learned optimizer's updates are pulled towards the teacher's: Σ_t ‖Δθ_t^teacher - Δθ_t^φ‖².
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

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


class Teachers(eqx.Module):
    """Several optimizers as one: the state holds all of theirs, and `chosen` says which one acts."""

    optimizers: tuple[Any, ...]
    chosen: Int[Array, ""]

    def init(self, params: Float[Array, " coordinates"]) -> tuple[Any, ...]:
        return tuple(teacher.init(params) for teacher in self.optimizers)

    def update(
        self,
        gradient: Float[Array, " coordinates"],
        states: tuple[Any, ...],
        params: Float[Array, " coordinates"],
    ) -> tuple[Float[Array, " coordinates"], tuple[Any, ...]]:
        """The chosen teacher's update; only its state advances."""

        def act(index):
            def branch(gradient, states, params):
                update, state = self.optimizers[index].update(gradient, states[index], params)
                return update, (*states[:index], state, *states[index + 1 :])

            return branch

        branches = [act(index) for index in range(len(self.optimizers))]
        return lax.switch(self.chosen, branches, gradient, states, params)


class Imitation(MetaObjective):
    """The imitation loss of equation 1 with ω = 1.

    With `mean_over_coordinates` it is half the mean over coordinates, summed over steps, as in the released program.
    """

    teachers: Teachers
    mean_over_coordinates: bool = eqx.field(static=True, default=False)

    def start(self, optimizer: LearnedOptimizer, keys: Key[Array, " tasks"]) -> Carry:
        """Fresh optimizees, the teachers' states and the learned optimizer's."""
        flat, shard = self.coordinates()
        params = jax.vmap(flat.init)(keys)
        assert isinstance(optimizer, CoordinatewiseOptimizer)
        return (
            params,
            jax.vmap(self.teachers.init)(params),
            optimizer.init_coordinates(len(keys) * shard.size),
        )

    def segment(self, optimizer: LearnedOptimizer, carry: Carry, keys: Key[Array, " tasks"]) -> Segment:
        """One segment of the chosen teacher; the losses are the teacher's own on the optimizee."""
        assert isinstance(optimizer, CoordinatewiseOptimizer)
        flat, shard = self.coordinates()
        num_tasks = keys.shape[0]
        params, teacher_states, state = carry

        def step(carry, keys):
            params, states = carry
            losses, gradients = jax.vmap(flat.loss_and_gradient)(params, keys)
            updates, states = jax.vmap(self.teachers.update)(gradients, states, params)
            return (params + updates, states), (losses, shard.local(gradients), shard.local(updates))

        (params, teacher_states), (losses, gradients, updates) = lax.scan(
            step, (params, teacher_states), point_keys(keys)[:-1]
        )
        finite = finite_tasks(losses, gradients, updates)
        kept = jnp.repeat(finite, shard.size)
        scale = 0.5 / flat.num_coordinates if self.mean_over_coordinates else 1.0
        _, gradient, state = replay_gradient(
            optimizer,
            state,
            jnp.where(kept, gradients.reshape(SEGMENT_LENGTH, -1), 0.0),
            jnp.where(kept, updates.reshape(SEGMENT_LENGTH, -1), 0.0),
            scale * kept * jnp.tile(shard.is_real(), num_tasks),
            lambda update, teacher: (update - teacher) ** 2,
        )
        gradient = mean_over_tasks(gradient, finite, (TASKS, COORDINATES))
        return Segment(losses, gradient, finite, (params, teacher_states, state))
