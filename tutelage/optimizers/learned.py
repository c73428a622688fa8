"""What every learned optimizer is: an optax transformation whose weights are a pytree."""

from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

State = Any

# What a rule names so (`jax.ad_checkpoint.checkpoint_name`), a meta-gradient keeps of each step; all else that a step
# computes is computed again.
KEPT = "tutelage: kept"


class LearnedOptimizer(eqx.Module):
    """An update rule with trainable weights, usable wherever optax takes a gradient transformation.

    The methods are those of `optax.GradientTransformationExtraArgs`. Updates are to be added to the parameters.
    """

    scheduled: ClassVar[bool] = False
    """Whether the rule follows a schedule for a number of steps that is known before: see `for_steps`."""

    def for_steps(self, num_steps: int) -> "LearnedOptimizer":
        """The rule for a run of this many steps; the same for any, but where it is `scheduled`."""
        return self

    @abstractmethod
    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> State:
        """The state with which optimization of `params` begins; `key` is for rules that begin at random."""

    @abstractmethod
    def update(
        self,
        grads: PyTree,
        state: State,
        params: PyTree | None = None,
        *,
        value: Float[Array, ""] | None = None,
        **extra: Any,
    ) -> tuple[PyTree, State]:
        """The updates for these gradients, in the structure of the parameters, and the next state."""


def start_optimizer(optimizer: Any, params: PyTree, key: PRNGKeyArray) -> State:
    """The initial state of any optimizer with optax's `init`; learned ones may draw theirs with `key`."""
    if isinstance(optimizer, LearnedOptimizer):
        return optimizer.init(params, key=jax.random.fold_in(key, 1))
    return optimizer.init(params)


def for_steps(optimizer: Any, num_steps: int) -> Any:
    """Any optimizer for a run of this many steps."""
    return optimizer.for_steps(num_steps) if isinstance(optimizer, LearnedOptimizer) else optimizer


class CoordinatewiseOptimizer(LearnedOptimizer):
    """A rule that treats every coordinate alike and independently, with shared weights.

    Arrays have features first and coordinates last, so that the small matrix products and the elementwise work
    run over long contiguous rows. All leaves of the parameters are one batch of coordinates. Every array of the
    state ends with the axis of coordinates; training relies on that to work through blocks of them. Gradients are
    handed over in the weights' precision, or in single precision where that is more.
    """

    @abstractmethod
    def init_coordinates(self, num_coordinates: int) -> State:
        """The initial state of this many coordinates."""

    @abstractmethod
    def step(self, gradients: Float[Array, " coordinates"], state: State) -> tuple[Float[Array, " coordinates"], State]:
        """The updates for one gradient per coordinate, and the next state."""

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> State:
        return self.init_coordinates(sum(leaf.size for leaf in jax.tree.leaves(params)))

    def update(
        self,
        grads: PyTree,
        state: State,
        params: PyTree | None = None,
        *,
        value: Float[Array, ""] | None = None,
        **extra: Any,
    ) -> tuple[PyTree, State]:
        if not jax.tree.leaves(grads):
            return grads, state
        flat, unravel = ravel_pytree(grads)
        weights = jax.tree.leaves(eqx.filter(self, eqx.is_inexact_array))
        updates, state = self.step(flat.astype(jnp.result_type(jnp.float32, *weights)), state)
        return unravel(updates.astype(flat.dtype)), state
