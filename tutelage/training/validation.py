"""Validation of a half-trained optimizer on fresh optimizees."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import PRNGKeyArray

from ..evaluation.rollout import advance_rollout, start_rollout
from ..optimizees import Optimizee
from ..optimizers import LearnedOptimizer
from .objective import SEGMENT_LENGTH
from .parallel import TASKS, training_mesh

ValidationFunction = Callable[[LearnedOptimizer, Optimizee, PRNGKeyArray, int], float]


@functools.cache
def make_validation(num_optimizees: int, final_point: bool) -> ValidationFunction:
    """A function `(optimizer, optimizee, key, num_steps) -> loss`.

    The loss is the mean over `num_optimizees` fresh starts of the mean loss over the last 20 steps or, with
    `final_point`, of one batch's loss after the last step. It is infinite where a rollout diverged. The same key
    gives the same starts and batches, so that losses of two optimizers are compared in pairs.
    """

    def per_optimizee(optimizer, optimizee, key, num_segments):
        def body(_, loop):
            state, _ = loop
            return advance_rollout(optimizer, optimizee, state, SEGMENT_LENGTH)

        state = start_rollout(optimizer, optimizee, key)
        state, losses = lax.fori_loop(0, num_segments, body, (state, jnp.zeros(SEGMENT_LENGTH)))
        if final_point:
            return optimizee.loss(state.params, optimizee.sample(state.key))
        return losses.mean()

    def per_device(optimizer, optimizee, keys, num_segments):
        return jax.vmap(per_optimizee, in_axes=(None, None, 0, None))(optimizer, optimizee, keys, num_segments)

    everywhere, by_task = PartitionSpec(), PartitionSpec(TASKS)
    compiled = jax.jit(
        jax.shard_map(
            per_device,
            mesh=training_mesh(num_optimizees),
            in_specs=(everywhere, everywhere, by_task, everywhere),
            out_specs=by_task,
            check_vma=False,
        )
    )

    def validate(optimizer, optimizee, key, num_steps):
        keys = jax.random.split(key, num_optimizees)
        loss = float(jnp.mean(compiled(optimizer, optimizee, keys, num_steps // SEGMENT_LENGTH)))
        return loss if math.isfinite(loss) else math.inf

    return validate
