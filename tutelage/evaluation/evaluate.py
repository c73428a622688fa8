"""Evaluation: many seeds of a rollout side by side, window by window, as a tidy table."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from ..interop.loading import resolve_optimizer
from ..optimizees import Optimizee, Split, expand, optimizee
from .rollout import Optimizer, RolloutState, advance_rollout, start_rollout, window_means

WINDOW = 100
SEEDS = "seeds"

SCHEMA = {
    "optimizer": pl.String,
    "optimizee": pl.String,
    "split": pl.String,
    "seed": pl.Int64,
    "step": pl.Int64,
    "loss": pl.Float64,
    "seconds": pl.Float64,
}


@dataclass(frozen=True)
class EvaluationProgress:
    """What `evaluate` reports after each window."""

    optimizer: str
    optimizee: str
    finished_windows: int
    """Of this pair."""
    total_windows: int
    finished_pairs: int
    total_pairs: int
    losses: np.ndarray
    """[seeds]: the window's mean loss, not finite where a run diverged."""


Report = Callable[[EvaluationProgress], None]


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
    optimizer: Optimizer, problem: Optimizee, states: RolloutState
) -> tuple[RolloutState, Float[Array, " seeds"]]:
    arrays, static = eqx.partition(optimizer, eqx.is_array)

    def advance(arrays, problem, states):
        whole = eqx.combine(arrays, static)
        states, losses = jax.vmap(lambda state: advance_rollout(whole, problem, state, WINDOW))(states)
        return states, window_means(losses, WINDOW)[:, 0]

    return _on_all_devices(advance, arrays, problem, states)


def evaluate_pair(
    optimizer: Optimizer,
    problem: Optimizee,
    *,
    num_steps: int,
    num_seeds: int,
    report: Callable[[int, np.ndarray], None] = lambda window, losses: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean losses [windows, seeds] of `optimizer` on `problem`, and the seconds [windows] that each window took.

    Seeds 0 … `num_seeds` - 1 are mapped over and sharded over all devices (filled up to a multiple of their number).
    The seconds are those of all seeds together, without compilation.
    """
    if num_steps < WINDOW or num_steps % WINDOW:
        raise ValueError(f"The number of steps must be a multiple of {WINDOW}, not {num_steps}.")
    if num_seeds < 1:
        raise ValueError(f"The number of seeds must be 1 or more, not {num_seeds}.")
    problem = jax.device_put(problem, NamedSharding(_mesh(), PartitionSpec()))  # once, not at every window
    filled = -(-num_seeds // jax.device_count()) * jax.device_count()
    states = _start(optimizer, problem, jnp.arange(filled))
    jax.block_until_ready(_advance(optimizer, problem, states))  # compiles, so that the times below do not
    losses, seconds = [], []
    for window in range(num_steps // WINDOW):
        before = time.perf_counter()
        states, means = _advance(optimizer, problem, states)
        losses.append(np.asarray(means)[:num_seeds])
        seconds.append(time.perf_counter() - before)
        report(window + 1, losses[-1])
    return np.array(losses), np.array(seconds)


def to_table(optimizer: str, optimizee_name: str, split: str, losses: np.ndarray, seconds: np.ndarray) -> pl.DataFrame:
    """Losses [windows, seeds] and seconds [windows] as a tidy table, a row per window and seed.

    `step` is the last step of the window, `loss` the mean over it (not finite where the run diverged) and
    `seconds` the window's wall-clock time divided by the number of seeds that shared it.
    """
    windows, seeds = losses.shape
    columns: dict[str, Any] = {
        "optimizer": [optimizer] * losses.size,
        "optimizee": [optimizee_name] * losses.size,
        "split": [split] * losses.size,
        "seed": np.tile(np.arange(seeds), windows),
        "step": np.repeat(WINDOW * np.arange(1, windows + 1), seeds),
        "loss": losses.astype(float).reshape(-1),
        "seconds": np.repeat(seconds / seeds, seeds),
    }
    return pl.DataFrame(columns, schema=SCHEMA)


def evaluate(
    optimizers: Sequence[str] | Mapping[str, Optimizer],
    on: Sequence[str] | Mapping[str, Optimizee],
    *,
    num_steps: int = 10_000,
    num_seeds: int = 10,
    split: Split = "test",
    data_dir: str | Path | None = None,
    report: Report = lambda progress: None,
    finished: Callable[[pl.DataFrame], None] = lambda so_far: None,
) -> pl.DataFrame:
    """Run every optimizer on every optimizee from the same seeds.

    Args:
        optimizers: names as `resolve_optimizer` takes them, or optimizers by the name to give them in the table.
        on: names of optimizees, or optimizees by name.
        num_steps: a multiple of 100.
        split: of the optimizees' data; by the paper's protocol, the test images are what is trained on here.
        report: called after each window of 100 steps.
        finished: called with the table so far after each pair.

    Returns:
        A table with the columns of `to_table`.

    Raises:
        ValueError: an unknown name or an impossible number.
        FileNotFoundError: weights that are not there.
        DataError: data that are not there.
    """
    if not isinstance(optimizers, Mapping):
        optimizers = {name: resolve_optimizer(name) for name in optimizers}
    if not isinstance(on, Mapping):
        on = {name: optimizee(name, split, data_dir) for name in expand(on)}
    if not optimizers or not on:
        raise ValueError("Name at least one optimizer and one optimizee.")
    pairs = [(name, problem) for problem in on for name in optimizers]
    tables: list[pl.DataFrame] = []
    for number, (name, problem) in enumerate(pairs):

        def window_done(window: int, losses: np.ndarray, name=name, problem=problem, number=number):
            report(EvaluationProgress(name, problem, window, num_steps // WINDOW, number, len(pairs), losses))

        losses, seconds = evaluate_pair(
            optimizers[name], on[problem], num_steps=num_steps, num_seeds=num_seeds, report=window_done
        )
        tables.append(to_table(name, problem, split, losses, seconds))
        finished(pl.concat(tables))
    return pl.concat(tables)
