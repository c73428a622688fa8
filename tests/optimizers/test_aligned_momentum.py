import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tutelage
from tutelage.optimizers import AlignedMomentum

SHAPES = {"weight": (40, 30), "bias": (30,), "scalar": (), "empty": (0, 3), "middle": (5, 2), "other": (5,)}


def drawn(key, scale=1.0):
    keys = jax.random.split(key, len(SHAPES))
    return {name: scale * jax.random.normal(k, shape) for (name, shape), k in zip(SHAPES.items(), keys, strict=True)}


def taught():
    made = AlignedMomentum.create(jax.random.key(3))
    chosen = {"log_power": 0.4, "log_warmup": 2.0, "log_floor": -1.0, "log_share": -0.5}
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


def dying(gradient):
    """Some of the weight's all but vanish; half of the bias never has one, a tenth a tiny one; "other" is rounding."""
    of_bias = jnp.where(jnp.arange(30) < 15, 0.0, 1.0) * jnp.where(jnp.arange(30) < 18, 1e-4, 1.0)
    weight = gradient["weight"] * jnp.logspace(0, -12, 30)
    return gradient | {"weight": weight, "bias": of_bias * gradient["bias"], "other": 1e-7 * gradient["other"]}


GRADIENTS = [drawn(jax.random.key(step)) for step in range(12)]
DYING = [dying(gradient) for gradient in GRADIENTS]


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("names", [tuple(SHAPES), ("middle", "weight"), ("bias", "scalar")])
def test_it_is_the_formula_of_its_documentation(names):
    optimizer = jax.tree.map(lambda x: x.astype(jnp.float64), taught())
    gradients = [{name: g[name].astype(jnp.float64) for name in names} for g in DYING]
    updates, state = run(optimizer, gradients)
    number = {name.removeprefix("log_"): np.exp(float(x)) for name, x in vars(optimizer).items()}
    forget, forget_square = number["momentum_forgetting"], number["square_forgetting"]
    m, v = ({name: np.zeros(SHAPES[name]) for name in names} for _ in range(2))
    boldness, sizes = 0.0, []

    def row(tree):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])

    def root_mean_square(x):
        return np.sqrt(np.mean(np.square(x))) if x.size else 1.0

    for step, (gradient, update) in enumerate(zip(gradients, updates, strict=True), start=1):
        before = dict(m)
        sizes.append(root_mean_square(row(gradient)))
        floor = number["floor"] * np.mean(sizes)
        size, scale = {}, {}
        for name, g in gradient.items():
            m[name] = (1 - forget) * m[name] + forget * np.asarray(g)
            v[name] = (1 - forget_square) * v[name] + forget_square * np.square(g)
            size[name] = np.sqrt(v[name] / (1 - (1 - forget_square) ** step))
            scale[name] = np.hypot(size[name], number["share"] * root_mean_square(size[name])) + floor
        whole = root_mean_square(row(size))
        if step > 1:
            one = row({name: gradient[name] / scale[name] for name in names})
            other = row({name: before[name] / scale[name] for name in names})
            cosine = one @ other / np.sqrt((one @ one) * (other @ other))
            boldness += number["gain"] * (cosine - number["target"])
        for name in names:
            ratio, of_tensor = size[name] / whole, root_mean_square(size[name]) / whole
            if len(SHAPES[name]) < 2:
                factor = number["vector_factor"]
                usual = of_tensor + 1e-15
                raised = number["awakening"] * (1 + ratio / usual / 0.01) ** -2 * of_tensor / usual
            else:
                factor = (np.prod(SHAPES[name]) / 1000) ** -number["size_exponent"] if size[name].size else 1.0
                raised = number["revival"] * (1 + ratio / 1e-5) ** -2 * ratio / (ratio + 1e-15)
            raised *= min(number["warmup"] / step, 1) * min(np.exp(-boldness), 1) * whole / (whole + floor)
            direction = m[name] / (1 - (1 - forget) ** step) / scale[name]
            expected = raised - np.sign(direction) * np.abs(direction) ** number["power"]
            expected *= number["rate"] * factor * np.exp(boldness) * min(step / number["warmup"], 1)
            np.testing.assert_allclose(update[name], expected, rtol=1e-8)
    np.testing.assert_allclose(state.log_boldness, boldness, rtol=1e-8)


