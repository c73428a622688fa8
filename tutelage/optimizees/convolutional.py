"""The convolutional optimizees of the transfer experiments.

Source: section 5 and the supplement of "Training Stronger Baselines for Learning to Optimize" (2020). Each comes as
in the authors' released program (the default) and `plain`. The program passes the logits of the convolutional network
and of the cell through a ReLU before the softmax, so that classes can die, and leaves out batch norm's scale and
shift (LeNet has the shift). The plain variants have neither peculiarity.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .classification import Classification
from .convolution import Padding, average_pool, batch_norm, convolve, max_pool
from .datasets import Dataset
from .mlp import INITIAL_SCALE, Dense

Activation = Callable[[Array], Array]


class Normalized(NamedTuple):
    """A convolution or dense layer with batch norm after it; scale and shift are None where it has none."""

    kernel: Float[Array, "*sizes inputs outputs"]
    bias: Float[Array, " outputs"]
    scale: Float[Array, " outputs"] | None
    shift: Float[Array, " outputs"] | None

    def normalize(self, x: Float[Array, "*rest outputs"]) -> Float[Array, "*rest outputs"]:
        """Add the bias, then batch norm with the batch's statistics."""
        x = batch_norm(x + self.bias)
        if self.scale is not None:
            x = x * self.scale
        return x if self.shift is None else x + self.shift

    def convolve(
        self, images: Float[Array, "batch height width inputs"], stride: int = 1, padding: Padding = "VALID"
    ) -> Float[Array, "batch new_height new_width outputs"]:
        return self.normalize(convolve(images, self.kernel, stride, padding))


class _ConvolutionalNetwork(Classification):
    """What the three have in common: images with their shape, and how layers start."""

    shape: tuple[int, int, int] = eqx.field(static=True)
    plain: bool = eqx.field(static=True)

    def __init__(self, data: Dataset, plain: bool = False):
        super().__init__(data)
        height, width, *channels = data.images.shape[1:]
        self.shape = (height, width, channels[0] if channels else 1)
        self.plain = plain

    def logits(self, params: Any, images: Float[Array, "batch pixels"]) -> Float[Array, "batch 10"]:
        return self.network(params, images.reshape(-1, *self.shape))

    @abstractmethod
    def network(self, params: Any, images: Float[Array, "batch height width channels"]) -> Float[Array, "batch 10"]:
        """The logits."""

    def _normalized(self, key: PRNGKeyArray, *sizes: int, random_bias: bool = False, shift: bool = False) -> Normalized:
        """A layer with kernel of these sizes, normal with σ = 0.01, as is the bias where it is random, else 0."""
        outputs = sizes[-1]
        return Normalized(
            *_weight_and_bias(key, *sizes, random_bias=random_bias),
            jnp.ones(outputs, jnp.float32) if self.plain else None,
            jnp.zeros(outputs, jnp.float32) if self.plain or shift else None,
        )


def _weight_and_bias(key: PRNGKeyArray, *sizes: int, random_bias: bool = False) -> tuple[Array, Array]:
    weight_key, bias_key = jax.random.split(key)
    weight = INITIAL_SCALE * jax.random.normal(weight_key, sizes, jnp.float32)
    bias = INITIAL_SCALE * jax.random.normal(bias_key, sizes[-1:], jnp.float32)
    return weight, bias if random_bias else jnp.zeros_like(bias)


