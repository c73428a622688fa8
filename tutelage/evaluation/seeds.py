"""Seeds of a rollout side by side on all devices, a window of steps at a time."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from ..optimizees import Optimizee
from .rollout import Optimizer, RolloutState, advance_rollout, map_runs, start_rollout, window_means

WINDOW = 100
SEEDS = "seeds"


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
        return states, window_means(losses, WINDOW)[:, 0].astype(float)

    def advance(arrays, problem, go, states):
        nothing = jnp.zeros(states.key.shape)
        return lax.cond(go, window, lambda *_: (states, nothing), arrays, problem, states)

    return _on_all_devices(advance, arrays, problem, go, states)


class SeedsTogether:
    """Some seeds of `optimizer` on `problem`, spread over all devices (filled up to a multiple of their number)."""

    def __init__(self, optimizer: Optimizer, problem: Optimizee, seeds: range):
        self._optimizer = optimizer
        self._problem = jax.device_put(problem, NamedSharding(_mesh(), PartitionSpec()))  # not at every window
        self._seeds = seeds

    def start(self, leaves: list[np.ndarray]) -> RolloutState:
        """The states to begin with: fresh ones without `leaves`, else where `leaves` says. Compiles `advance` too."""
        filled = -(-len(self._seeds) // jax.device_count()) * jax.device_count()
        states = _start(self._optimizer, self._problem, self._seeds.start + jnp.arange(filled))
        if leaves:
            states = _fill(leaves, states)
        jax.block_until_ready(_advance(self._optimizer, self._problem, jnp.asarray(False), states))
        return states

    def advance(self, states: RolloutState) -> tuple[RolloutState, np.ndarray]:
        """A window further, and its mean losses [seeds]."""
        states, means = _advance(self._optimizer, self._problem, jnp.asarray(True), states)
        return states, np.asarray(means)[: len(self._seeds)]

    def leaves(self, states: RolloutState) -> list[np.ndarray]:
        """What the next window starts from, each with the axis of seeds first."""
        return [to_numpy(leaf)[: len(self._seeds)] for leaf in jax.tree.leaves(states)]


def to_numpy(leaf: Array) -> np.ndarray:
    """An array or random keys."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _fill(leaves: list[np.ndarray], like: RolloutState) -> RolloutState:
    """States of the kept seeds in the structure of `like`, whose further seeds only fill up the devices."""

    def put(kept, leaf):
        data = jnp.asarray(np.concatenate([kept, to_numpy(leaf)[len(kept) :]]))
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.device_put(jax.random.wrap_key_data(data) if is_key else data, leaf.sharding)

    fresh, structure = jax.tree.flatten(like)
    return jax.tree.unflatten(structure, [put(kept, leaf) for kept, leaf in zip(leaves, fresh, strict=True)])
