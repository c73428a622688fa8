"""One optimizer on one optimizee: many seeds of a rollout side by side, window by window."""

import hashlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from ..optimizees import Optimizee
from ..optimizers import for_steps
from .rollout import Optimizer, RolloutState, advance_rollout, map_runs, start_rollout, window_means
from .store import EvaluationStore

WINDOW = 100
SEEDS = "seeds"
SAVE_SECONDS = 60.0


def _mesh() -> Mesh:
    return jax.make_mesh((jax.device_count(),), (SEEDS,), axis_types=(AxisType.Auto,))


def _on_all_devices(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function` with its arguments but the last on every device, and the last cut along seeds."""
    everywhere, by_seed = PartitionSpec(), PartitionSpec(SEEDS)
    specs = (*[everywhere] * (len(arguments) - 1), by_seed)
    return jax.shard_map(function, mesh=_mesh(), in_specs=specs, out_specs=by_seed, check_vma=False)(*arguments)


@eqx.filter_jit
def _start(optimizer: Optimizer, problem: Optimizee, seeds: Int[Array, " seeds"]) -> RolloutState:
    arrays, static = eqx.partition(optimizer, eqx.is_array)

    def start(arrays, problem, seeds):
        whole = eqx.combine(arrays, static)
        return jax.vmap(lambda seed: start_rollout(whole, problem, jax.random.key(seed)))(seeds)

    return _on_all_devices(start, arrays, problem, seeds)


@eqx.filter_jit
def _advance(
    optimizer: Optimizer, problem: Optimizee, go: Bool[Array, ""], states: RolloutState
) -> tuple[RolloutState, Float[Array, " seeds"]]:
    """A window of steps; none unless `go`, so that compiling costs no more than compiling."""
    arrays, static = eqx.partition(optimizer, eqx.is_array)

    def window(arrays, problem, states):
        whole = eqx.combine(arrays, static)
        states, losses = map_runs(lambda state: advance_rollout(whole, problem, state, WINDOW), states)
        return states, window_means(losses, WINDOW)[:, 0]

    def advance(arrays, problem, go, states):
        nothing = jnp.zeros(states.key.shape)
        return lax.cond(go, window, lambda *_: (states, nothing), arrays, problem, states)

    return _on_all_devices(advance, arrays, problem, go, states)


class _Progress(NamedTuple):
    """How far the seeds have come: replaced as a whole, so that an interruption never sees half of a window."""

    states: RolloutState
    losses: tuple[np.ndarray, ...]
    seconds: tuple[float, ...]


def evaluate_pair(
    optimizer: Optimizer,
    problem: Optimizee,
    *,
    num_steps: int,
    num_seeds: int,
    store: EvaluationStore | None = None,
    report: Callable[[int, np.ndarray], None] = lambda window, losses: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean losses [windows, seeds] of `optimizer` on `problem`, and the seconds [windows] that each window took.

    Seeds 0 … `num_seeds` - 1 are spread over all devices (filled up to a multiple of their number).
    The seconds are those of all seeds together, without compilation.

    Args:
        store: where to look first for what was computed already, and to keep what is.
        report: called after each window that is computed here.

    Raises:
        ValueError: an impossible number, or a file of the store that cannot be read.
    """
    if num_steps < WINDOW or num_steps % WINDOW:
        raise ValueError(f"The number of steps must be a multiple of {WINDOW}, not {num_steps}.")
    if num_seeds < 1:
        raise ValueError(f"The number of seeds must be 1 or more, not {num_seeds}.")
    windows = num_steps // WINDOW
    optimizer = for_steps(optimizer, num_steps)
    key = "" if store is None else fingerprint(optimizer, problem, num_seeds)
    kept = None if store is None else store.load(key)
    if kept is not None and len(kept.losses) >= windows:
        return kept.losses[:windows], kept.seconds[:windows]
    problem = jax.device_put(problem, NamedSharding(_mesh(), PartitionSpec()))  # once, not at every window
    filled = -(-num_seeds // jax.device_count()) * jax.device_count()
    progress = _Progress(_start(optimizer, problem, jnp.arange(filled)), (), ())
    if kept is not None and kept.state:
        states = _fill(kept.state, progress.states)
        progress = _Progress(states, tuple(kept.losses), tuple(kept.seconds.tolist()))
    # compiles, so that the times below do not
    jax.block_until_ready(_advance(optimizer, problem, jnp.asarray(False), progress.states))

    def save(with_state: bool) -> None:
        if store is not None:
            leaves = _leaves(progress.states, num_seeds) if with_state else []
            store.save(key, np.array(progress.losses), np.array(progress.seconds), leaves)

    saved = time.monotonic()
    try:
        while len(progress.losses) < windows:
            before = time.perf_counter()
            states, means = _advance(optimizer, problem, jnp.asarray(True), progress.states)
            means = np.asarray(means)[:num_seeds]
            seconds = time.perf_counter() - before
            progress = _Progress(states, (*progress.losses, means), (*progress.seconds, seconds))
            report(len(progress.losses), means)
            if time.monotonic() - saved > SAVE_SECONDS:
                save(with_state=True)
                saved = time.monotonic()
    except KeyboardInterrupt:
        if progress.losses:
            save(with_state=True)
        raise
    save(with_state=False)
    return np.array(progress.losses), np.array(progress.seconds)


def fingerprint(optimizer: Optimizer, problem: Optimizee, num_seeds: int) -> str:
    """What determines the losses, as a hash: the program of a window, as lowered for this backend, and its inputs.

    So a changed hyperparameter, weight, image or line of the update rule gives another one. The seeds' number counts,
    as a batched program may round differently; the steps' does not, as a longer run begins with the shorter one; but
    the program of an optimizer with a schedule has it.
    """
    arrays, static = eqx.partition((optimizer, problem), eqx.is_array)

    def window(arrays, seed):
        optimizer, problem = eqx.combine(arrays, static)
        state = start_rollout(optimizer, problem, jax.random.key(seed))
        return advance_rollout(optimizer, problem, state, WINDOW)[1]

    digest = hashlib.blake2b(digest_size=16)
    digest.update(jax.jit(window).lower(arrays, 0).as_text().encode())
    digest.update(str(num_seeds).encode())
    for leaf in jax.tree.leaves(arrays):
        digest.update(np.ascontiguousarray(_data(leaf)).tobytes())
    return digest.hexdigest()


def _data(leaf: Array) -> np.ndarray:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _leaves(states: RolloutState, num_seeds: int) -> list[np.ndarray]:
    return [_data(leaf)[:num_seeds] for leaf in jax.tree.leaves(states)]


def _fill(leaves: list[np.ndarray], like: RolloutState) -> RolloutState:
    """States of the kept seeds in the structure of `like`, whose further seeds only fill up the devices."""

    def put(kept, leaf):
        data = jnp.asarray(np.concatenate([kept, _data(leaf)[len(kept) :]]))
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.device_put(jax.random.wrap_key_data(data) if is_key else data, leaf.sharding)

    fresh, structure = jax.tree.flatten(like)
    return jax.tree.unflatten(structure, [put(kept, leaf) for kept, leaf in zip(leaves, fresh, strict=True)])
