"""What changes the meta-objective: each way to compute the gradient must agree on all of it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.problems import Drift, Linear, Momentum, Quadratic, assert_trees_close
from tests.training.test_unroll import segment
from tutelage.optimizees import optimizee
from tutelage.optimizees.small_problems import Bowl
from tutelage.optimizees.small_problems import Quadratic as Exact
from tutelage.optimizees.variants import Noisy
from tutelage.optimizers import L2ODM, HandDesigned, L2OScale, RNNProp, parse_hand_designed
from tutelage.training.augmentation import CONVEX_COORDINATES, Augmentation
from tutelage.training.objective import Mixture, ObjectiveSettings
from tutelage.training.teachers import Teachers
from tutelage.training.unroll import AutodiffUnroll, BlockwiseUnroll

DIGITS = optimizee("mlp-digits")
TEACHERS = Teachers((parse_hand_designed("adam:learning_rate=0.01"), parse_hand_designed("sgd:learning_rate=0.1")))
NOISY_QUADRATIC = Quadratic(jnp.linspace(-1, 1, 7))
HALF = Mixture(TEACHERS, jnp.float32(0.5))

VARIATIONS = {
    "log objective": (NOISY_QUADRATIC, ObjectiveSettings(log_objective=True), None, None),
    "objective on more batches": (NOISY_QUADRATIC, ObjectiveSettings(objective_batches=3), None, None),
    "random scaling": (NOISY_QUADRATIC, ObjectiveSettings(augmentation=Augmentation(random_scaling=1.0)), None, None),
    "convex term": (NOISY_QUADRATIC, ObjectiveSettings(augmentation=Augmentation(convex_term=True)), None, None),
    "another start": (NOISY_QUADRATIC, ObjectiveSettings(augmentation=Augmentation(start_scale=10.0)), None, None),
    "fewer steps": (NOISY_QUADRATIC, ObjectiveSettings(segment_length=30), jnp.asarray(13), None),
    "self-improving": (NOISY_QUADRATIC, ObjectiveSettings(), None, HALF),
    "noisy gradients": (Noisy(NOISY_QUADRATIC, 0.01), ObjectiveSettings(), None, None),
    "all at once": (
        Noisy(NOISY_QUADRATIC, 0.01),
        ObjectiveSettings(True, 1e-3, 2, Augmentation(1.0, True, 3.0), 24),
        jnp.asarray(21),
        HALF,
    ),
}


@pytest.mark.parametrize("variation", VARIATIONS)
def test_blocks_agree_with_autodiff(variation):
    # the second task is on the other device
    arguments = VARIATIONS[variation]
    optimizer = Momentum(jnp.float32(0.02), jnp.float32(0.7))
    blocks = segment(BlockwiseUnroll(*arguments), optimizer, 2, num_segments=2)
    plain = segment(AutodiffUnroll(*arguments), optimizer, 2, num_segments=2)
    np.testing.assert_allclose(blocks[0], plain[0], rtol=2e-5)
    assert_trees_close(blocks[1], plain[1], 5e-5)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain[1])) > 1e-6


@pytest.mark.parametrize("create", [L2ODM.create, RNNProp.create, L2OScale.create])
def test_the_unroll_is_the_loop_one_would_write(create):
    problem = Quadratic(jnp.linspace(-1, 1, 7))
    optimizer, unroll = create(jax.random.key(0)), AutodiffUnroll(problem, ObjectiveSettings(segment_length=2))
    key = jax.random.split(jax.random.key(5), (2, 1))

    def loss(optimizer):
        carry = unroll.start_task(optimizer, key[0, 0])
        params, state, total = carry.params, carry.state, 0.0
        keys = unroll.point_keys(key[1])[:, 0]
        for number in range(3):
            batch = problem.sample(keys[number])
            total = total + problem.loss(params, batch)
            gradient = jax.lax.stop_gradient(jax.grad(problem.loss)(params, batch))
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        return total

    value, expected = jax.value_and_grad(loss)(optimizer)  # not compiled as a whole, which takes longer
    losses, gradient, _ = segment(unroll, optimizer, 1, key=5)
    assert float(losses.sum()) == pytest.approx(float(value), rel=1e-5)
    assert_trees_close(gradient, expected, 2e-4)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("create", [RNNProp.create, L2OScale.create])
def test_meta_gradient_against_finite_differences(create):
    optimizer = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), create(jax.random.key(0)))
    if isinstance(optimizer, L2OScale):  # larger steps than its own at the start, for differences well above rounding
        optimizer = eqx.tree_at(lambda o: o.step_size_offset, optimizer, jnp.float64(3.0))
    unroll = AutodiffUnroll(
        Quadratic(jnp.linspace(-1, 1, 7, dtype=jnp.float64)),
        ObjectiveSettings(segment_length=6),
        second_derivatives=True,
    )
    gradient = segment(unroll, optimizer, 1)[1]
    random = np.random.default_rng(0)
    direction = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape)), optimizer)
    step = 1e-6
    above, below = (
        float(segment(unroll, jax.tree.map(lambda w, d: w + s * d, optimizer, direction), 1)[0].sum())  # noqa: B023
        for s in (step, -step)
    )
    along = sum(float(jnp.vdot(g, d)) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    assert along == pytest.approx((above - below) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("kind", [BlockwiseUnroll, AutodiffUnroll])
def test_learned_initial_states_get_a_gradient_in_the_first_segment_alone(kind):
    rule, problem = Drift(jnp.float32(0.02), jnp.float32(-0.01)), Quadratic(jnp.linspace(-1, 1, 7))
    first = segment(kind(problem), rule, 1)[1]
    assert float(first.start) == pytest.approx(float(first.rate), rel=1e-5)
    second = segment(kind(problem), rule, 1, num_segments=2)[1]
    assert float(second.start) == 0
    assert abs(float(second.rate)) > 1


@pytest.mark.parametrize(("settings", "epsilon"), [({}, 1e-6), ({"log_epsilon": 1e-12}, 1e-12)])
def test_the_log_objective_is_its_formula(settings, epsilon):
    unroll = BlockwiseUnroll(DIGITS, ObjectiveSettings(log_objective=True, **settings))
    losses = jnp.logspace(0.3, -9, 21)
    expected = np.mean(np.log(np.asarray(losses) / (2.5 + epsilon) + epsilon))
    assert float(unroll.meta_loss(losses, jnp.float32(2.5))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [BlockwiseUnroll, AutodiffUnroll])
def test_a_shorter_segment_is_one_of_that_length(kind):
    problem, rule = Exact(5, seed=0), Linear(jnp.float32(-0.01))
    shorter = segment(kind(problem, ObjectiveSettings(segment_length=12), jnp.asarray(7)), rule, 1, num_segments=2)
    exact = segment(kind(problem, ObjectiveSettings(segment_length=7)), rule, 1, num_segments=2)
    np.testing.assert_allclose(shorter[0][:7], exact[0][:7], rtol=1e-6)
    np.testing.assert_allclose(shorter[0][7:], jnp.broadcast_to(exact[0][7:], (6, 1)), rtol=1e-6)
    assert float(shorter[1].rate) == pytest.approx(float(exact[1].rate), rel=1e-5)


@pytest.mark.parametrize("kind", [BlockwiseUnroll, AutodiffUnroll])
def test_teachers_alone_leave_no_gradient_and_their_own_trajectory(kind):
    problem, rule = Bowl(5.0), Linear(jnp.float32(-0.5))
    teacher = HandDesigned("adam", learning_rate=0.1)
    losses, gradient, _ = segment(kind(problem, mixture=Mixture(Teachers((teacher,)), jnp.float32(0.0))), rule, 1)
    assert float(gradient.rate) == 0
    params = problem.init(jax.random.split(jax.random.key(0), (2, 1))[0, 0])
    state = teacher.init(params)
    for loss in losses[:, 0]:
        assert float(loss) == pytest.approx(float(problem.loss(params, None)), rel=1e-4)
        updates, state = teacher.update(jax.grad(problem.loss)(params, None), state, params)
        params = params + updates


@pytest.mark.parametrize("kind", [BlockwiseUnroll, AutodiffUnroll])
def test_the_learned_optimizer_alone_is_no_mixture(kind):
    problem, rule = Quadratic(jnp.linspace(-1, 1, 7)), Linear(jnp.float32(-0.05))
    alone = segment(kind(problem, mixture=Mixture(TEACHERS, jnp.float32(1.0))), rule, 2, num_segments=2)
    plain = segment(kind(problem), rule, 2, num_segments=2)
    np.testing.assert_allclose(alone[0], plain[0], rtol=1e-6)
    assert float(alone[1].rate) == pytest.approx(float(plain[1].rate), rel=1e-5)


def test_who_acts_is_drawn_with_the_given_probability():
    keys = jax.random.split(jax.random.key(0), 4000)
    chosen = np.asarray(jax.vmap(Mixture(TEACHERS, jnp.float32(0.4)).choose)(keys))
    assert np.mean(chosen == -1) == pytest.approx(0.4, abs=0.03)
    assert np.mean(chosen == 0) == pytest.approx(0.3, abs=0.03)


def test_all_teachers_advance_whoever_acts():
    gradient, params = {"a": jnp.ones(3)}, {"a": jnp.zeros(3)}
    learned = {"a": jnp.full(3, 7.0)}
    update, states = TEACHERS.follow(jnp.asarray(-1), gradient, TEACHERS.init(params), params, learned)
    np.testing.assert_array_equal(update["a"], 7.0)
    assert int(states[0][0].count) == 1
    update, _ = TEACHERS.follow(jnp.asarray(1), gradient, states, params, learned)
    np.testing.assert_allclose(update["a"], -0.1, rtol=1e-6)


def test_random_scaling_is_the_same_problem_in_other_units():
    augmentation, key = Augmentation(random_scaling=3.0), jax.random.key(4)
    constants = augmentation.draw(DIGITS, key)
    task = augmentation.apply(DIGITS, constants)
    ours, plain, batch = task.init(key), DIGITS.init(key), DIGITS.sample(key)
    assert float(task.loss(ours, batch)) == pytest.approx(float(DIGITS.loss(plain, batch)), rel=1e-5)
    scaled = jax.tree.map(jnp.multiply, jax.grad(DIGITS.loss)(plain, batch), constants.scale)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), jax.grad(task.loss)(ours, batch), scaled
    )
    logs = np.log(np.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(constants.scale)]))
    assert -3 <= logs.min() < -2.9 < 2.9 < logs.max() <= 3
    other = augmentation.draw(DIGITS, jax.random.key(5))
    assert not np.allclose(jax.tree.leaves(other.scale)[0], jax.tree.leaves(constants.scale)[0])


def test_the_convex_term_adds_coordinates_of_its_own():
    augmentation, key = Augmentation(convex_term=True), jax.random.key(4)
    constants = augmentation.draw(DIGITS, key)
    task = augmentation.apply(DIGITS, constants)
    params, batch = task.init(key), DIGITS.sample(key)
    assert params[1].shape == (CONVEX_COORDINATES,)
    assert float(jnp.abs(params[1]).max()) <= 1
    assert float(jnp.abs(constants.target).max()) <= 1
    expected = float(DIGITS.loss(params[0], batch)) + np.mean(
        (np.asarray(params[1]) - np.asarray(constants.target)) ** 2
    )
    assert float(task.loss(params, batch)) == pytest.approx(expected, rel=1e-5)
