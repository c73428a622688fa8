"""What an optimizer does along a real rollout."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..evaluation.rollout import RolloutState, observe_gradient, start_rollout
from ..optimizees import Optimizee
from ..optimizers import for_steps

_SATURATED = 0.1
_LONGER = 0.01


class Journey(NamedTuple):
    """At each step of a rollout."""

    losses: Float[Array, "..."]
    learning_rates: Float[Array, "..."]
    """The effective one: the η for which -η g is nearest to the update, -(u · g) / (g · g)."""
    saturated: Float[Array, "..."]
    """Share of coordinates whose update would change by less than a tenth of what their gradient does, relatively."""


def travel(optimizer: Any, optimizee: Optimizee, num_steps: int) -> Journey:
    """A rollout from seed 0, watched."""
    optimizer = for_steps(optimizer, num_steps)
    update = optax.with_extra_args_support(optimizer).update

    def step(state: RolloutState, _):
        loss, gradient, key = observe_gradient(optimizee, state)

        def moves(gradient):
            return update(gradient, state.optimizer, state.params, value=loss)

        updates, optimizer_state = moves(gradient)
        longer, _ = moves(jax.tree.map(lambda g: (1 + _LONGER) * g, gradient))
        g, u, du = (ravel_pytree(tree)[0] for tree in (gradient, updates, longer))
        du = (du - u) / _LONGER  # that of an update in proportion to the gradient is the update itself
        moving = u != 0
        saturated = jnp.sum(moving & (jnp.abs(du) < _SATURATED * jnp.abs(u))) / jnp.maximum(jnp.sum(moving), 1)
        watched = Journey(loss, -(u @ g) / jnp.maximum(g @ g, jnp.finfo(g.dtype).tiny), saturated)
        return RolloutState(optax.apply_updates(state.params, updates), optimizer_state, key), watched

    start = start_rollout(optimizer, optimizee, jax.random.key(0))
    return jax.jit(lambda start: lax.scan(step, start, length=num_steps)[1])(start)
