import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.optimizers import L2OScale, blocks
from tutelage.optimizers.tensors import Stretches

BLOCK = 8


def function(weights, coordinates, of_tensors):
    x, y = coordinates
    made = jnp.tanh(weights["matrix"] @ jnp.concatenate([x, y[None]]) + of_tensors)
    return {"new": made, "sign": made[0] * y}, jnp.concatenate([made**2, x])


def values_and_gradients(sizes):
    """Everything that comes out of `map_blocks`, and its gradients, for fixed random arguments."""
    draw = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(draw.normal(size=shape), jnp.float32)

    weights = {"matrix": normal(2, 4)}
    coordinates = normal(3, sum(sizes)), normal(sum(sizes))
    of_tensors = normal(2, len(sizes))

    def everything(*arguments):
        return blocks.map_blocks(function, arguments[0], Stretches(sizes), *arguments[1:])

    out = everything(weights, coordinates, of_tensors)
    cotangents = jax.tree.map(lambda x: normal(*x.shape), out)
    return out, jax.vjp(everything, weights, coordinates, of_tensors)[1](cotangents)


@pytest.mark.parametrize("sizes", [(20,), (16,), (3, 16, 1, 21, 8, 5), (8, 8), (7, 9)])
def test_blocks_give_what_one_batch_gives(monkeypatch, sizes):
    whole = values_and_gradients(sizes)
    monkeypatch.setattr(blocks, "BLOCK_SIZE_CPU", BLOCK)
    in_blocks = values_and_gradients(sizes)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, in_blocks)


def test_a_step_of_l2o_scale_is_the_same_in_blocks(monkeypatch):
    optimizer = L2OScale.create(jax.random.key(0))
    tasks = 3
    gradients = {"w": jax.random.normal(jax.random.key(1), (tasks, 5, 7)), "b": jnp.ones((tasks, 5))}

    def steps(optimizer, gradients):
        state = optimizer.init(gradients, key=jax.random.key(2))
        total = 0.0
        for _ in range(2):
            updates, state = optimizer.update(gradients, state)
            total = total + sum(jnp.sum(jnp.sin(10 * leaf)) for leaf in jax.tree.leaves(updates))
        return total

    def gradient():  # of several tasks at once, as in training
        return jax.jit(jax.vmap(jax.value_and_grad(steps), in_axes=(None, 0)))(optimizer, gradients)

    whole = gradient()
    monkeypatch.setattr(blocks, "BLOCK_SIZE_CPU", BLOCK)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, gradient())
