import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.problems import Drift, Quadratic, on_devices
from tutelage.training.evolution import EvolutionStrategies, PersistentEvolutionStrategies
from tutelage.training.unroll import AutodiffUnroll, BlockwiseUnroll

PROBLEM = Quadratic(jnp.linspace(-1, 1, 7))
RULE = Drift(jnp.float32(0.02), jnp.float32(-0.01))
SEGMENTS = 3


def summed_gradient(objective, optimizer, keys):
    """The sum over segments of the estimates, without moving the weights in between."""
    carry = objective.start(optimizer, keys[0])
    total = jax.tree.map(jnp.zeros_like, optimizer)
    for number in range(SEGMENTS):
        segment = objective.segment(optimizer, carry, keys[1 + number])
        carry, total = segment.carry, jax.tree.map(jnp.add, total, segment.gradient)
    return total


def estimates(objective, repetitions=10, num_tasks=1_000):
    """Independent estimates [repetitions, weights], and the exact gradient of the whole unroll on the same tasks."""
    unroll = AutodiffUnroll(PROBLEM)

    def whole(optimizer, keys):
        def loss(optimizer):
            carry, total = unroll.start_task(optimizer, keys[0]), 0.0
            for number in range(SEGMENTS):
                points = unroll.point_keys(keys[1 + number][None])[:, 0]
                value, (_, carry) = unroll.unroll(optimizer, carry, points, keys[1 + number])
                total = total + value
            return total

        return jax.grad(loss)(optimizer)

    each_task = jax.jit(jax.vmap(whole, in_axes=(None, 1)))
    drawn, exact = [], []
    for repetition in range(repetitions):
        keys = jax.random.split(jax.random.key(repetition), (1 + SEGMENTS, num_tasks))
        estimate = on_devices(summed_gradient, num_tasks, objective, RULE, keys=keys)
        # as numbers at once: what comes next must not compete with these devices' collectives for threads
        drawn.append([float(weight) for weight in jax.tree.leaves(estimate)])
        exact.append(jax.tree.leaves(jax.tree.map(jnp.mean, each_task(RULE, keys))))
    return np.array(drawn), np.array(exact)


def deviations(drawn, exact):
    """How many standard errors the mean estimate is away from the exact gradient, for each weight."""
    differences = drawn - exact
    return differences.mean(axis=0) / (differences.std(axis=0, ddof=1) / np.sqrt(len(differences)))


def test_persistent_strategies_are_unbiased_for_the_whole_unroll():
    # The meta-loss is quadratic in these weights, so smoothing it changes nothing of the gradient.
    drawn, exact = estimates(PersistentEvolutionStrategies(AutodiffUnroll(PROBLEM), 0.1))
    assert np.abs(deviations(drawn, exact)).max() < 4
    assert np.abs((drawn - exact).mean(axis=0) / exact.mean(axis=0)).max() < 0.05


@pytest.mark.parametrize("kind", [BlockwiseUnroll, AutodiffUnroll])
def test_truncated_backpropagation_is_biased_on_the_same_problem(kind):
    drawn, exact = estimates(kind(PROBLEM), repetitions=2)
    assert (np.abs(drawn / exact) < 0.5).all()


def test_truncated_strategies_estimate_what_truncated_backpropagation_computes():
    drawn, _ = estimates(EvolutionStrategies(AutodiffUnroll(PROBLEM), 0.1))
    exact, _ = estimates(BlockwiseUnroll(PROBLEM))
    assert np.abs(deviations(drawn, exact)).max() < 4
    assert np.abs((drawn - exact).mean(axis=0) / exact.mean(axis=0)).max() < 0.05


def test_reported_losses_are_those_of_the_unroll():
    keys = jax.random.split(jax.random.key(0), (2, 2))
    run = lambda objective, rule, keys: objective.segment(rule, objective.start(rule, keys[0]), keys[1])  # noqa: E731
    losses = lambda objective, rule, keys: jax.lax.all_gather(  # noqa: E731
        run(objective, rule, keys).losses, "tasks", axis=1, tiled=True
    )
    plain = on_devices(losses, 2, BlockwiseUnroll(PROBLEM), RULE, keys=keys)
    evolved = on_devices(losses, 2, EvolutionStrategies(AutodiffUnroll(PROBLEM), 0.1), RULE, keys=keys)
    np.testing.assert_allclose(evolved, plain, rtol=1e-5)
