import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import tutelage
from tutelage.interop import load_learned
from tutelage.zoo import zoo_names

ONE = "rnnprop-cl-il"
NAMES = (ONE, "l2o-dm-cl-il", "l2o-scale")
PARAMS = {"w": jnp.linspace(-1, 1, 24).reshape(6, 4), "b": jnp.ones(4), "s": jnp.float32(0.5), "none": jnp.ones((0, 3))}


def loss(params):
    return sum(jnp.sum((leaf - 0.3) ** 2 * jnp.arange(1, leaf.size + 1).reshape(leaf.shape)) for leaf in leaves(params))


def leaves(tree):
    return jax.tree.leaves(tree)


def train(optimizer, params=PARAMS, steps=5, jit=True):
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step) if jit else step
    state = optimizer.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def assert_close(a, b, rtol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-7), a, b)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_it_is_the_taught_optimizer(name):
    learned = load_learned(name)
    assert_close(train(tutelage.load(name))[0], train(learned)[0])
    assert isinstance(tutelage.load(name), optax.GradientTransformationExtraArgs)


def test_it_works_where_nothing_is_promoted_by_itself(name):
    grads, optimizer = jax.tree.map(jnp.ones_like, PARAMS), tutelage.load(name)
    with jax.numpy_dtype_promotion("strict"):
        updates, _ = optimizer.update(grads, optimizer.init(PARAMS))
    assert_close(updates, optimizer.update(grads, optimizer.init(PARAMS))[0])


def test_eager_jit_scan_and_vmap_agree():
    optimizer = tutelage.load(ONE)
    expected = train(optimizer)[0]
    assert_close(train(optimizer, jit=False)[0], expected)
    assert_close(train(optax.GradientTransformationExtraArgs(optimizer.init, jax.jit(optimizer.update)))[0], expected)

    def body(loop, _):
        params, state = loop
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    def scanned(params):
        return jax.lax.scan(body, (params, optimizer.init(params)), length=5)[0][0]

    assert_close(jax.jit(scanned)(PARAMS), expected)
    twice = jax.vmap(scanned)(jax.tree.map(lambda x: jnp.stack([x, 2 * x]), PARAMS))
    assert_close(jax.tree.map(lambda x: x[0], twice), expected)


def test_inside_optax():
    optimizer = tutelage.load(ONE)
    scaled = optax.chain(optax.clip_by_global_norm(1e9), tutelage.load(ONE, scale=0.5), optax.scale(2.0))
    assert_close(train(scaled)[0], train(optimizer)[0], rtol=1e-4)
    only = {name: name == "w" for name in PARAMS}
    rest = {name: name != "w" for name in PARAMS}
    masked = optax.chain(optax.masked(optimizer, only), optax.masked(optax.set_to_zero(), rest))
    trained = train(masked)[0]
    assert_close(trained["w"], train(optimizer, {"w": PARAMS["w"]})[0]["w"])
    assert_close(trained["b"], PARAMS["b"])
    labels = {name: "ours" if name == "w" else "adam" for name in PARAMS}
    both = optax.multi_transform({"ours": optimizer, "adam": optax.adam(0.1)}, labels)
    trained = train(both)[0]
    assert_close(trained["w"], train(optimizer, {"w": PARAMS["w"]})[0]["w"])
    others = {k: v for k, v in PARAMS.items() if k != "w"}
    assert_close({k: trained[k] for k in others}, train(optax.adam(0.1), others)[0])


def test_scale_by_schedule():
    grads = jax.grad(loss)(PARAMS)
    plain, halved = tutelage.load(ONE), tutelage.load(ONE, scale=lambda count: jnp.where(count < 1, 1.0, 0.5))
    states = [plain.init(PARAMS), halved.init(PARAMS)]
    for factor in (1.0, 0.5, 0.5):
        (expected, states[0]), (updates, states[1]) = plain.update(grads, states[0]), halved.update(grads, states[1])
        assert_close(updates, jax.tree.map(lambda u, factor=factor: factor * u, expected))


def test_low_precision_parameters_and_state():
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    params, state = train(tutelage.load(ONE), low)
    assert {leaf.dtype for leaf in leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in leaves(state.inner)} == {jnp.dtype(jnp.float32)}
    mixed = low | {"b": PARAMS["b"]}
    assert train(tutelage.load(ONE), mixed)[0]["b"].dtype == jnp.float32
    params, half = train(tutelage.load(ONE, state_dtype=jnp.bfloat16))
    assert {leaf.dtype for leaf in leaves(half.inner)} == {jnp.dtype(jnp.bfloat16)}
    assert sum(x.nbytes for x in leaves(half.inner)) * 2 == sum(x.nbytes for x in leaves(state.inner))
    counting = train(tutelage.load("tutelage-1", state_dtype=jnp.bfloat16), steps=400)[1].inner
    assert (counting.momentum.dtype, counting.step) == (jnp.bfloat16, 400)
    moved, expected = (jax.tree.map(jnp.subtract, p, PARAMS) for p in (params, train(tutelage.load(ONE))[0]))
    assert optax.tree.norm(jax.tree.map(jnp.subtract, moved, expected)) < 0.05 * optax.tree.norm(expected)


