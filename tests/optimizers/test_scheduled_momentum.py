from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

import tutelage
from tutelage.evaluation import EvaluationStore
from tutelage.optimizers import AlignedMomentum, ScheduledMomentum, save_weights
from tutelage.training import recipe

PROBLEM = "mlp-digits"
SCHEDULED = ScheduledMomentum.create(jax.random.key(3))
WITHOUT = AlignedMomentum(**{name: x for name, x in vars(SCHEDULED).items() if eqx.is_array(x)})


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, SCHEDULED, "scheduled-momentum", {})
    return path


@pytest.mark.parametrize(("num_steps", "warmup"), [(4, 1.2), (5_000, jnp.exp(WITHOUT.log_warmup))])
def test_it_is_aligned_momentum_times_what_is_left_of_the_schedule(num_steps, warmup):
    params = {"weight": jnp.zeros((40, 30)), "bias": jnp.zeros(30)}
    gradients = [jax.tree.map(lambda x: jax.random.normal(jax.random.key(t), x.shape), params) for t in range(6)]  # noqa: B023
    ours, plain = SCHEDULED.for_steps(num_steps), replace(WITHOUT, log_warmup=jnp.log(warmup))
    state = ours.init(params)
    for step, gradient in enumerate(gradients):
        expected, after = plain.update(gradient, state)
        updates, state = ours.update(gradient, state)
        left = max(1 - step / num_steps, 0)
        jax.tree.map(lambda u, e: np.testing.assert_allclose(u, left * e, rtol=1e-6), updates, expected)  # noqa: B023
        jax.tree.map(np.testing.assert_array_equal, state, after)


def test_it_is_evaluated_with_a_schedule_for_just_those_steps(weights, tmp_path):
    store = EvaluationStore(tmp_path / "kept")

    def losses(steps):
        table = tutelage.evaluate([str(weights)], [PROBLEM], num_steps=steps, num_seeds=2, store=store)
        return table.sort("seed", "step")["loss"].to_numpy().reshape(2, -1)

    long, short = losses(300), losses(100)
    assert (short != long[:, :1]).all(), "a longer run is not taken for a shorter one"
    problem = tutelage.optimizee(PROBLEM, split="test")
    for seed in range(2):
        run, _ = tutelage.rollout(SCHEDULED, problem, jax.random.key(seed), 100)
        np.testing.assert_allclose(run.mean(), short[seed, 0], rtol=1e-5)
    assert len(list(store.folder.iterdir())) == 2


def test_a_user_says_for_how_many_steps(weights):
    problem = tutelage.optimizee(PROBLEM, split="test")
    by_name, end = tutelage.rollout(tutelage.load(weights, num_steps=50), problem, jax.random.key(0), 60)
    learned, _ = tutelage.rollout(SCHEDULED, problem, jax.random.key(0), 50)
    np.testing.assert_allclose(by_name[:50], learned, rtol=1e-5)
    _, at_50 = tutelage.rollout(tutelage.load(weights, num_steps=50), problem, jax.random.key(0), 50)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-8), end, at_50)
    for wrong, says in ((None, "say how many steps you will take"), (0, "1 or more, not 0")):
        with pytest.raises(ValueError, match=says):
            tutelage.load(weights, num_steps=wrong)
    with pytest.raises(ValueError, match="rnnprop follows no schedule: leave num_steps out"):
        tutelage.load("rnnprop", num_steps=50)


@pytest.mark.usefixtures("unchecked_types")
def test_a_number_of_steps_is_an_integer(weights):
    with pytest.raises(ValueError, match=r"num_steps must be an integer, 1 or more, not 10000\.0"):
        tutelage.load(weights, num_steps=1e4)  # pyright: ignore[reportArgumentType]


def test_it_is_taught_as_any_other(tmp_path):
    config = recipe(
        "scheduled-momentum", "plain", on=(PROBLEM,), estimator="pes", objective="log", max_epochs=1, num_validation=2
    )
    taught = tutelage.train(tmp_path / "run", config)
    assert isinstance(taught, ScheduledMomentum)
    assert taught.num_steps == 10_000
    table = tutelage.evaluate([str(tmp_path / "run")], [PROBLEM], num_steps=500, num_seeds=2)
    assert table.filter(pl.col("step") == 500)["loss"].max() < 0.1 * table.filter(pl.col("step") == 100)["loss"].min()