def test_the_scale_of_gradients_makes_no_difference():
    (updates, _), (tiny, _) = (
        run(taught(), [jax.tree.map(lambda x, s=scale: s * x, g) for g in GRADIENTS]) for scale in (1.0, 1e-7)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-8), updates, tiny)


def test_layout_makes_no_difference():
    transposed = [g | {"weight": g["weight"].T, "middle": g["middle"][:, :, None]} for g in GRADIENTS]
    (updates, _), (others, _) = run(taught(), GRADIENTS), run(taught(), transposed)
    np.testing.assert_allclose(others[-1]["weight"].T, updates[-1]["weight"], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(others[-1]["middle"][:, :, 0], updates[-1]["middle"], rtol=1e-4, atol=1e-7)


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
    assert jnp.abs(last["weight"]).max() < 1e-6 * jnp.abs(last["middle"]).max()


def test_what_had_a_gradient_is_raised_when_it_is_gone():
    died = [g | {"middle": (step < 4) * g["middle"], "bias": 0 * g["bias"]} for step, g in enumerate(GRADIENTS * 90)]
    updates = run(taught(), died)[0]
    raised = [float(update["middle"].min()) for update in updates]
    assert min(raised[150:600]) > 0, "long after the last gradient"
    assert raised[-1] < 1e-3 * max(raised), "longer after"
    assert all((update["bias"] == 0).all() for update in updates), "never had one"


def test_nothing_is_raised_where_all_gradients_are_only_rounding():
    def last(scale):
        alive = [jax.tree.map(lambda x: scale * x, GRADIENTS[step % 12]) for step in range(300)]
        died = [GRADIENTS[0], *(g | {"middle": 0 * g["middle"]} for g in alive)]
        return float(run(taught(), died)[0][-1]["middle"].min())

    # relative to the first gradient, the others are above the floor or far below it
    assert 0 < last(1e-9) < 1e-3 * last(1.0)


UNTEMPERED = eqx.tree_at(
    lambda o: [o.log_share, o.log_awakening], AlignedMomentum.create(jax.random.key(3)), [jnp.float32(-30.0)] * 2
)


def test_a_bias_without_gradient_is_raised_where_others_of_its_tensor_have_one():
    gradients = [dying(drawn(jax.random.key(step))) | {"scalar": jnp.zeros(())} for step in range(50)]
    last = run(AlignedMomentum.create(jax.random.key(3)), gradients)[0][-1]
    raised = last["bias"][:15].min()
    assert raised > 0, "of a unit that is dead from the start"
    assert last["scalar"] == 0, "of a tensor that is frozen"
    unmoved = eqx.tree_at(lambda o: o.log_power, AlignedMomentum.create(jax.random.key(3)), jnp.float32(5.0))
    last = run(unmoved, gradients)[0][-1]
    assert jnp.abs(last["other"]).max() < 0.05 * raised, "as of a bias before batch normalization"
    last = run(UNTEMPERED, gradients)[0][-1]
    assert jnp.abs(last["bias"][:15]).max() < 1e-9 * raised


def test_what_is_rare_moves_by_its_sum_rather_than_by_its_signs():
    """A class that is dead for all but a few images: pushed down a little by nine of them, up a lot by the tenth."""
    rare = jnp.where(jnp.arange(600) % 50 == 0, jnp.where(jnp.arange(600) % 500 == 0, -1e-1, 3e-3), 0.0)

    def moved(optimizer):
        common = (jax.random.normal(jax.random.key(step), (10, 10)) for step in range(600))
        given = [{"weight": g.at[0].set(x)} for g, x in zip(common, rare, strict=True)]
        return sum(float(updates["weight"][0].sum()) for updates in run(optimizer, given)[0])

    both = AlignedMomentum.create(jax.random.key(3)), UNTEMPERED
    unrevived = [eqx.tree_at(lambda o: o.log_revival, o, jnp.float32(-30.0)) for o in both]
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

    optimizer = AlignedMomentum.create(jax.random.key(3))
    assert alive(optimizer, 0) == 7
    assert alive(optimizer, 2_000) == 10 > alive(UNTEMPERED, 2_000)


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


@pytest.mark.parametrize(("name", "num_steps"), [("tutelage-1", 20_000), ("tutelage-2", 6_000)])
def test_zero_loss_is_kept(name, num_steps):
    problem = tutelage.optimizee("mlp-digits", split="test")
    losses, _ = tutelage.rollout(tutelage.optimizer(name), problem, jax.random.key(1), num_steps)
    assert losses[2_000:].max() < 1e-5
