import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.problems import published
from tutelage.optimizers import RNNProp


def run(optimizer, gradients):
    def step(state, g):
        features, _ = optimizer.features(g, state)
        updates, state = optimizer.step(g, state)
        return state, (features, updates)

    return jax.lax.scan(step, optimizer.init_coordinates(gradients.shape[1]), gradients)


@pytest.mark.usefixtures("double_precision")
def test_recorded_updates_in_double_precision(oracle):
    record = oracle("rnnprop")
    state, (features, updates) = run(published(record), jnp.asarray(record["gradients"], jnp.float64))
    np.testing.assert_allclose(features[:, 0], record["m_tilde"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(features[:, 1], record["g_tilde"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(updates, record["updates"], rtol=1e-9, atol=1e-15)
    for layer, number in ((state.lstm_1, 1), (state.lstm_2, 2)):
        np.testing.assert_allclose(layer.hidden.T, record[f"final_h{number}"], rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(layer.cell.T, record[f"final_c{number}"], rtol=1e-9, atol=1e-14)


def test_recorded_updates_in_single_precision(oracle):
    record = oracle("rnnprop")
    _, (_, updates) = run(published(record, np.float32), jnp.asarray(record["gradients"], jnp.float32))
    scale = np.abs(record["updates"]).max()
    np.testing.assert_allclose(updates, record["updates"], rtol=1e-4, atol=1e-4 * scale)


def test_inputs_are_adams_direction_and_the_scaled_gradient():
    optimizer, gradients = RNNProp.create(jax.random.key(0)), np.random.default_rng(0).normal(size=(30, 3))
    _, (features, _) = run(optimizer, jnp.asarray(gradients, jnp.float32))
    m = v = np.zeros(3)
    for t, g in enumerate(gradients, start=1):
        m, v = 0.95 * m + 0.05 * g, 0.95 * v + 0.05 * g**2
        root = np.sqrt(v / (1 - 0.95**t)) + 1e-8
        np.testing.assert_allclose(features[t - 1, 0], m / (1 - 0.95**t) / root, rtol=1e-4)
        np.testing.assert_allclose(features[t - 1, 1], g / root, rtol=1e-4)


def test_number_of_weights_and_bound_of_updates():
    optimizer = RNNProp.create(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(optimizer)) == 6_641
    _, (_, updates) = run(optimizer, 1e6 * jax.random.normal(jax.random.key(1), (10, 50)))
    assert float(jnp.abs(updates).max()) <= 0.01


def test_a_gradient_that_was_always_zero_has_a_derivative():
    optimizer = RNNProp.create(jax.random.key(0))
    slope = jax.grad(lambda g: optimizer.step(g, optimizer.init_coordinates(3))[0].sum())(jnp.zeros(3))
    assert np.isfinite(slope).all()
