from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

import tutelage
from tutelage.optimizers import AlignedMomentum, AveragedMomentum
from tutelage.training import recipe

PROBLEM = "mlp-digits"
SHAPES = {"weight": (40, 30), "bias": (30,), "scalar": ()}
AVERAGED = AveragedMomentum.create(jax.random.key(3))


def without(averaged):
    names = AlignedMomentum.create(jax.random.key(0))
    return AlignedMomentum(**{name: getattr(averaged, name) for name in vars(names)})


def gradients(steps):
    draw = np.random.default_rng(0)
    return [{name: jnp.asarray(draw.normal(size=shape)) for name, shape in SHAPES.items()} for _ in range(steps)]


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize(("lead", "recency"), [(0.2, 1.0), (0.7, 0.3), (1.4, 3.0)])
def test_it_stays_near_the_average_of_where_aligned_momentum_leads(lead, recency):
    averaged = replace(AVERAGED, log_lead=jnp.log(lead), log_recency=jnp.log(recency))
    averaged = jax.tree.map(lambda x: x.astype(jnp.float64), averaged)
    aligned = without(averaged)
    begin = gradients(1)[0]
    state, inner = averaged.init(begin), aligned.init(begin)
    params = point = average = jax.tree.map(np.asarray, begin)
    for step, gradient in enumerate(gradients(8), start=1):
        steps, inner = aligned.update(gradient, inner)
        point = jax.tree.map(np.add, point, steps)
        weight = (1 + recency) / (step + recency)
        average = jax.tree.map(lambda a, z: a + weight * (z - a), average, point)  # noqa: B023
        updates, state = averaged.update(gradient, state)
        params = jax.tree.map(np.add, params, updates)
        expected = jax.tree.map(lambda a, z: a + lead * (z - a), average, point)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12), params, expected)


def test_points_count_by_their_number():
    """With a recency of 1 the average is that of t z over all t."""
    averaged = replace(AVERAGED, log_lead=jnp.float32(-jnp.inf), log_recency=jnp.float32(0))
    aligned, state = without(averaged), averaged.init({"x": jnp.zeros(3)})
    inner, points, params = aligned.init({"x": jnp.zeros(3)}), [np.zeros(3)], np.zeros(3)
    for step in range(1, 11):
        gradient = {"x": jnp.asarray([1.0, -0.3, 2.0]) * step}
        steps, inner = aligned.update(gradient, inner)
        points.append(points[-1] + np.asarray(steps["x"]))
        updates, state = averaged.update(gradient, state)
        params = params + np.asarray(updates["x"])
    weights = np.arange(1, 11)
    np.testing.assert_allclose(params, weights @ points[1:] / weights.sum(), rtol=1e-5)


def test_it_is_taught_as_any_other(tmp_path):
    config = recipe(
        "averaged-momentum", "plain", on=(PROBLEM,), estimator="pes", objective="log", max_epochs=1, num_validation=2
    )
    taught = tutelage.train(tmp_path / "run", config)
    assert isinstance(taught, AveragedMomentum)
    untaught = AveragedMomentum.create(jax.random.split(jax.random.key(config.seed), 3)[0])
    assert all(bool(x != y) for x, y in zip(jax.tree.leaves(taught), jax.tree.leaves(untaught), strict=True))
    table = tutelage.evaluate([str(tmp_path / "run")], [PROBLEM], num_steps=500, num_seeds=2)
    assert table.filter(pl.col("step") == 500)["loss"].max() < 0.1 * table.filter(pl.col("step") == 100)["loss"].min()
    assert eqx.tree_equal(tutelage.interop.load_learned(tmp_path / "run"), taught)
