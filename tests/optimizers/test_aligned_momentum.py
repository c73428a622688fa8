import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tutelage
from tutelage.optimizers import AlignedMomentum

SHAPES = {"weight": (40, 30), "bias": (30,), "scalar": (), "empty": (0, 3), "small": (5, 2)}


def drawn(key, scale=1.0):
    keys = jax.random.split(key, len(SHAPES))
    return {name: scale * jax.random.normal(k, shape) for (name, shape), k in zip(SHAPES.items(), keys, strict=True)}


def taught():
    made = AlignedMomentum.create(jax.random.key(3))
    chosen = {"log_power": 0.4, "log_warmup": 2.0, "log_floor": -1.0}
    return eqx.tree_at(lambda o: [getattr(o, name) for name in chosen], made, [jnp.float32(x) for x in chosen.values()])


@jax.jit
def step(optimizer, gradient, state):
    return optimizer.update(gradient, state)


def run(optimizer, gradients):
    state, updates = optimizer.init(gradients[0]), []
    for gradient in gradients:
        update, state = step(optimizer, gradient, state)
        updates.append(update)
    return updates, state


GRADIENTS = [drawn(jax.random.key(step)) for step in range(12)]


@pytest.mark.usefixtures("double_precision")
def test_it_is_the_formula_of_its_documentation():
    optimizer = jax.tree.map(lambda x: x.astype(jnp.float64), taught())
    gradients = [jax.tree.map(lambda x: x.astype(jnp.float64), g) for g in GRADIENTS]
    gradients = [g | {"bias": g["bias"] * jnp.logspace(0, -18, 30)} for g in gradients]  # some all but vanish
    updates, state = run(optimizer, gradients)
    number = {name: np.exp(float(x)) for name, x in vars(optimizer).items()}
    forget, forget_square = number["log_momentum_forgetting"], number["log_square_forgetting"]
    m = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    v, boldness, sizes = dict(m), 0.0, []

    def row(tree):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])

    for step, (gradient, update) in enumerate(zip(gradients, updates, strict=True), start=1):
        before = dict(m)
        sizes.append(np.sqrt(np.mean(row(gradient) ** 2)))
        size, root = {}, {}
        for name, g in gradient.items():
            g = np.asarray(g)
            m[name] = (1 - forget) * m[name] + forget * g
            v[name] = (1 - forget_square) * v[name] + forget_square * g**2
            size[name] = np.sqrt(v[name] / (1 - (1 - forget_square) ** step))
            root[name] = size[name] + number["log_floor"] * np.mean(sizes)
        whole = np.sqrt(np.mean(row(size) ** 2))
        if step > 1:
            a = row({name: gradient[name] / root[name] for name in SHAPES})
            b = row({name: before[name] / root[name] for name in SHAPES})
            cosine = a @ b / np.sqrt((a @ a) * (b @ b))
            boldness += number["log_gain"] * (cosine - number["log_target"])
        for name, shape in SHAPES.items():
            factor = number["log_vector_factor"] if len(shape) < 2 else (np.prod(shape) or 1) / 1000
            factor = factor if len(shape) < 2 else factor ** -number["log_size_exponent"]
            direction = m[name] / (1 - (1 - forget) ** step) / root[name]
            ratio = size[name] / whole
            expected = (1 + ratio / 1e-5) ** -2 * ratio / (ratio + 1e-15)
            expected *= whole / (whole + number["log_floor"] * np.mean(sizes))
            expected *= number["log_revival"] * min(number["log_warmup"] / step, 1) * min(np.exp(-boldness), 1)
            expected -= np.sign(direction) * np.abs(direction) ** number["log_power"]
            expected *= number["log_rate"] * factor * np.exp(boldness) * min(step / number["log_warmup"], 1)
            np.testing.assert_allclose(update[name], expected, rtol=1e-8)
    np.testing.assert_allclose(state.log_boldness, boldness, rtol=1e-8)


