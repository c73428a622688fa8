import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.problems import published
from tutelage.optimizers import L2ODM
from tutelage.optimizers.l2o_dm import log_and_sign


def run(optimizer, gradients):
    def step(state, g):
        updates, state = optimizer.step(g, state)
        return state, updates

    return jax.lax.scan(step, optimizer.init_coordinates(gradients.shape[1]), gradients)


@pytest.mark.usefixtures("double_precision")
def test_recorded_updates_in_double_precision(oracle):
    record = oracle("l2o_dm")
    gradients = jnp.asarray(record["gradients"], jnp.float64)
    features = jax.vmap(log_and_sign)(gradients)
    np.testing.assert_allclose(features.transpose(0, 2, 1), record["features"], rtol=1e-9, atol=1e-12)
    state, updates = run(published(record), gradients)
    np.testing.assert_allclose(updates, record["updates"], rtol=1e-9, atol=1e-15)
    for layer, number in zip(state, (1, 2), strict=True):
        np.testing.assert_allclose(layer.hidden.T, record[f"final_h{number}"], rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(layer.cell.T, record[f"final_c{number}"], rtol=1e-9, atol=1e-14)


def test_recorded_updates_in_single_precision(oracle):
    record = oracle("l2o_dm")
    _, updates = run(published(record, np.float32), jnp.asarray(record["gradients"], jnp.float32))
    scale = np.abs(record["updates"]).max()
    np.testing.assert_allclose(updates, record["updates"], rtol=1e-4, atol=1e-4 * scale)


def test_number_and_spread_of_initial_weights():
    optimizer = L2ODM.create(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(optimizer)) == 5_141
    assert float(jnp.abs(optimizer.lstm_1.weight).max()) <= 2 / np.sqrt(22)
    # a normal cut at two sigma keeps 0.8796 of its standard deviation
    assert np.std(optimizer.lstm_2.weight) == pytest.approx(0.8796 / np.sqrt(40), rel=0.05)
    assert float(jnp.abs(optimizer.lstm_2.bias).max()) > 0
    assert optimizer.readout_bias == 0


def test_leaves_of_any_shape_are_coordinates():
    optimizer = L2ODM.create(jax.random.key(1))
    gradients = {"a": jnp.arange(6.0).reshape(2, 3) / 10, "b": jnp.float32(0.3), "c": jnp.zeros((0, 4))}
    updates, _ = optimizer.update(gradients, optimizer.init(gradients))
    flat, _ = optimizer.step(jnp.append(jnp.arange(6.0) / 10, 0.3), optimizer.init_coordinates(7))
    np.testing.assert_allclose(updates["a"].reshape(-1), flat[:6], rtol=1e-6)
    np.testing.assert_allclose(updates["b"], flat[6], rtol=1e-6)
    assert updates["c"].shape == (0, 4)
    assert jax.tree.leaves(optimizer.update({}, optimizer.init({}))[0]) == []


def test_half_precision_parameters_keep_their_type():
    optimizer = L2ODM.create(jax.random.key(1))
    gradients = jnp.ones((3,), jnp.bfloat16)
    updates, (state, _) = optimizer.update(gradients, optimizer.init(gradients))
    assert updates.dtype == jnp.bfloat16
    assert state.cell.dtype == jnp.float32
