"""A Flax and an Equinox model, with checkpoints of orbax and of Equinox."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx

import tutelage

X = jax.random.normal(jax.random.key(0), (64, 8))
Y = (X[:, 0] > 0).astype(jnp.int32)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_flax_trains_and_resumes(tmp_path):
    def start():
        rngs = nnx.Rngs(0)
        network = nnx.Sequential(nnx.Linear(8, 16, rngs=rngs), nnx.relu, nnx.Linear(16, 2, rngs=rngs))
        return network, nnx.Optimizer(network, tutelage.load("rnnprop-cl-il"), wrt=nnx.Param)

    @nnx.jit
    def step(network, optimizer):
        def loss(network):
            return optax.softmax_cross_entropy_with_integer_labels(network(X), Y).mean()

        value, grads = nnx.value_and_grad(loss)(network)
        optimizer.update(network, grads)
        return value

    network, optimizer = start()
    losses = [float(step(network, optimizer)) for _ in range(30)]
    assert losses[-1] < 0.75 * losses[0]
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", nnx.to_pure_dict(nnx.state((network, optimizer))))
    for _ in range(5):
        step(network, optimizer)

    again, resumed = start()
    empty = nnx.state((again, resumed))
    with ocp.StandardCheckpointer() as checkpointer:
        saved = checkpointer.restore(tmp_path / "state", nnx.to_pure_dict(empty))
    nnx.replace_by_pure_dict(empty, saved)
    nnx.update((again, resumed), empty)
    for _ in range(5):
        step(again, resumed)
    assert_same(nnx.state(again, nnx.Param), nnx.state(network, nnx.Param))


def test_equinox_trains_and_resumes(tmp_path):
    optimizer = tutelage.load("rnnprop-cl-il")

    @eqx.filter_jit
    def step(network, state):
        def loss(network):
            return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(network)(X), Y).mean()

        value, grads = eqx.filter_value_and_grad(loss)(network)
        updates, state = optimizer.update(grads, state)
        return eqx.apply_updates(network, updates), state, value

    network = eqx.nn.MLP(8, 2, 16, 1, key=jax.random.key(1))
    state, losses = optimizer.init(eqx.filter(network, eqx.is_array)), []
    for _ in range(30):
        network, state, loss = step(network, state)
        losses.append(float(loss))
    assert losses[-1] < 0.75 * losses[0]

    eqx.tree_serialise_leaves(tmp_path / "state.eqx", (network, state))
    again, resumed = eqx.tree_deserialise_leaves(
        tmp_path / "state.eqx", eqx.filter_eval_shape(lambda: (network, state))
    )
    for _ in range(5):
        network, state, _ = step(network, state)
        again, resumed, _ = step(again, resumed)
    assert_same(eqx.filter(again, eqx.is_array), eqx.filter(network, eqx.is_array))
