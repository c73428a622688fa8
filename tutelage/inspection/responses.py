"""What an optimizer does with gradients that we choose."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

Numbers = Float[np.ndarray, "..."]

SIZE = 0.01
"""Of the gradients in all histories."""
STEPS = 60
# Rules that tell weights from biases, or large tensors from small ones, see one weight matrix of 1,000 coordinates.
_SHAPE = (25, 40)
_COORDINATES = math.prod(_SHAPE)


def histories() -> dict[str, Numbers]:
    """Gradients [steps] of one coordinate, of four kinds."""
    step = np.arange(STEPS)
    return {
        "steady": np.full(STEPS, SIZE),
        "alternating": SIZE * (-1.0) ** step,
        "noisy": SIZE * np.random.default_rng(0).standard_normal(STEPS),
        "vanishing": SIZE * 0.9**step,
    }


def updates_along(optimizer: Any) -> dict[str, Numbers]:
    """The update [steps] after each gradient of each history."""
    gradients = np.stack([history[:, None] * np.ones(_COORDINATES) for history in histories().values()])
    return dict(zip(histories(), _run(optimizer, gradients)[:, :, 0], strict=True))


def responses(optimizer: Any, now: Numbers) -> dict[str, Numbers]:
    """After each history, the next update as a function of the next gradient, of which `now` has 1,000."""
    gradients = [np.concatenate([h[:, None] * np.ones(_COORDINATES), now[None]]) for h in histories().values()]
    return dict(zip(histories(), _run(optimizer, np.stack(gradients))[:, -1], strict=True))


def step_sizes(optimizer: Any, magnitudes: Numbers) -> Numbers:
    """The size of the last update after many equal gradients of each magnitude."""
    return np.abs(_run(optimizer, magnitudes[:, None, None] * np.ones((STEPS, _COORDINATES)))[:, -1, 0])


def _run(optimizer: Any, gradients: Numbers) -> Numbers:
    """The updates [cases, steps, coordinates] for these gradients."""
    update: Callable[..., tuple[Any, Any]] = optax.with_extra_args_support(optimizer).update
    params = {"w": jnp.zeros(_SHAPE)}

    def step(state, gradient):
        moves, state = update({"w": gradient.reshape(_SHAPE)}, state, params, value=jnp.float32(1.0))
        return state, moves["w"].reshape(-1)

    @jax.jit
    @jax.vmap
    def run(gradients):
        _, moves = jax.lax.scan(step, optimizer.init(params), gradients)
        return moves

    return np.array(run(jnp.asarray(gradients, jnp.float32)))
