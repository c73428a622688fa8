from dataclasses import fields

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tutelage
from tutelage.optimizers import AlignedMomentum, ScheduledMomentum

SHAPES = {"weight": (40, 30), "bias": (30,), "scalar": (), "frozen": (3,), "rounding": (5,)}
SCHEDULED = ScheduledMomentum.create(jax.random.key(3))
ALIGNED = AlignedMomentum(**{f.name: getattr(SCHEDULED, f.name) for f in fields(AlignedMomentum)})
STRAINED = eqx.tree_at(lambda o: [o.log_warmup, o.log_share], SCHEDULED, [jnp.float32(2.0), jnp.float32(-0.5)])


def gradients(number):
    """Half of the bias never has a gradient, and a tenth of it a tiny one; one tensor is frozen, one only rounding."""
    sizes = jnp.where(jnp.arange(30) < 15, 0.0, 1.0) * jnp.where(jnp.arange(30) < 18, 1e-4, 1.0)
    factors = {"weight": jnp.logspace(0, -12, 30), "bias": sizes, "scalar": 1.0, "frozen": 0.0, "rounding": 1e-7}
    for step in range(number):
        keys = jax.random.split(jax.random.key(step), len(SHAPES))
        yield {n: factors[n] * jax.random.normal(k, s) for (n, s), k in zip(SHAPES.items(), keys, strict=True)}


def run(optimizer, given):
    update, state = jax.jit(lambda o, g, s: o.update(g, s)), None
    for gradient in given:
        state = optimizer.init(gradient) if state is None else state
        updates, state = update(optimizer, gradient, state)
        yield updates


@pytest.mark.parametrize("num_steps", [10_000, 9])  # at 9 it warms up for 2.7, and then stands still
@pytest.mark.usefixtures("double_precision")
def test_it_is_the_formula_of_its_documentation(num_steps):
    optimizer = jax.tree.map(lambda x: x.astype(jnp.float64), STRAINED).for_steps(num_steps)
    given = [jax.tree.map(lambda x: x.astype(jnp.float64), g) for g in gradients(12)]
    number = {f.name[4:]: np.exp(float(getattr(optimizer, f.name))) for f in fields(optimizer) if f.name[:4] == "log_"}
    forget, forget_square = number["momentum_forgetting"], number["square_forgetting"]
    m, v = ({name: np.zeros(shape) for name, shape in SHAPES.items()} for _ in range(2))
    warmup = min(number["warmup"], 0.3 * num_steps)
    boldness, sizes = 0.0, []

    def row(tree):
        return np.concatenate([np.ravel(tree[name]) for name in SHAPES])

    def root_mean_square(x):
        return np.sqrt(np.mean(np.square(x)))

    for step, (gradient, update) in enumerate(zip(given, run(optimizer, given), strict=True), start=1):
        before = dict(m)
        sizes.append(root_mean_square(row(gradient)))
        floor = number["floor"] * np.mean(sizes)
        size, scale = {}, {}
        for name, g in gradient.items():
            m[name] = (1 - forget) * m[name] + forget * np.asarray(g)
            v[name] = (1 - forget_square) * v[name] + forget_square * np.square(g)
            size[name] = np.sqrt(v[name] / (1 - (1 - forget_square) ** step))
            scale[name] = np.hypot(size[name], number["share"] * root_mean_square(size[name])) + floor
        scale["frozen"] += 1e-300
        whole = root_mean_square(row(size))
        if step > 1:
            a, b = (row({name: x[name] / scale[name] for name in SHAPES}) for x in (gradient, before))
            boldness += number["gain"] * (a @ b / np.sqrt((a @ a) * (b @ b)) - number["target"])
        for name, shape in SHAPES.items():
            ratio, of_tensor = size[name] / whole, root_mean_square(size[name]) / whole
            if len(shape) < 2:
                factor = number["vector_factor"]
                usual = of_tensor + 1e-15
                raised = number["awakening"] * (1 + ratio / usual / 0.01) ** -2 * of_tensor / usual
            else:
                factor = (np.prod(shape) / 1000) ** -number["size_exponent"]
                raised = number["revival"] * (1 + ratio / 1e-5) ** -2 * ratio / (ratio + 1e-15)
            raised *= min(warmup / step, 1) * min(np.exp(-boldness), 1) * whole / (whole + floor)
            direction = m[name] / (1 - (1 - forget) ** step) / scale[name]
            expected = raised - np.sign(direction) * np.abs(direction) ** number["power"]
            expected *= number["rate"] * factor * np.exp(boldness) * min(step / warmup, 1)
            expected *= max(1 - (step - 1) / num_steps, 0)
            np.testing.assert_allclose(update[name], expected, rtol=1e-8)


