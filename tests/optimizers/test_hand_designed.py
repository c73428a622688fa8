import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tutelage.optimizers import parse_hand_designed
from tutelage.optimizers.hand_designed import NAMES

PARAMS = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)}


def updates(optimizer, steps=5):
    state, result = optimizer.init(PARAMS), []
    for step in range(steps):
        gradient = jax.tree.map(lambda p, scale=step: jnp.cos(p + scale), PARAMS)
        update, state = optimizer.update(gradient, state, PARAMS)
        result.append(update)
    return result


@pytest.mark.parametrize("name", NAMES)
def test_each_is_optaxs_own(name):
    ours = updates(parse_hand_designed(f"{name}:learning_rate=0.02"))
    for a, b in zip(ours, updates(getattr(optax, name)(0.02)), strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), a, b)


def test_further_hyperparameters():
    ours = updates(parse_hand_designed("sgd:learning_rate=0.1,momentum=0.9,nesterov=true"))
    theirs = updates(optax.sgd(0.1, momentum=0.9, nesterov=True))
    for a, b in zip(ours, theirs, strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), a, b)


def test_cosine_schedule():
    ours = updates(parse_hand_designed("adam:learning_rate=0.02,cosine_steps=4"), steps=7)
    theirs = updates(optax.adam(optax.cosine_decay_schedule(0.02, 4)), steps=7)
    for a, b in zip(ours, theirs, strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), a, b)


def test_another_learning_rate_is_not_another_program():
    compiled = jax.jit(lambda optimizer: optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)[0])
    compiled(parse_hand_designed("adam:learning_rate=0.1"))
    compiled(parse_hand_designed("adam:learning_rate=0.2"))
    assert compiled._cache_size() == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adma:learning_rate=1", "did you mean adam"),
        ("adam:learning_rate=1,cosine_steps=0", "greater than 0"),
        ("adam", "needs a learning rate"),
        ("adam:learning_rate=-0.1", "learning_rate must be 0 or more, not -0.1"),
        ("adam:learning_rate=nan", "learning_rate of adam is a number, not nan"),
        ("adam:learning_rate=0.1,b1=inf", "b1 of adam is a number, not inf"),
        ("sgd:learning_rate=0.1,momentum=true", "momentum of sgd is a number, not True"),
        ("sgd:learning_rate=0.1,nesterov=1", "nesterov of sgd is true or false, not 1.0"),
        ("adam:learning_rate=0.1,cosine_steps=true", "cosine_steps of adam is a number"),
        ("adamw:learning_rate=0.1,mask=1", "no hyperparameter mask"),
        ("adam:learning_rate=fast", "key=number"),
        ("adam:learning_rate", "key=number"),
        ("adam:learning_rate=1, learning_rate=2", "gives learning_rate twice"),
        ("adam:learning_rate=1,momentum=0.9", "no hyperparameter momentum"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_hand_designed(text)
