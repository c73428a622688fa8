import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.optimizees import expand, optimizee
from tutelage.optimizees.registry import GROUPS
from tutelage.optimizees.small_problems import OutwardSnake, Quadratic, RandomClassification
from tutelage.optimizees.test_functions import TEST_FUNCTIONS
from tutelage.optimizees.variants import LogObjective, Noisy, Rescaled, SparseGradient, _Variant

NAMES = GROUPS["small-problems"]
KEYS = jax.random.split(jax.random.key(0), 20)


def innermost(problem):
    return innermost(problem.inner) if isinstance(problem, _Variant) else problem


@pytest.mark.parametrize("name", NAMES)
def test_no_loss_is_below_the_minimum_and_gradients_are_finite(name):
    problem = optimizee(name)

    def evaluate(key):
        params, batch = problem.init(key), problem.sample(key)
        loss, gradient = jax.value_and_grad(problem.loss)(params, batch)
        return loss, problem.observe(gradient, batch), gradient

    losses, seen, gradient = jax.vmap(evaluate)(KEYS)
    assert np.isfinite(losses).all()
    assert losses.min() >= -1e-5
    assert losses.max() > 1e-3
    assert jax.tree.structure(seen) == jax.tree.structure(gradient)
    for leaf in jax.tree.leaves((seen, gradient)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize(
    "name", [n for n in NAMES if not isinstance(innermost(optimizee(n)), RandomClassification | OutwardSnake)]
)
def test_the_known_minimum(name):
    problem, scale = optimizee(name), 1.0
    if isinstance(problem, Rescaled):
        scale = problem.scale
    minimizer = innermost(problem).minimizer / scale
    # a batch, where there is one, makes no difference there
    at_minimum = max(float(problem.loss(minimizer, problem.sample(key))) for key in KEYS)
    assert -1e-5 <= at_minimum < 2e-3
    around = [
        float(problem.loss(minimizer + 0.1 / scale * jax.random.normal(key, minimizer.shape), problem.sample(key)))
        for key in KEYS
    ]
    assert min(around) > at_minimum - 1e-5
    assert np.median(around) > at_minimum + 1e-4


def test_the_snake_goes_down_all_the_way_out():
    problem = OutwardSnake(20)
    assert float(problem.loss(problem.minimizer, None)) < 1.1e-3
    nearer = problem.minimizer.at[0].set(20.0)  # an even number: the same path onwards
    assert float(problem.loss(nearer, None)) == pytest.approx(20 / np.sqrt(20**2 + 19), rel=1e-2)


@pytest.mark.parametrize("sizes", [(10, 2), (8, 8, 2)])
def test_random_classification_can_be_fitted_perfectly(sizes):
    problem = RandomClassification(sizes, seed=0)
    weight, bias = problem.teacher[-1]
    losses = [
        float(problem.loss([*problem.teacher[:-1], (factor * weight, bias)], jnp.arange(200)))
        for factor in (1.0, 1e2, 1e5)
    ]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 1e-3
    assert {0, 1} == set(np.asarray(problem.labels))


def test_gradients_of_the_standard_functions_vanish_at_their_minima():
    for name in TEST_FUNCTIONS:
        problem = optimizee(name)
        gradient = jax.grad(problem.loss)(problem.minimizer, None)
        assert float(jnp.abs(gradient).max()) < 1e-3, name


def test_train_and_test_have_other_random_numbers():
    assert not np.allclose(optimizee("quadratic-5", "train").matrix, optimizee("quadratic-5", "test").matrix)


def test_noise_and_sparsity_are_in_what_is_seen_alone():
    plain = Quadratic(20, seed=0)
    params = plain.init(KEYS[0])
    gradient = jax.grad(plain.loss)(params, None)
    for problem, expected in ((Noisy(plain, 0.5), gradient), (SparseGradient(plain, 0.1), 0.1 * gradient)):
        batch = problem.sample(KEYS[1])
        assert float(problem.loss(params, batch)) == float(plain.loss(params, None))
        np.testing.assert_allclose(jax.grad(problem.loss)(params, batch), gradient)
        keys = jax.random.split(jax.random.key(1), 4000)
        seen = jax.vmap(lambda key, p=problem: p.observe(gradient, p.sample(key)))(keys)
        spread = seen.std(axis=0) / np.sqrt(len(keys))
        assert float(jnp.abs((seen.mean(axis=0) - expected) / spread).max()) < 5
    assert (np.asarray(seen) == 0).mean() == pytest.approx(0.9, abs=0.01)


def test_variants_go_around_each_other():
    problem = SparseGradient(Noisy(Rescaled(LogObjective(Quadratic(5, seed=0)), 10.0), 0.5), 0.5)
    params, batch = problem.init(KEYS[0]), problem.sample(KEYS[1])
    inner = Quadratic(5, seed=0)
    start = inner.init(KEYS[0])
    np.testing.assert_allclose(10 * params, start, rtol=1e-6)
    assert float(problem.loss(params, batch)) == pytest.approx(
        float(jnp.log1p(1e3 * inner.loss(start, None))), rel=1e-5
    )
    seen = problem.observe(jax.grad(problem.loss)(params, batch), batch)
    assert 0 < (np.asarray(seen) == 0).sum() < 5


def test_groups_expand_to_their_names():
    assert expand(("mlp-orig", "small-problems")) == ("mlp-orig", *NAMES)
    assert len(NAMES) >= 30
