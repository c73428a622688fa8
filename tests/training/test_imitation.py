import jax
import jax.numpy as jnp
import numpy as np
import optax
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
from tutelage.optimizers import L2ODM, parse_hand_designed
from tutelage.training.imitation import AutodiffImitation, BlockwiseImitation
from tutelage.training.replay import replay, replay_gradient
from tutelage.training.teachers import Teachers
from tutelage.training.technique import ImitationSettings

NAMES = ImitationSettings().teachers


def imitation(problem, chosen, kind=BlockwiseImitation, mean=False):
    teachers = Teachers(tuple(parse_hand_designed(name) for name in NAMES))
    return kind(problem, teachers=teachers, chosen=jnp.asarray(chosen), mean_over_coordinates=mean)


def run(imitation, optimizer, keys):
    return imitation.segment(optimizer, imitation.start(optimizer, keys[0]), keys[1]).gradient


def gradient_of_a_segment(problem, optimizer, chosen=0, num_tasks=1, **options):
    keys = jax.random.split(jax.random.key(0), (2, num_tasks))
    return on_devices(run, num_tasks, imitation(problem, chosen, **options), optimizer, keys=keys)


@pytest.mark.usefixtures("double_precision", "numbered_batches")
@pytest.mark.parametrize("kind", [BlockwiseImitation, AutodiffImitation])
@pytest.mark.parametrize("chosen", range(3))
def test_recorded_imitation(oracle, chosen, kind):
    record, name = oracle("imitation"), NAMES[chosen].partition(":")[0]
    gradient = gradient_of_a_segment(prescribed(record), published(record), chosen, kind=kind)
    # optax keeps the teachers' hyperparameters in single precision
    assert_trees_close(gradient, recorded_gradient(record, f"{name}/gradient"), 1e-6)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("name", ["adam", "sgd", "adagrad"])
def test_recorded_regression_on_recorded_gradients(oracle, name):
    record = oracle("imitation")
    optimizer = published(record)
    gradients, updates = jnp.asarray(record[f"{name}/gradients"]), jnp.asarray(record[f"{name}/updates"])
    loss, gradient, _ = replay_gradient(
        optimizer,
        optimizer.init_coordinates(43),
        jnp.asarray(False),
        gradients,
        updates,
        jnp.ones(43),
        lambda update, teacher: (update - teacher) ** 2,
    )
    np.testing.assert_allclose(loss, record[f"{name}/imitation_loss"], rtol=1e-9)
    assert_trees_close(gradient, recorded_gradient(record, f"{name}/gradient"), 1e-9)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize(("chosen", "name"), list(enumerate(["adam", "sgd", "adagrad"])))
def test_teachers_are_the_recorded_ones(oracle, chosen, name):
    record = oracle("imitation")
    teachers, params = imitation(Quadratic(jnp.zeros(7)), chosen).teachers, jnp.zeros(43)
    state = teachers.init(params)
    for gradient, expected in zip(record[f"{name}/gradients"], record[f"{name}/updates"], strict=True):
        update, state = teachers.act(jnp.asarray(chosen), jnp.asarray(gradient), state, params)
        np.testing.assert_allclose(update, expected, rtol=1e-6, atol=1e-12)


def test_a_linear_rule_learns_sgd_exactly():
    problem, rule = Quadratic(jnp.linspace(-1, 1, 7)), Linear(jnp.float32(0.3))
    meta = optax.adam(0.05)
    state = meta.init(rule)
    for _ in range(200):
        updates, state = meta.update(gradient_of_a_segment(problem, rule, chosen=1), state, rule)
        rule = optax.apply_updates(rule, updates)
    assert float(rule.rate) == pytest.approx(-0.01, abs=1e-4)
    perfect = gradient_of_a_segment(problem, Linear(jnp.float32(-0.01)), chosen=1)
    assert float(jnp.abs(perfect.rate)) < 1e-6


def test_mean_over_coordinates_is_half_the_mean():
    problem, optimizer = optimizee("mlp-digits"), L2ODM.create(jax.random.key(0))
    whole = gradient_of_a_segment(problem, optimizer)
    mean = gradient_of_a_segment(problem, optimizer, mean=True)
    assert_trees_close(jax.tree.map(lambda x: 2 * 1510 * x, mean), whole, 1e-5)


def test_tasks_on_other_devices_count_the_same():
    problem, optimizer = optimizee("mlp-digits"), L2ODM.create(jax.random.key(0))
    two = gradient_of_a_segment(problem, optimizer, num_tasks=2)
    keys = jax.random.split(jax.random.key(0), (2, 2))
    alone = [on_devices(run, 1, imitation(problem, 0), optimizer, keys=keys[:, [task]]) for task in range(2)]
    assert_trees_close(two, jax.tree.map(lambda a, b: (a + b) / 2, *alone), 1e-5)


def test_state_after_blocks_is_that_of_a_plain_replay():
    optimizer = L2ODM.create(jax.random.key(0))
    gradients = jax.random.normal(jax.random.key(1), (20, 1300))
    state = optimizer.init_coordinates(1300)
    _, _, by_blocks = replay_gradient(
        optimizer,
        state,
        jnp.asarray(False),
        gradients,
        gradients,
        jnp.ones(1300),
        lambda update, target: update * target,
    )
    assert_trees_close(by_blocks, replay(optimizer, state, gradients)[1], 1e-5)