def test_the_scale_of_gradients_makes_no_difference():
    (updates, _), (tiny, _) = (
        run(taught(), [jax.tree.map(lambda x, s=scale: s * x, g) for g in GRADIENTS]) for scale in (1.0, 1e-7)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-8), updates, tiny)


def test_layout_makes_no_difference():
    transposed = [g | {"weight": g["weight"].T, "small": g["small"][:, :, None]} for g in GRADIENTS]
    (updates, _), (others, _) = run(taught(), GRADIENTS), run(taught(), transposed)
    np.testing.assert_allclose(others[-1]["weight"].T, updates[-1]["weight"], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(others[-1]["small"][:, :, 0], updates[-1]["small"], rtol=1e-4, atol=1e-7)


def test_steady_gradients_make_it_bolder_and_noise_more_careful():
    steady = [drawn(jax.random.key(0), scale) for scale in np.linspace(1, 2, 40)]
    noise = [drawn(jax.random.key(step)) for step in range(40)]
    assert run(taught(), steady)[1].log_boldness > 0.05
    assert run(taught(), noise)[1].log_boldness < 0


def test_a_power_above_one_takes_noise_back():
    def relative_size(optimizer):
        noisy = run(optimizer, [drawn(jax.random.key(step)) for step in range(40)])[0][-1]["weight"]
        steady = run(optimizer, [drawn(jax.random.key(0))] * 40)[0][-1]["weight"]
        return float(jnp.abs(noisy).mean() / jnp.abs(steady).mean())

    plain = eqx.tree_at(lambda o: o.log_power, taught(), jnp.float32(0.0))
    assert relative_size(taught()) < 0.8 * relative_size(plain)


def test_what_is_only_rounding_moves_nothing():
    noise = [g | {"weight": 1e-7 * g["weight"]} for g in GRADIENTS]
    last = run(eqx.tree_at(lambda o: o.log_revival, taught(), jnp.float32(-30.0)), noise)[0][-1]
    assert jnp.abs(last["weight"]).max() < 1e-6 * jnp.abs(last["small"]).max()


def test_what_had_a_gradient_is_raised_when_it_is_gone():
    died = [g | {"small": (step < 4) * g["small"], "bias": 0 * g["bias"]} for step, g in enumerate(GRADIENTS * 90)]
    updates = run(taught(), died)[0]
    raised = [float(update["small"].min()) for update in updates]
    assert min(raised[150:600]) > 0, "long after the last gradient"
    assert raised[-1] < 1e-3 * max(raised), "longer after"
    assert all((update["bias"] == 0).all() for update in updates), "never had one"


def test_nothing_is_raised_where_all_gradients_are_only_rounding():
    def last(scale):
        alive = [jax.tree.map(lambda x: scale * x, GRADIENTS[step % 12]) for step in range(300)]
        died = [GRADIENTS[0], *(g | {"small": 0 * g["small"]} for g in alive)]
        return float(run(taught(), died)[0][-1]["small"].min())

    # relative to the first gradient, the others are above the floor or far below it
    assert 0 < last(1e-9) < 1e-3 * last(1.0)


def test_gradients_that_are_all_zero_move_nothing_and_have_derivatives():
    zeros = jax.tree.map(jnp.zeros_like, GRADIENTS[0])
    updates, state = run(taught(), [zeros, zeros])
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(updates))
    assert float(state.log_boldness) < 0  # no agreement to speak of

    def moved(optimizer, gradient):
        _, state = optimizer.update(gradient, optimizer.init(gradient))
        updates, _ = optimizer.update(gradient, state)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(updates))

    for slopes in jax.grad(moved, argnums=(0, 1))(taught(), zeros):
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_nothing_to_optimize():
    optimizer = taught()
    updates, _ = optimizer.update({}, optimizer.init({}))
    assert updates == {}


@pytest.mark.parametrize("name", ["tutelage-1", "tutelage-2"])
def test_zero_loss_is_kept(name):
    problem = tutelage.optimizee("mlp-digits", split="test")
    losses, _ = tutelage.rollout(tutelage.optimizer(name), problem, jax.random.key(1), 6_000)
    assert losses[2_000:].max() < 1e-5
