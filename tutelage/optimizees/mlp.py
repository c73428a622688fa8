"""Multilayer perceptrons, the optimizees of the main experiments."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .classification import Classification
from .datasets import Dataset

INITIAL_SCALE = 0.01


class Dense(NamedTuple):
    """Weights of one fully connected layer; flattened, the weight comes before the bias."""

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]


class MLP(Classification):
    """A perceptron with hidden layers of the given sizes; weights and biases start normal with σ = 0.01.

    Source: section 5 of "Training Stronger Baselines for Learning to Optimize" (2020), after Andrychowicz et
    al. (2016).
    """

    hidden_sizes: tuple[int, ...] = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        data: Dataset,
        hidden_sizes: tuple[int, ...],
        activation: Callable[[Array], Array] = jax.nn.sigmoid,
    ):
        super().__init__(data)
        self.hidden_sizes = hidden_sizes
        self.activation = activation

    def init(self, key: PRNGKeyArray) -> tuple[Dense, ...]:
        sizes = (self.images.shape[1], *self.hidden_sizes, 10)
        shapes = [shape for inputs, outputs in pairwise(sizes) for shape in ((inputs, outputs), (outputs,))]
        keys = jax.random.split(key, len(shapes))
        weights = [
            INITIAL_SCALE * jax.random.normal(k, shape, jnp.float32) for k, shape in zip(keys, shapes, strict=True)
        ]
        return tuple(Dense(w, b) for w, b in zip(weights[::2], weights[1::2], strict=True))

    def logits(self, params: tuple[Dense, ...], images: Float[Array, "batch pixels"]) -> Float[Array, "batch classes"]:
        *hidden, last = params
        x = images
        for layer in hidden:
            x = self.activation(x @ layer.weight + layer.bias)
        return x @ last.weight + last.bias