class ConvNet(_ConvolutionalNetwork):
    """conv 3×3×16, conv 5×5×32, each VALID with batch norm, ReLU and 2×2 max pool; fully connected to 10.

    On MNIST the stride of both convolutions is 1 (18,122 coordinates), on CIFAR-10 it is 2 (13,610).
    """

    stride: int = eqx.field(static=True)

    def __init__(self, data: Dataset, stride: int, plain: bool = False):
        super().__init__(data, plain)
        self.stride = stride

    def _pooled(self, size: int, kernel: int) -> int:
        return ((size - kernel) // self.stride + 1) // 2

    def init(self, key: PRNGKeyArray) -> tuple[Normalized, Normalized, Dense]:
        first, second, last = jax.random.split(key, 3)
        height, width, channels = self.shape
        pixels = self._pooled(self._pooled(height, 3), 5) * self._pooled(self._pooled(width, 3), 5)
        return (
            self._normalized(first, 3, 3, channels, 16),
            self._normalized(second, 5, 5, 16, 32),
            Dense(*_weight_and_bias(last, 32 * pixels, 10)),
        )

    def network(
        self, params: tuple[Normalized, Normalized, Dense], images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch 10"]:
        first, second, last = params
        # ReLU and the maximum commute, and there are four times fewer values after it
        x = jax.nn.relu(max_pool(first.convolve(images, self.stride)))
        x = jax.nn.relu(max_pool(second.convolve(x, self.stride)))
        logits = x.reshape(len(x), -1) @ last.weight + last.bias
        return logits if self.plain else jax.nn.relu(logits)


class LeNet(_ConvolutionalNetwork):
    """conv 5×5×6 and conv 5×5×16 (VALID, batch norm, sigmoid, 2×2 max pool), fully connected 120, 84 and 10.

    The hidden fully connected layers have batch norm and sigmoid too. 62,232 coordinates on CIFAR-10.
    """

    def __init__(self, data: Dataset, plain: bool = False):
        super().__init__(data, plain)

    def init(self, key: PRNGKeyArray) -> tuple[Normalized, Normalized, Normalized, Normalized, Dense]:
        keys = jax.random.split(key, 5)
        height, width, channels = self.shape
        pixels = (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
        sizes = ((5, 5, channels, 6), (5, 5, 6, 16), (16 * pixels, 120), (120, 84))
        one, two, three, four = (
            self._normalized(k, *s, random_bias=True, shift=True) for k, s in zip(keys[:4], sizes, strict=True)
        )
        return one, two, three, four, Dense(*_weight_and_bias(keys[4], 84, 10, random_bias=True))

    def network(
        self,
        params: tuple[Normalized, Normalized, Normalized, Normalized, Dense],
        images: Float[Array, "batch height width channels"],
    ) -> Float[Array, "batch 10"]:
        *convolutions, third, fourth, last = params
        x = images
        for layer in convolutions:
            x = jax.nn.sigmoid(max_pool(layer.convolve(x)))
        x = x.reshape(len(x), -1)
        for layer in (third, fourth):
            x = jax.nn.sigmoid(layer.normalize(x @ layer.kernel))
        return x @ last.weight + last.bias


class NASCell(_ConvolutionalNetwork):
    """A cell found by architecture search: four nodes of 16 channels, then the mean over space, fully connected to 10.

    With conv = 3×3 SAME, bias, batch norm, ReLU: n0 = conv(x); n1 = conv(n0); n2 = average pool 3×3 of n1 + conv(n0);
    n3 = n2 + conv(n1) + n0. 7,578 coordinates on CIFAR-10.
    """

    def __init__(self, data: Dataset, plain: bool = False):
        super().__init__(data, plain)

    def init(self, key: PRNGKeyArray) -> tuple[Normalized, Normalized, Normalized, Normalized, Dense]:
        keys = jax.random.split(key, 5)
        inputs = (self.shape[2], 16, 16, 16)
        zero, one, two, three = (
            self._normalized(k, 3, 3, channels, 16) for k, channels in zip(keys[:4], inputs, strict=True)
        )
        return zero, one, two, three, Dense(*_weight_and_bias(keys[4], 16, 10))

    def network(
        self,
        params: tuple[Normalized, Normalized, Normalized, Normalized, Dense],
        images: Float[Array, "batch height width channels"],
    ) -> Float[Array, "batch 10"]:
        *layers, last = params
        to_node_0, to_node_1, to_node_2, to_node_3 = (
            lambda x, layer=layer: jax.nn.relu(layer.convolve(x, padding="SAME")) for layer in layers
        )
        node_0 = to_node_0(images)
        node_1 = to_node_1(node_0)
        node_2 = average_pool(node_1) + to_node_2(node_0)
        node_3 = node_2 + to_node_3(node_1) + node_0
        logits = node_3.mean(axis=(1, 2)) @ last.weight + last.bias
        return logits if self.plain else jax.nn.relu(logits)
