"""Optimizers that a learned one learns from."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, PyTree

States = tuple[Any, ...]


class Teachers(eqx.Module):
    """Several optimizers side by side; the state holds all of theirs."""

    optimizers: tuple[Any, ...]

    def init(self, params: PyTree) -> States:
        return tuple(teacher.init(params) for teacher in self.optimizers)

    def act(self, chosen: Int[Array, ""], gradient: PyTree, states: States, params: PyTree) -> tuple[PyTree, States]:
        """The update of teacher number `chosen`; only its state advances."""

        def branch(index):
            def act(gradient, states, params):
                update, state = self.optimizers[index].update(gradient, states[index], params)
                return update, (*states[:index], state, *states[index + 1 :])

            return act

        return lax.switch(chosen, [branch(index) for index in range(len(self.optimizers))], gradient, states, params)

    def follow(
        self, chosen: Int[Array, ""], gradient: PyTree, states: States, params: PyTree, learned: PyTree
    ) -> tuple[PyTree, States]:
        """The update of teacher number `chosen`, or `learned` where that is -1; all states advance."""
        updates, next_states = zip(
            *(t.update(gradient, state, params) for t, state in zip(self.optimizers, states, strict=True)), strict=True
        )
        update = jax.tree.map(lambda *each: jnp.stack(each)[chosen + 1], learned, *updates)
        return update, next_states
