"""A taught optimizer as users of optax know optimizers."""

from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Int, PyTree

from ..floating import check_floating
from ..optimizers import LearnedOptimizer
from ..weights import check_num_steps
from .loading import load_learned
from .sharding import explicit_mesh, left_to_the_compiler, shardings_of, shardings_of_state


class TaughtState(NamedTuple):
    """The state of a taught optimizer between two steps."""

    inner: Any
    """What the learned optimizer remembers, its floating-point arrays in `state_dtype`, single numbers in full."""
    skipped: Int[Array, ""]
    """Steps left out because a gradient was not finite."""


def load(
    name_or_path: str | Path,
    *,
    num_steps: int | None = None,
    scale: float | optax.Schedule = 1.0,
    state_dtype: DTypeLike = jnp.float32,
) -> optax.GradientTransformationExtraArgs:
    """A taught optimizer for your own model, to be used as `optax.adam(...)` is.

    Args:
        name_or_path: a name in the zoo, a run directory, a `.safetensors` file or published weights.
        num_steps: how many steps you will take; for those that follow a schedule, as `tutelage-2` does, and only those.
        scale: factor of the updates, or a schedule from the number of the step to one; there is no learning rate.
        state_dtype: of the arrays of the state between steps; `jnp.bfloat16` halves its memory. Steps compute in
            single precision.

    Returns:
        An optax transformation. A step whose gradient is not finite changes nothing: its updates are 0, the state stays
        as it is, and `TaughtState.skipped` counts it.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: an unknown name, what is there is damaged or something else, a schedule without a number of steps
            or the other way round, a `scale` that is neither, or a `state_dtype` that is not floating-point.
    """
    learned = load_learned(name_or_path)
    check_num_steps(name_or_path, learned.scheduled, num_steps)
    taught = as_transformation(learned if num_steps is None else learned.for_steps(num_steps), state_dtype)
    if callable(scale):
        return optax.chain(taught, optax.scale_by_schedule(scale))
    if not isinstance(scale, Real | Array):
        raise ValueError(f"scale is a number or a schedule, not {scale!r}.")
    return taught if scale == 1.0 else optax.chain(taught, optax.scale(scale))


def as_transformation(
    optimizer: LearnedOptimizer, state_dtype: DTypeLike = jnp.float32
) -> optax.GradientTransformationExtraArgs:
    """A learned optimizer as a pair of functions that close over its weights; see `load`."""
    try:
        floating = jnp.issubdtype(state_dtype, jnp.floating)
    except TypeError:  # no type at all
        floating = False
    if not floating:
        raise ValueError(f"state_dtype is a floating-point type, as jnp.bfloat16 is one, not {state_dtype!r}.")

    def stored(state: PyTree) -> PyTree:
        # A single number takes no memory, and a counter of steps, say, needs all its digits.
        return jax.tree.map(lambda x: x.astype(state_dtype) if x.ndim and _is_floating(x) else x, state)

    def init(params: PyTree) -> TaughtState:
        check_floating(params, "parameter", "leave it out with optax.masked or eqx.filter")
        # Each leaf a buffer of its own, so that all of them can be donated.
        state = TaughtState(jax.tree.map(jnp.copy, stored(optimizer.init(params))), jnp.zeros((), jnp.int32))
        mesh = explicit_mesh(params)
        return state if mesh is None else jax.reshard(state, shardings_of_state(state, params, mesh))

    def update(updates: PyTree, state: Any, params: PyTree | None = None, **extra: Any) -> tuple[PyTree, TaughtState]:
        full = jax.eval_shape(lambda: optimizer.init(updates))
        _check_state(state, full)
        mesh = explicit_mesh(updates)
        arguments = optimizer, updates, state, params, extra
        if mesh is None:
            return advance(full, *arguments)
        return left_to_the_compiler(partial(advance, full), mesh, shardings_of((updates, state), mesh))(*arguments)

    def advance(full, optimizer, updates, state, params, extra) -> tuple[PyTree, TaughtState]:

        def step(grads, inner):
            inner = jax.tree.map(lambda x, like: x.astype(like.dtype), inner, full)
            moves, inner = optimizer.update(grads, inner, params, **extra)
            return jax.tree.map(lambda move, grad: move.astype(grad.dtype), moves, grads), stored(inner)

        def skip(grads, inner):
            return jax.tree.map(jnp.zeros_like, grads), inner

        finite = jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(updates)]).all()
        moves, inner = lax.cond(finite, step, skip, updates, state.inner)
        return moves, TaughtState(inner, jnp.where(finite, state.skipped, state.skipped + 1))

    return optax.GradientTransformationExtraArgs(init, update)


def _check_state(state: Any, full: PyTree) -> None:
    if not isinstance(state, TaughtState) or _shapes(state.inner) != _shapes(full):
        raise ValueError("This state belongs to other parameters or another optimizer: make one with init(params).")


def _shapes(tree: PyTree) -> tuple[Any, list[tuple[int, ...]]]:
    return jax.tree.structure(tree), [leaf.shape for leaf in jax.tree.leaves(tree)]


def _is_floating(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