def test_buffers_can_be_donated_and_parameters_sharded():
    optimizer = tutelage.load(ONE)
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    expected = train(optimizer)[0]
    params = jax.tree.map(jnp.copy, PARAMS)
    params["w"] = jax.device_put(params["w"], NamedSharding(mesh, PartitionSpec("x")))
    params = {k: v if k == "w" else jax.device_put(v, NamedSharding(mesh, PartitionSpec())) for k, v in params.items()}
    state = optimizer.init(params)

    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=(0, 1))
    for _ in range(5):
        params, state = step(params, state)
    assert_close(params, expected)
    assert not params["w"].sharding.is_fully_replicated


@pytest.mark.parametrize("name", ["tutelage-1", "l2o-scale", ONE])
@pytest.mark.parametrize(("columns", "cut"), [(5, True), (4, False)])  # 36 coordinates, and 29, which 2 does not divide
def test_parameters_on_a_mesh_with_explicit_axes(name, columns, cut):
    params = {"w": jnp.linspace(-1, 1, 6 * columns).reshape(6, columns), "b": jnp.ones(columns), "s": jnp.float32(0.5)}
    optimizer = tutelage.load(name)
    expected = train(optimizer, params)[0]
    mesh = jax.make_mesh((2,), ("x",))
    by_row, everywhere = NamedSharding(mesh, PartitionSpec("x")), NamedSharding(mesh, PartitionSpec())
    with jax.set_mesh(mesh):
        params = jax.device_put(params, {"w": by_row, "b": everywhere, "s": everywhere})
        for jit in (True, False):
            after, state = train(optimizer, params, jit=jit)
            assert_close(after, expected)
            assert jax.typeof(after["w"]).sharding.spec == PartitionSpec("x", None)
            assert any("x" in jax.typeof(leaf).sharding.spec[-1:] for leaf in leaves(state)) == cut


def test_state_is_saved_and_restored_by_orbax(tmp_path):
    optimizer = tutelage.load(ONE)
    start = {name: leaf for name, leaf in PARAMS.items() if leaf.size}  # orbax saves no empty arrays
    params, state = train(optimizer, start, steps=3)
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    with ocp.CheckpointManager(tmp_path, options=options) as kept:
        kept.save(3, args=ocp.args.StandardSave((params, state)))
        template = jax.eval_shape(lambda: (start, optimizer.init(start)))
        restored = kept.restore(3, args=ocp.args.StandardRestore(template))
    assert jax.tree.structure(restored[1]) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, (params, state))


def test_a_gradient_that_is_not_finite_changes_nothing():
    optimizer = tutelage.load(ONE)
    state = train(optimizer, steps=2)[1]
    grads = jax.grad(loss)(PARAMS)
    for bad in (jnp.nan, jnp.inf):
        updates, after = jax.jit(optimizer.update)(grads | {"b": grads["b"].at[1].set(bad)}, state)
        assert all((leaf == 0).all() for leaf in leaves(updates))
        jax.tree.map(np.testing.assert_array_equal, after.inner, state.inner)
        assert after.skipped == 1


def test_mistakes_are_named(name):
    optimizer = tutelage.load(name)
    state = optimizer.init(PARAMS)
    with pytest.raises(ValueError, match="belongs to other parameters"):
        optimizer.update({"w": PARAMS["w"]}, state)
    other = tutelage.load(next(other for other in NAMES if other != name))
    with pytest.raises(ValueError, match="or another optimizer"):
        optimizer.update(PARAMS, other.init(PARAMS))
    with pytest.raises(ValueError, match=r"at \['n'\] is int32: only floating-point"):
        optimizer.init({"n": jnp.arange(3)})
    with pytest.raises(ValueError, match="The parameter is int32: only floating-point"):
        optimizer.init(jnp.arange(3))
    with pytest.raises(ValueError, match="did you mean rnnprop"):
        tutelage.load("rnnpropp")
    for dtype in (jnp.int32, "bf16"):
        with pytest.raises(ValueError, match="state_dtype is a floating-point type"):
            tutelage.load(name, state_dtype=dtype)


@pytest.mark.usefixtures("unchecked_types")
def test_a_scale_that_is_none():
    with pytest.raises(ValueError, match="scale is a number or a schedule, not '1'"):
        tutelage.load(ONE, scale="1")  # pyright: ignore[reportArgumentType]


def test_many_leaves_and_one_large_one_are_one_batch():
    optimizer = tutelage.load(ONE)
    many = {str(number): jnp.full((number % 3 + 1,), 0.1) for number in range(40)}
    updates, _ = jax.jit(optimizer.update)(many, optimizer.init(many))
    assert all(jnp.isfinite(leaf).all() for leaf in leaves(updates))
    large = jnp.linspace(-1, 1, 100_003)
    updates, _ = jax.jit(optimizer.update)(large, optimizer.init(large))
    assert updates.shape == large.shape
    assert jnp.isfinite(updates).all()


def test_an_equinox_model_in_three_lines():
    model = eqx.nn.MLP(2, 1, 8, 2, key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (64, 2))
    y = jnp.sin(3 * x[:, :1]) * x[:, 1:]
    optimizer = tutelage.load("rnnprop-cl-il")
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    def error(model):
        return jnp.mean((jax.vmap(model)(x) - y) ** 2)

    @eqx.filter_jit
    def step(model, state):
        value, grads = eqx.filter_value_and_grad(error)(model)
        updates, state = optimizer.update(grads, state, model, value=value)
        return eqx.apply_updates(model, updates), state, value

    values = []
    for _ in range(300):
        model, state, value = step(model, state)
        values.append(float(value))
    assert values[-1] < 0.3 * values[0]


def test_all_of_the_zoo_loads():
    assert set(NAMES) <= set(zoo_names())
