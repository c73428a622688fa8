"""Running an optimizer on an optimizee, compiled as one loop."""

from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..floating import check_floating
from ..optimizees import Optimizee
from ..optimizers import for_steps, start_optimizer

Optimizer = Any  # anything with optax's init and update

_LEAVE_OUT = "have its init leave that out, as eqx.filter(model, eqx.is_inexact_array) does, and its loss put it back"


def is_optimizer(thing: Any) -> bool:
    """Whether it has optax's two functions."""
    return hasattr(thing, "init") and hasattr(thing, "update")


class RolloutState(NamedTuple):
    """Where a rollout stands: everything that the next step depends on."""

    params: PyTree
    optimizer: PyTree
    key: PRNGKeyArray


def start_rollout(optimizer: Optimizer, optimizee: Optimizee, key: PRNGKeyArray) -> RolloutState:
    """A fresh start of the optimizee, drawn with `key`.

    Raises:
        ValueError: parameters that are no floating-point arrays.
    """
    init_key, batch_key = jax.random.split(key)
    params = optimizee.init(init_key)
    check_floating(params, f"parameter of {_name(optimizee)}", _LEAVE_OUT)
    return RolloutState(params, start_optimizer(optimizer, params, init_key), batch_key)


def observe_gradient(optimizee: Optimizee, state: RolloutState) -> tuple[Float[Array, ""], PyTree, PRNGKeyArray]:
    """The loss on a fresh batch, what the optimizer gets to see of its gradient, and the key that comes next.

    Raises:
        ValueError: a loss that is not a single number.
    """
    key, batch_key = jax.random.split(state.key)
    batch = optimizee.sample(batch_key)

    def scalar(params: PyTree) -> Float[Array, ""]:
        loss = optimizee.loss(params, batch)
        if jnp.shape(loss) != ():
            raise ValueError(f"The loss of {_name(optimizee)} has shape {jnp.shape(loss)}: make it a single number.")
        return loss

    loss, gradient = jax.value_and_grad(scalar)(state.params)
    return loss, optimizee.observe(gradient, batch), key


def _name(optimizee: Optimizee) -> str:
    return type(optimizee).__name__


def advance_rollout(
    optimizer: Optimizer, optimizee: Optimizee, state: RolloutState, num_steps: int
) -> tuple[RolloutState, Float[Array, " steps"]]:
    """`num_steps` further steps; the loss of each is that of its batch before the update."""
    update = optax.with_extra_args_support(optimizer).update

    def step(state: RolloutState, _):
        loss, seen, key = observe_gradient(optimizee, state)
        updates, optimizer_state = update(seen, state.optimizer, state.params, value=loss)
        return RolloutState(optax.apply_updates(state.params, updates), optimizer_state, key), loss

    return lax.scan(step, state, length=num_steps)


def map_runs(function: Callable[[Any], Any], runs: PyTree) -> PyTree:
    """`function` of each run, along the first axis: side by side, but on a CPU one after the other.

    A CPU's caches hold what a step of one run needs, not that of several.
    """
    return lax.map(function, runs) if jax.default_backend() == "cpu" else jax.vmap(function)(runs)


@eqx.filter_jit
def rollout(
    optimizer: Optimizer, optimizee: Optimizee, key: PRNGKeyArray, num_steps: int
) -> tuple[Float[Array, " steps"], PyTree]:
    """Run `optimizer` on a fresh start of `optimizee` for `num_steps` steps.

    Args:
        optimizer: anything with optax's `init` and `update`; a learned one with a schedule follows it for these steps.
        optimizee: itself, as `tutelage.optimizee` gives it, not its name.
        key: determines the start and all batches.
        num_steps: 0 or more.

    Returns:
        The loss at each step, on its batch and before its update, and the final parameters. A run that diverges
        goes on with losses that are not finite.

    Raises:
        ValueError: another kind of argument, or an optimizee with parameters or a loss that cannot be optimized.
    """
    if not is_optimizer(optimizer):
        raise ValueError(
            f"{optimizer!r} is no optimizer as optax has them; tutelage.optimizer gives those with a name."
        )
    if not isinstance(optimizee, Optimizee):
        raise ValueError(f"{optimizee!r} is no tutelage Optimizee; tutelage.optimizee gives those with a name.")
    if not isinstance(num_steps, Integral) or num_steps < 0:
        raise ValueError(f"num_steps must be an integer, 0 or more, not {num_steps!r}.")
    optimizer = for_steps(optimizer, num_steps)
    state, losses = advance_rollout(optimizer, optimizee, start_rollout(optimizer, optimizee, key), num_steps)
    return losses, state.params


def window_means(losses: Float[Array, "... steps"], window: int) -> Float[Array, "... windows"]:
    """Means over consecutive windows; one that holds a loss that is not finite is itself not finite."""
    return jnp.mean(losses.reshape(*losses.shape[:-1], -1, window), axis=-1)
