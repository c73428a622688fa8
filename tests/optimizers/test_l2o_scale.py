import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.problems import published
from tutelage.optimizers import L2OScale
from tutelage.optimizers.l2o_scale import LOG_LEARNING_RATE_RANGE
from tutelage.optimizers.numerics import straight_through_clip

TENSORS = {"w1": (7, 5), "b1": (5,), "w2": (5, 3)}
SCALES = range(1, 5)


def close(actual, expected, relative=1e-4):
    """Within `relative` of the largest element."""
    expected = np.asarray(expected, np.float64)
    np.testing.assert_allclose(
        np.asarray(actual).reshape(expected.shape), expected, atol=relative * np.abs(expected).max()
    )


def with_log_learning_rate(state, rates):
    return state._replace(coordinates=state.coordinates._replace(log_learning_rate=rates))


def recorded_start(optimizer, record):
    params = [jnp.asarray(record[f"init/params/{name}"]) for name in TENSORS]
    rates = jnp.concatenate([jnp.asarray(record[f"init/log_learning_rate/{name}"])[:, 0] for name in TENSORS])
    return params, with_log_learning_rate(optimizer.init(params), rates.astype(jnp.float32))


def compare_state(state, record, steps):
    ends = np.cumsum([math.prod(shape) for shape in TENSORS.values()])
    for number, (name, end) in enumerate(zip(TENSORS, ends, strict=True)):
        here = slice(end - math.prod(TENSORS[name]), end)
        recorded = {key: record[f"state_after_{steps}/{name}/{key}"] for key in (
            "inp_decay", "scl_decay", "log_learning_rate", "parameter", "layer",
            *(f"grad_accum{scale}" for scale in SCALES), *(f"ms{scale}" for scale in SCALES),
        )}  # fmt: skip
        own = state.coordinates
        for scale in SCALES:
            close(own.accumulators[scale - 1, here], recorded[f"grad_accum{scale}"])
            close(own.mean_squares[scale - 1, here], recorded[f"ms{scale}"])
        close(own.input_decay[here], recorded["inp_decay"])
        close(own.scale_decay[here], recorded["scl_decay"])
        close(own.log_learning_rate[here], recorded["log_learning_rate"])
        close(own.parameter[:, here].T, recorded["parameter"])
        close(state.tensor[:, number], recorded["layer"])


@pytest.mark.parametrize("archive", ["l2o_scale", "l2o_scale_random"])
def test_thirty_recorded_steps(oracle, archive):
    record = oracle(archive)
    optimizer = published(record, np.float32)
    params, state = recorded_start(optimizer, record)
    update = jax.jit(lambda grads, state: optimizer.update(grads, state))
    for step in range(30):
        updates, state = update([jnp.asarray(record[f"grads/{name}"][step]) for name in TENSORS], state)
        params = [p + u for p, u in zip(params, updates, strict=True)]
        for mine, name in zip(params, TENSORS, strict=True):
            close(mine, record[f"params_after_each_step/{name}"][step])
        close(state.problem, record["global_state_after_each_step"][step])
        if step + 1 in (1, 2, 30):
            compare_state(state, record, step + 1)


def test_the_global_state_sees_all_tensors_or_the_last():
    gradients = {"a": jnp.ones((2, 3)), "b": jnp.full(4, -1.0)}
    paper = L2OScale.create(jax.random.key(0))
    released = L2OScale.create(jax.random.key(0), global_sees_last_tensor=True)
    swapped = {"a": gradients["b"], "b": gradients["a"]}
    after = {}
    for name, optimizer in (("paper", paper), ("released", released)):
        for order, tree in (("given", gradients), ("swapped", swapped)):
            state = with_log_learning_rate(optimizer.init(tree), jnp.full(10, -5.0))
            after[name, order] = optimizer.update(tree, state)[1].problem
    np.testing.assert_allclose(after["paper", "given"], after["paper", "swapped"], rtol=1e-5)
    assert not np.allclose(after["released", "given"], after["released", "swapped"], rtol=1e-3)


def test_initial_learning_rates_are_random_per_coordinate_and_tensor():
    optimizer, params = L2OScale.create(jax.random.key(0)), {"a": jnp.zeros((60, 50)), "b": jnp.zeros(2000)}
    one, other = (optimizer.init(params, key=jax.random.key(k)).coordinates.log_learning_rate for k in (1, 2))
    assert not np.allclose(one, other)
    low, high = LOG_LEARNING_RATE_RANGE
    for part in (one[:3000], one[3000:]):
        assert float(part.max() - part.min()) == pytest.approx(high - low, rel=0.01)
    assert 2 * low <= float(one.min()) < float(one.max()) <= 2 * high
    # the offset of a tensor is the same for all of its coordinates, and another one's is another
    assert abs(float(one[:3000].mean() - one[3000:].mean())) > 0.1


def test_initial_weights():
    optimizer = L2OScale.create(jax.random.key(0))
    assert np.std(optimizer.parameter_gru.gates_weight) == pytest.approx(0.5 / np.sqrt(22), rel=0.1)
    assert set(np.asarray(optimizer.global_gru.gates_bias)) == {np.float32(2.2)}
    assert np.std(optimizer.global_to_tensor.weight) == pytest.approx(0.5 / np.sqrt(20), rel=0.1)
    assert not optimizer.learning_rate.weight.any()
    biases = [optimizer.scale_decay.bias, optimizer.input_decay.bias, optimizer.learning_rate_momentum]
    np.testing.assert_allclose(biases, [3.2, 2.2, 3.2])
    assert np.abs(optimizer.tensor_start).max() <= 1


def test_the_clip_of_the_learning_rate_lets_gradients_through():
    x = jnp.array([-50.0, 0.5, 40.0])
    np.testing.assert_allclose(straight_through_clip(x, -33.0, 33.0), [-33, 0.5, 33])
    np.testing.assert_allclose(jax.vmap(jax.grad(lambda x: straight_through_clip(x, -33.0, 33.0)))(x), 1.0)


def test_empty_scalar_and_half_precision_leaves():
    optimizer = L2OScale.create(jax.random.key(0))
    gradients = {"a": jnp.ones(3, jnp.bfloat16), "b": jnp.ones((), jnp.bfloat16), "c": jnp.zeros((0, 2), jnp.bfloat16)}
    updates, state = optimizer.update(gradients, optimizer.init(gradients))
    assert updates["a"].dtype == jnp.bfloat16
    assert state.coordinates.parameter.dtype == jnp.float32
    assert updates["c"].shape == (0, 2)
    assert np.isfinite(np.asarray(updates["b"], np.float32))
    assert optimizer.update({}, optimizer.init({}))[0] == {}
