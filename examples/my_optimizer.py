"""A learned optimizer of one's own in one file: a small MLP rule in the manner of Metz et al. (2020).

Every coordinate's gradient, momenta at three time scales, second moment and parameter value, each scaled by its root
mean square over the tensor, go through a multilayer perceptron; its two outputs are a direction and a log magnitude.
Train and evaluate it from the folder above this one:

    tutelage train runs/mine --optimizer examples.my_optimizer:create --technique cl-il --on mlp-digits --max-epochs 100
    tutelage evaluate runs/mine adam:learning_rate=0.01 --on mlp-digits --steps 1000 --seeds 5
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tutelage.optimizers import LearnedOptimizer

DECAYS = (0.5, 0.9, 0.99)
SECOND_DECAY = 0.999
UNITS = 16
FEATURES = len(DECAYS) + 4


class State(NamedTuple):
    momenta: tuple[PyTree, ...]
    second: PyTree
    step: Float[Array, ""]


class MLPRule(LearnedOptimizer):
    """The weights are the fields; `init` and `update` are those of an optax transformation."""

    hidden_weight: Float[Array, "units features"]
    hidden_bias: Float[Array, " units"]
    output_weight: Float[Array, "2 units"]
    output_bias: Float[Array, "2"]

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> State:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return State(tuple(zeros for _ in DECAYS), zeros, jnp.zeros(()))

    def update(
        self, grads: PyTree, state: State, params: PyTree | None = None, *, value=None, **extra: Any
    ) -> tuple[PyTree, State]:
        momenta = tuple(
            jax.tree.map(lambda m, g, d=decay: d * m + (1 - d) * g, momentum, grads)
            for decay, momentum in zip(DECAYS, state.momenta, strict=True)
        )
        second = jax.tree.map(lambda v, g: SECOND_DECAY * v + (1 - SECOND_DECAY) * g**2, state.second, grads)
        step = state.step + 1
        time = jnp.tanh(jnp.log(step) / 5)

        def rule(gradient, parameter, second, *momenta):
            scale = jnp.sqrt(second / (1 - SECOND_DECAY**step)) + 1e-8
            features = [gradient / scale, *(m / scale for m in momenta), parameter, jnp.log(scale)]
            rows = jnp.stack([_normalized(f.reshape(-1)) for f in features] + [jnp.full(gradient.size, time)])
            hidden = jax.nn.relu(self.hidden_weight @ rows + self.hidden_bias[:, None])
            direction, magnitude = self.output_weight @ hidden + self.output_bias[:, None]
            return (0.01 * direction * jnp.exp(0.01 * magnitude)).reshape(gradient.shape)

        return jax.tree.map(rule, grads, params, second, *momenta), State(momenta, second, step)


def _normalized(x: Float[Array, " n"]) -> Float[Array, " n"]:
    return x / jnp.sqrt(jnp.mean(x**2) + 1e-8)


def create(key: PRNGKeyArray) -> MLPRule:
    """Random initial weights."""
    hidden, output = jax.random.split(key)
    return MLPRule(
        jax.random.normal(hidden, (UNITS, FEATURES)) / FEATURES**0.5,
        jnp.zeros(UNITS),
        0.1 * jax.random.normal(output, (2, UNITS)) / UNITS**0.5,
        jnp.zeros(2),
    )