def test_a_bias_without_gradient_is_raised_where_others_of_its_tensor_have_one():
    *_, last = run(SCHEDULED, gradients(50))
    raised = last["bias"][:15].min()
    assert raised > 0, "of a unit that is dead from the start"
    assert (last["frozen"] == 0).all()
    unmoved = eqx.tree_at(lambda o: o.log_power, SCHEDULED, jnp.float32(5.0))  # but by being raised
    *_, last = run(unmoved, gradients(50))
    assert jnp.abs(last["rounding"]).max() < 0.05 * raised, "as of a bias before batch normalization"
    *_, last = run(ALIGNED, gradients(50))
    assert (last["bias"][:15] == 0).all()


def test_what_is_rare_moves_by_its_sum_rather_than_by_its_signs():
    """A class that is dead for all but a few images: pushed down a little by nine of them, up a lot by the tenth."""
    rare = jnp.where(jnp.arange(600) % 50 == 0, jnp.where(jnp.arange(600) % 500 == 0, -1e-1, 3e-3), 0.0)

    def moved(optimizer):
        common = (jax.random.normal(jax.random.key(step), (10, 10)) for step in range(600))
        given = ({"weight": g.at[0].set(x)} for g, x in zip(common, rare, strict=True))
        return sum(float(updates["weight"][0].sum()) for updates in run(optimizer, given))

    unrevived = [eqx.tree_at(lambda o: o.log_revival, o, jnp.float32(-30.0)) for o in (SCHEDULED, ALIGNED)]
    assert moved(unrevived[0]) > 0 > moved(unrevived[1])


def test_no_class_stays_dead():
    """On 16 features that are all positive three of ten classes are dead behind their ReLU at first."""
    inputs = 0.6 + 0.4 * jax.random.uniform(jax.random.key(0), (2_000, 16))
    labels = jnp.argmax((inputs - inputs.mean(0)) @ jax.random.normal(jax.random.key(1), (16, 10)), axis=1)

    def logits(params, inputs):
        return jax.nn.relu(inputs @ params["weight"] + params["bias"])

    def alive(optimizer, num_steps):
        def loss(params, chosen):
            right = labels[chosen][:, None]
            return -jnp.take_along_axis(jax.nn.log_softmax(logits(params, inputs[chosen])), right, 1).mean()

        def step(carry, key):
            params, state = carry
            gradient = jax.grad(loss)(params, jax.random.randint(key, (128,), 0, len(inputs)))
            updates, state = optimizer.update(gradient, state)
            return (jax.tree.map(jnp.add, params, updates), state), None

        params = {"weight": 0.01 * jax.random.normal(jax.random.key(2), (16, 10)), "bias": jnp.zeros(10)}
        start = params, optimizer.init(params)
        (params, _), _ = jax.lax.scan(step, start, jax.random.split(jax.random.key(5), num_steps))
        return int((logits(params, inputs) > 0).any(0).sum())

    assert alive(SCHEDULED, 0) == 7
    assert alive(SCHEDULED, 2_000) == 10 > alive(ALIGNED, 2_000)


def test_gradients_that_are_all_zero_move_nothing_and_have_derivatives():
    zeros = jax.tree.map(jnp.zeros_like, next(gradients(1)))

    def moved(optimizer, gradient):
        _, state = optimizer.update(gradient, optimizer.init(gradient))
        updates, _ = optimizer.update(gradient, state)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(updates))

    assert moved(SCHEDULED, zeros) == 0
    for slopes in jax.grad(moved, argnums=(0, 1))(SCHEDULED, zeros):
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_zero_loss_is_kept():
    problem = tutelage.optimizee("mlp-digits", split="test")
    losses, _ = tutelage.rollout(SCHEDULED, problem, jax.random.key(1), 6_000)
    assert losses[2_000:].max() < 1e-5
