"""Optimizees and learned optimizers of one's own, and what may be amiss with them."""

import json
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tutelage
from tests.problems import Linear, Momentum
from tutelage.optimizees import Optimizee
from tutelage.training import recipe, train


class Regression(Optimizee):
    """A linear map to ones, all of it in this type."""

    dtype: type = eqx.field(static=True, default=jnp.float32)

    def init(self, key):
        return {"w": jax.random.normal(key, (4, 3)).astype(self.dtype)}

    def sample(self, key):
        return jax.random.normal(key, (8, 4)).astype(self.dtype)

    def loss(self, params, batch):
        return jnp.mean((batch @ params["w"] - 1) ** 2)


class Unaveraged(Regression):
    def loss(self, params, batch):
        return (batch @ params["w"] - 1) ** 2


class WithFunctions(Regression):
    def init(self, key):
        return {"w": super().init(key)["w"], "f": jnp.tanh}


class WithNumbers(Regression):
    def init(self, key):
        return {"w": super().init(key)["w"], "n": jnp.arange(3)}


def single(split):
    return Regression()


def half(split):
    return Regression(jnp.bfloat16)


def unaveraged(split):
    return Unaveraged()


def with_functions(split):
    return WithFunctions()


def with_numbers(split):
    return WithNumbers()


def momentum(key):
    return Momentum(jnp.float32(0.01), jnp.float32(0.9))


def python_number(key):
    return Linear(-0.1)


def with_network(key):
    return Linear(eqx.nn.MLP(1, 1, 2, 1, key=key))


def own(factory):
    return f"{__name__}:{factory.__name__}"


AMISS = [
    (unaveraged, r"The loss of Unaveraged has shape \(8, 3\): make it a single number"),
    (with_functions, r"parameter of WithFunctions at \['f'\] is a Python .*: only floating-point arrays can be"),
    (with_numbers, r"parameter of WithNumbers at \['n'\] is int32: only floating-point arrays can be optimized"),
]


@pytest.mark.parametrize(("problem", "sentence"), AMISS)
def test_what_is_amiss_with_an_optimizee_is_said(tmp_path, problem, sentence):
    with pytest.raises(ValueError, match=sentence):
        tutelage.evaluate(["adam:learning_rate=0.01"], [own(problem)], num_steps=100, num_seeds=1)
    with pytest.raises(ValueError, match=sentence):
        tutelage.rollout(momentum(None), problem("test"), jax.random.key(0), 20)
    with pytest.raises(ValueError, match=sentence):
        train(tmp_path / "run", recipe(own(momentum), "plain", on=(own(problem),), validate_on=("bowl",)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("optimizer", "at"), [(python_number, r"\.rate is a Python float"), (with_network, r"\.rate")])
def test_weights_that_cannot_be_trained_are_told_of(tmp_path, optimizer, at):
    config = recipe(own(optimizer), "plain", on=("mlp-digits",), max_epochs=1)
    with pytest.raises(ValueError, match=rf"weight of .* at {at}.*: only floating-point arrays .* eqx\.field\(static"):
        train(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_fields_of_an_optimizee_are_arrays_or_static():
    class Fields(Regression):
        scale: float = 1.0
        f: Any = None

    with pytest.raises(ValueError, match=r"^Fields\.f is a Python .*: what is no array is to be a static field"):
        Fields(scale=2.0, f=jnp.tanh)
    table = tutelage.evaluate(["adam:learning_rate=0.01"], {"it": Fields(scale=2.0)}, num_steps=100, num_seeds=1)
    assert table["loss"].is_finite().all()


@pytest.mark.parametrize(("technique", "settings"), [("plain-il", {}), ("plain", {"second_derivatives": True})])
def test_an_optimizee_in_half_precision_is_trained_on_as_in_single(tmp_path, technique, settings):
    losses = {}
    for problem in (single, half):
        run = tmp_path / problem.__name__
        config = recipe(
            own(momentum), technique, on=(own(problem),), num_validation=2, max_epochs=4, num_tasks=2, **settings
        )
        train(run, config)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert sum(row.get("skipped_steps", 0) + row.get("diverged_tasks", 0) for row in rows) == 0
        imitating = {row["teacher"] is not None for row in rows if "unroll" in row}
        assert imitating == ({True, False} if technique == "plain-il" else {False})
        losses[problem] = [row.get("mean_loss", row.get("validation_loss")) for row in rows]
    np.testing.assert_allclose(losses[half], losses[single], rtol=0.05)
