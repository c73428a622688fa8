"""Classification of labelled images: the batches and the cross-entropy that all image optimizees share."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from .datasets import Dataset
from .optimizee import Optimizee, Params

BATCH_SIZE = 128


class Classification(Optimizee):
    """Cross-entropy on batches of 128 images drawn with replacement, afresh at every evaluation.

    Pixels are divided by their largest value and nothing is subtracted.
    """

    images: Num[Array, "examples pixels"]
    labels: Int[Array, " examples"]
    pixel_scale: float = eqx.field(static=True)

    def __init__(self, data: Dataset):
        self.images = jnp.asarray(data.images.reshape(len(data.images), -1))
        self.labels = jnp.asarray(data.labels)
        self.pixel_scale = 1.0 / data.largest_pixel

    @abstractmethod
    def logits(self, params: Params, images: Float[Array, "batch pixels"]) -> Float[Array, "batch classes"]:
        """The network."""

    def sample(self, key: PRNGKeyArray) -> tuple[Float[Array, f"{BATCH_SIZE} pixels"], Int[Array, f"{BATCH_SIZE}"]]:
        index = jax.random.randint(key, (BATCH_SIZE,), 0, self.labels.shape[0], jnp.int32)
        return self.images[index].astype(jnp.float32) * self.pixel_scale, self.labels[index]

    def loss(
        self, params: Params, batch: tuple[Float[Array, "batch pixels"], Int[Array, " batch"]]
    ) -> Float[Array, ""]:
        images, labels = batch
        log_probabilities = jax.nn.log_softmax(self.logits(params, images))
        return -jnp.mean(jnp.take_along_axis(log_probabilities, labels[:, None], axis=1))
