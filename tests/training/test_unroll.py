import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.problems import (
    Linear,
    Quadratic,
    assert_trees_close,
    on_devices,
    prescribed,
    published,
    recorded_gradient,
)
from tutelage.optimizees import optimizee
from tutelage.optimizers import L2ODM
from tutelage.training import objective
from tutelage.training.unroll import AutodiffUnroll, BlockwiseUnroll


def segment(meta_objective, optimizer, num_tasks, key=0, num_segments=1):
    """Losses of all tasks, gradient and finite tasks of the last of some segments."""
    keys = jax.random.split(jax.random.key(key), (1 + num_segments, num_tasks))
    return on_devices(runner(num_segments), num_tasks, meta_objective, optimizer, keys=keys)


@functools.cache  # the same function each time, so that it is compiled once
def runner(num_segments):
    def run(meta_objective, optimizer, keys):
        carry = meta_objective.start(optimizer, keys[0])
        for number in range(num_segments):
            result = meta_objective.segment(optimizer, carry, keys[1 + number])
            carry = result.carry
        everyone = lambda x: jax.lax.all_gather(x, "tasks", axis=x.ndim - 1, tiled=True)  # noqa: E731
        return everyone(result.losses), result.gradient, everyone(result.finite)

    return run


@pytest.mark.usefixtures("double_precision", "numbered_batches")
@pytest.mark.parametrize(
    ("kind", "recorded"),
    [
        (lambda p: BlockwiseUnroll(p), "meta_gradient"),
        (lambda p: AutodiffUnroll(p), "meta_gradient"),
        (lambda p: AutodiffUnroll(p, second_derivatives=True), "meta_gradient_second_order"),
    ],
)
def test_recorded_meta_gradient(oracle, kind, recorded):
    record = oracle("meta_gradient")
    losses, gradient, _ = segment(kind(prescribed(record)), published(record), num_tasks=1)
    np.testing.assert_allclose(losses[:, 0], record["losses"], rtol=1e-9)
    np.testing.assert_allclose(losses.sum(), record["meta_loss"], rtol=1e-9)
    assert_trees_close(gradient, recorded_gradient(record, recorded), 1e-9)


@pytest.mark.usefixtures("numbered_batches")
def test_recorded_meta_gradient_in_single_precision(oracle):
    record = oracle("meta_gradient")
    problem = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, prescribed(record))
    _, gradient, _ = segment(BlockwiseUnroll(problem), published(record, np.float32), num_tasks=1)
    assert_trees_close(gradient, recorded_gradient(record, "meta_gradient"), 1e-4)


@pytest.mark.parametrize(("num_tasks", "num_segments"), [(1, 1), (2, 1), (3, 1), (1, 2)])
def test_blocks_agree_with_plain_autodiff(num_tasks, num_segments):
    # 1 task: coordinates on both devices; 2: a task on each; 3: all tasks' coordinates on both
    problem, optimizer = optimizee("mlp-digits"), L2ODM.create(jax.random.key(1))
    blocks = segment(BlockwiseUnroll(problem), optimizer, num_tasks, num_segments=num_segments)
    plain = segment(AutodiffUnroll(problem), optimizer, num_tasks, num_segments=num_segments)
    np.testing.assert_allclose(blocks[0], plain[0], rtol=1e-5)
    assert_trees_close(blocks[1], plain[1], 2e-5)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("second_derivatives", [False, True])
def test_meta_gradient_against_finite_differences(second_derivatives):
    problem = Quadratic(jnp.linspace(-1, 1, 7, dtype=jnp.float64))
    rule = AutodiffUnroll(problem, second_derivatives=True) if second_derivatives else BlockwiseUnroll(problem)
    step = 1e-6
    loss = lambda rate: float(segment(rule, Linear(jnp.float64(rate)), 1)[0].sum())  # noqa: E731
    numeric = (loss(-0.05 + step) - loss(-0.05 - step)) / (2 * step)
    exact = float(segment(rule, Linear(jnp.float64(-0.05)), 1)[1].rate)
    if second_derivatives:
        assert exact == pytest.approx(numeric, rel=1e-6)
    else:
        # with the gradients as data, d loss / d rate is Σ_s g_s · Σ_{t>s} g_t instead
        assert exact != pytest.approx(numeric, rel=1e-2)
        assert exact == pytest.approx(gradients_as_data(problem, -0.05), rel=1e-9)


def gradients_as_data(problem, rate):
    keys = jax.random.split(jax.random.key(0), (2, 1))
    params, gradients = problem.init(keys[0, 0]), []
    for key in jax.random.split(keys[1, 0], objective.SEGMENT_LENGTH + 1):
        gradient = jax.grad(problem.loss)(params, problem.sample(key))
        gradients.append(np.concatenate([gradient["a"], gradient["b"].reshape(-1)]))
        params = jax.tree.map(lambda p, g: p + rate * g, params, gradient)
    return sum(gradients[s] @ gradients[t] for t in range(len(gradients)) for s in range(t))


@pytest.mark.parametrize("kind", [BlockwiseUnroll, AutodiffUnroll])
def test_a_diverged_task_does_not_touch_the_gradient(kind):
    # with this rate the coordinates of a start at 1e20 overflow; tasks that start at 1 stay finite
    class Sometimes(Quadratic):
        def init(self, key):
            params = super().init(key)
            huge = jax.random.bits(key) % 2 == 0
            return jax.tree.map(lambda x: jnp.where(huge, 1e30 * x, x), params)

    problem, rule = Sometimes(jnp.zeros(7)), Linear(jnp.float32(-0.5))
    losses, gradient, finite = segment(kind(problem), rule, 4, key=2)
    finite, losses = np.asarray(finite), np.asarray(losses)
    assert 0 < finite.sum() < 4
    assert np.isfinite(losses[:, finite]).all()
    assert not np.isfinite(losses[:, ~finite]).all()
    keys = jax.random.split(jax.random.key(2), (2, 4))[:, finite]
    alone = [
        on_devices(
            lambda u, o, k: u.segment(o, u.start(o, k[0]), k[1]).gradient,
            1,
            kind(problem),
            rule,
            keys=keys[:, [number]],
        ).rate
        for number in range(int(finite.sum()))
    ]
    np.testing.assert_allclose(gradient.rate, np.mean(alone), rtol=1e-4)
