"""Validation of a half-trained optimizer on fresh optimizees."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PRNGKeyArray

from ..evaluation.rollout import advance_rollout, map_runs, start_rollout
from ..optimizees import Optimizee
from ..optimizers import LearnedOptimizer
from .objective import LOG_EPSILON, SEGMENT_LENGTH, relative_losses
from .parallel import TASKS, replicate, training_mesh

ValidationFunction = Callable[[LearnedOptimizer, PRNGKeyArray, int], float]


def make_validation(
    optimizees: Sequence[Optimizee],
    num_starts: int,
    final_point: bool,
    log_objective: bool = False,
    log_epsilon: float = LOG_EPSILON,
) -> ValidationFunction:
    """A function `(optimizer, key, num_steps) -> loss`.

    The loss is the mean over `num_starts` fresh starts of the mean loss over the last 20 steps or, with
    `final_point`, of one batch's loss after the last step. It is infinite where a rollout diverged. The same key
    gives the same starts and batches, so that losses of two optimizers are compared in pairs.

    Of several optimizees, whose losses have no common scale, each has its share of the starts, at least one, and
    what is averaged is log(f / (f_0 + ε) + ε) with f_0 the loss at the start and ε `log_epsilon`. There, and with
    `log_objective`, that of training, the function raises ValueError where a loss is below 0.
    """
    count = -(-num_starts // len(optimizees))
    mesh = training_mesh(count, cuts_coordinates=False)
    placed = replicate(list(optimizees), mesh)  # once, not at every validation
    run = _run(mesh, final_point)

    def validate(optimizer, key, num_steps):
        optimizer, keys = replicate((optimizer, jax.random.split(key, count)), mesh)
        results = [run(optimizer, optimizee, keys, num_steps // SEGMENT_LENGTH) for optimizee in placed]
        initial, final = (jnp.stack(losses) for losses in zip(*results, strict=True))
        relative = relative_losses(final, initial, log_epsilon)
        several = len(placed) > 1
        if (several or log_objective) and bool(((initial < 0) | (relative <= 0)).any()):
            raise ValueError(
                "The loss of an optimizee is below 0, and the log objective and validation on several take logarithms: "
                "add a constant to it, or train with the objective sum and validate on a single one."
            )
        loss = float(jnp.mean(jnp.log(relative) if several else final))
        return loss if math.isfinite(loss) else math.inf

    return validate


@functools.cache
def _run(mesh: Mesh, final_point: bool) -> Callable:
    """Compiled: the losses at the start and at the end, for each key."""

    def run(optimizer, optimizee, keys, num_segments):
        def body(_, loop):
            state, _ = loop
            return advance_rollout(optimizer, optimizee, state, SEGMENT_LENGTH)

        def from_start(key):
            start = start_rollout(optimizer, optimizee, key)
            initial = optimizee.loss(start.params, optimizee.sample(key))
            state, losses = lax.fori_loop(0, num_segments, body, (start, jnp.zeros(SEGMENT_LENGTH, initial.dtype)))
            final = optimizee.loss(state.params, optimizee.sample(state.key)) if final_point else losses.mean()
            return initial, final

        return map_runs(from_start, keys)

    everywhere, by_task = PartitionSpec(), PartitionSpec(TASKS)
    specs = (everywhere, everywhere, by_task, everywhere)
    return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=by_task, check_vma=False))
