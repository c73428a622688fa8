"""One epoch of meta-training: all its segments and meta-optimizer steps in one compiled call."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..optimizers import LearnedOptimizer
from .objective import MetaObjective
from .parallel import TASKS


class EpochMetrics(NamedTuple):
    """What an epoch reports; losses are means over the tasks that stayed finite (nan if none did)."""

    mean_loss: Float[Array, ""]
    """Over all segments."""
    final_loss: Float[Array, ""]
    """Over the last segment."""
    gradient_norm: Float[Array, ""]
    """Of the meta-gradient, mean over segments."""
    diverged_tasks: Int[Array, ""]
    """Tasks that were not finite at the end."""
    skipped_steps: Int[Array, ""]
    """Segments whose meta-gradient was not usable, so that the weights were left alone."""


EpochFunction = Callable[
    [LearnedOptimizer, Any, MetaObjective, PRNGKeyArray, int], tuple[LearnedOptimizer, Any, EpochMetrics]
]


@functools.cache
def make_epoch(meta_optimizer: optax.GradientTransformation, num_tasks: int, mesh: Mesh) -> EpochFunction:
    """A compiled `(optimizer, meta_state, objective, key, num_segments) -> (optimizer, meta_state, metrics)`.

    The number of segments is a run-time value: a longer unroll does not compile again. A task that diverges is
    left out of the gradient; a segment in which all did, or whose gradient overflowed, changes nothing. `mesh` is
    `training_mesh` for as many tasks.
    """

    def epoch(optimizer, meta_state, objective: MetaObjective, key, num_segments):
        tasks_here = num_tasks // lax.axis_size(TASKS)
        task = lax.axis_index(TASKS) * tasks_here + jnp.arange(tasks_here)

        def task_keys(index):  # the same for a task, however many devices there are
            segment_key = jax.random.fold_in(key, index)
            return jax.vmap(lambda number: jax.random.fold_in(segment_key, number))(task)

        def body(index, loop):
            optimizer, meta_state, carry, metrics = loop
            segment = objective.segment(optimizer, carry, task_keys(index))
            norm = optax.tree.norm(segment.gradient)
            finite_count = lax.psum(segment.finite.sum(), TASKS)
            usable = jnp.isfinite(norm) & (finite_count > 0)
            updates, next_state = meta_optimizer.update(segment.gradient, meta_state, optimizer)
            optimizer, meta_state = jax.tree.map(
                lambda new, old: jnp.where(usable, new, old),
                (optax.apply_updates(optimizer, updates), next_state),
                (optimizer, meta_state),
            )
            loss = lax.psum(jnp.sum(jnp.where(segment.finite, segment.losses.mean(axis=0), 0.0)), TASKS)
            loss = (loss / finite_count).astype(metrics.final_loss.dtype)
            metrics = EpochMetrics(
                mean_loss=metrics.mean_loss + loss / num_segments,
                final_loss=loss,
                gradient_norm=metrics.gradient_norm + norm / num_segments,
                diverged_tasks=num_tasks - finite_count,
                skipped_steps=metrics.skipped_steps + ~usable,
            )
            return optimizer, meta_state, segment.carry, metrics

        carry = objective.start(optimizer, task_keys(num_segments))
        zero, none = jnp.zeros(()), jnp.zeros((), jnp.int32)
        metrics = EpochMetrics(zero, zero, zero, none, none)
        loop = lax.fori_loop(0, num_segments, body, (optimizer, meta_state, carry, metrics))
        return loop[0], loop[1], loop[3]

    everywhere = PartitionSpec()
    sharded = jax.shard_map(epoch, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False)
    return jax.jit(sharded)
