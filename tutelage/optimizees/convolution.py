"""Layers of convolutional networks: images as [batch, height, width, channels]."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

Padding = Literal["SAME", "VALID"]
Images = Float[Array, "batch height width channels"]
# Numbers: up to 10 MB of patches are made at once, so that all cores share them, and more than that 2 MB at a time.
_WHOLE_PATCHES, _CACHED_PATCHES = 5 * 2**19, 2**19


def convolve(
    images: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "kernel_height kernel_width inputs outputs"],
    stride: int = 1,
    padding: Padding = "VALID",
) -> Float[Array, "batch new_height new_width outputs"]:
    """A convolution (cross-correlation) of every image with the kernel.

    On a CPU it is written as patches times a matrix, several times as fast inside a compiled loop as XLA's own.
    """
    if jax.default_backend() == "cpu":
        return convolve_patches(images, kernel, stride, padding)
    return convolve_directly(images, kernel, stride, padding)


def convolve_directly(images, kernel, stride, padding):
    """XLA's convolution."""
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def convolve_patches(images, kernel, stride, padding):
    """Patches of the images as rows, times a matrix made of the kernel.

    A row holds the patch of one output pixel. Where that would be copied in many short pieces (a large kernel on
    few channels) it covers several pixels side by side, and the matrix holds the kernel once for each, shifted.
    The patches of a batch may be tens of megabytes. Those of a few images stay in the processor's cache, so then
    only as many are made at a time, and the backward pass makes them anew.
    """
    height, width, inputs, outputs = kernel.shape
    if padding == "SAME":
        pads = lax.padtype_to_pads(images.shape[1:3], (height, width), (stride, stride), "SAME")
        images = jnp.pad(images, [(0, 0), *pads, (0, 0)])
    batch, old_height, old_width, _ = images.shape
    new_height = (old_height - height) // stride + 1
    new_width = (old_width - width) // stride + 1
    most = 7 if height * width >= 25 and inputs < 8 else 1
    pixels = max(n for n in range(1, most + 1) if new_width % n == 0)
    span = (pixels - 1) * stride + width  # columns that a row covers
    length = height * span * inputs

    def patches(images):
        if pixels == 1:
            taps = [
                images[:, y : y + (new_height - 1) * stride + 1 : stride, x : x + (new_width - 1) * stride + 1 : stride]
                for y in range(height)
                for x in range(width)
            ]
            return jnp.concatenate(taps, axis=-1)
        rows = images.reshape(-1, old_height, old_width * inputs)
        below = [rows[:, y : y + (new_height - 1) * stride + 1 : stride] for y in range(height)]
        starts = range(0, new_width * stride * inputs, pixels * stride * inputs)
        return jnp.stack(
            [jnp.concatenate([r[:, :, start : start + span * inputs] for r in below], axis=-1) for start in starts],
            axis=2,
        )

    shifts = np.zeros((span, pixels, width), np.float32)
    for pixel in range(pixels):
        shifts[pixel * stride + np.arange(width), pixel, np.arange(width)] = 1
    matrix = jnp.einsum("spx,yxio->ysipo", shifts, kernel).reshape(length, pixels * outputs)
    of_an_image = new_height * new_width // pixels * length
    if batch * of_an_image <= _WHOLE_PATCHES:
        results = patches(images) @ matrix
    else:
        fitting = max(_CACHED_PATCHES // of_an_image, 1)
        at_once = max(n for n in range(1, fitting + 1) if batch % n == 0)
        few_by_few = images.reshape(-1, at_once, *images.shape[1:])
        results = lax.map(jax.checkpoint(lambda few: patches(few) @ matrix), few_by_few)
    return results.reshape(batch, new_height, new_width, outputs)


def max_pool(images: Images) -> Float[Array, "batch new_height new_width channels"]:
    """The largest of each 2×2 square, stride 2; an odd last row or column is left out."""
    height, width = images.shape[1] // 2 * 2, images.shape[2] // 2 * 2
    rows = jnp.maximum(images[:, 0:height:2], images[:, 1:height:2])
    return jnp.maximum(rows[:, :, 0:width:2], rows[:, :, 1:width:2])


def average_pool(images: Images) -> Images:
    """The mean of each pixel's 3×3 neighbourhood, as far as that lies inside the image."""
    padded = jnp.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    height, width = images.shape[1:3]
    inside = [np.minimum(np.arange(n), 1) + 1 + np.minimum(np.arange(n)[::-1], 1) for n in (height, width)]
    return total / np.outer(*inside).astype(np.float32)[:, :, None]


@jax.custom_vjp
def batch_norm(x: Float[Array, "*rest channels"]) -> Float[Array, "*rest channels"]:
    """Each channel with mean 0 and variance 1 over all other axes of the batch, ε = 1e-3."""
    return _batch_norm_forward(x)[0]


def _batch_norm_forward(x):
    axes = tuple(range(x.ndim - 1))
    centered = x - x.mean(axis=axes)
    scale = lax.rsqrt((centered**2).mean(axis=axes) + 1e-3)
    normalized = centered * scale
    return normalized, (normalized, scale)


def _batch_norm_backward(saved, cotangent):
    # By hand, as autodiff passes over the images about twice as often.
    normalized, scale = saved
    axes = tuple(range(cotangent.ndim - 1))
    along = (cotangent * normalized).mean(axis=axes)
    return (scale * (cotangent - cotangent.mean(axis=axes) - along * normalized),)


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)
