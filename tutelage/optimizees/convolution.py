"""Layers of convolutional networks: images as [batch, height, width, channels]."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float

Padding = Literal["SAME", "VALID"]
Images = Float[Array, "batch height width channels"]


def convolve(
    images: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "kernel_height kernel_width inputs outputs"],
    stride: int = 1,
    padding: Padding = "VALID",
) -> Float[Array, "batch new_height new_width outputs"]:
    """A convolution (cross-correlation) of every image with the kernel.

    On a CPU it is written as products of matrices, as XLA's own backward pass takes ten times as long there.
    """
    if padding == "SAME":
        pads = lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], (stride, stride), "SAME")
        images = jnp.pad(images, [(0, 0), *pads, (0, 0)])
    if jax.default_backend() == "cpu":
        few_inputs = images.shape[-1] < 4
        return (convolve_blocks if few_inputs else convolve_rows)(images, kernel, stride)
    return convolve_directly(images, kernel, stride)


def convolve_directly(images, kernel, stride):
    """XLA's convolution, without padding."""
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def convolve_blocks(images, kernel, stride):
    """Patches of the images times a matrix made of the kernel, without padding; for images of few channels.

    There the patch of one pixel would be copied in many short pieces. So a patch covers several output pixels side by
    side, and the matrix holds the kernel once for each, shifted.
    """
    height, width, inputs, outputs = kernel.shape
    batch, old_height, old_width, _ = images.shape
    new_height = (old_height - height) // stride + 1
    new_width = (old_width - width) // stride + 1
    pixels = max(n for n in (1, 2, 3, 4) if new_width % n == 0)
    span = (pixels - 1) * stride + width  # columns that a patch covers
    flat = images.reshape(batch, old_height, old_width * inputs)
    below = [flat[:, y : y + (new_height - 1) * stride + 1 : stride] for y in range(height)]
    starts = range(0, new_width * stride * inputs, pixels * stride * inputs)
    patches = jnp.stack(
        [jnp.concatenate([r[:, :, start : start + span * inputs] for r in below], axis=-1) for start in starts], axis=2
    )
    shifts = np.zeros((span, pixels, width), np.float32)
    for pixel in range(pixels):
        shifts[pixel * stride + np.arange(width), pixel, np.arange(width)] = 1
    matrix = jnp.einsum("spx,yxio->ysipo", shifts, kernel).reshape(-1, pixels * outputs)
    return _product(patches.reshape(-1, patches.shape[-1]), matrix).reshape(batch, new_height, new_width, outputs)


@jax.custom_vjp
def _product(rows, matrix):
    """rows @ matrix, whose backward pass does not turn the cotangent around first, as autodiff's does."""
    return rows @ matrix


_product.defvjp(
    lambda rows, matrix: (rows @ matrix, (rows, matrix)),
    lambda saved, cotangent: (cotangent @ saved[1].T, saved[0].T @ cotangent),
)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_rows(images, kernel, stride):
    """Patches along the width alone times the kernel as a matrix, then sums over the height; without padding.

    The patches are [image, row, new column, width × inputs], the matrix [width × inputs, height × outputs], and a new
    row is the sum of what belongs to it in the rows of their product. So a pixel is copied as often as the kernel is
    wide or high, not both. Small kernels have XLA's forward pass, which is faster there.
    """
    height, width, _, outputs = kernel.shape
    if height * width < 25:
        # one network's kernel after the other: XLA's convolution with many kernels at once is slow
        return sequential_vmap(partial(convolve_directly, stride=stride))(images, kernel)
    batch, rows, columns, _ = images.shape
    new_rows, new_columns = (rows - height) // stride + 1, (columns - width) // stride + 1
    product = _row_patches(images, width, stride, new_columns) @ _row_matrix(kernel)
    product = product.reshape(batch, rows, new_columns, height, outputs)
    return sum(product[:, y : y + (new_rows - 1) * stride + 1 : stride, :, y] for y in range(height))


def _row_patches(images, width, stride, new_columns):
    last = (new_columns - 1) * stride
    patches = jnp.concatenate([images[:, :, x : x + last + 1 : stride] for x in range(width)], axis=-1)
    return patches.reshape(-1, patches.shape[-1])


def _row_matrix(kernel):
    height, width, inputs, outputs = kernel.shape
    return kernel.transpose(1, 2, 0, 3).reshape(width * inputs, height * outputs)


def _spread(x, axis, stride, before, length):
    """Zeros along an axis: stride - 1 between the entries, so many before, and behind as far as `before` + length."""
    spread = (x.shape[axis] - 1) * stride + 1
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (before, length - spread, stride - 1)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _rows_forward(images, kernel, stride):
    return convolve_rows(images, kernel, stride), (images, kernel)


def _rows_backward(stride, saved, cotangent):
    # By hand, as autodiff's sums of padded slices take twice as long.
    images, kernel = saved
    height, width, inputs, outputs = kernel.shape
    batch, rows, columns, _ = images.shape
    new_columns = cotangent.shape[2]
    spread = _spread(cotangent, 1, stride, height - 1, rows)
    of_product = jnp.concatenate([spread[:, y : y + rows] for y in reversed(range(height))], axis=-1)
    of_product = of_product.reshape(-1, height * outputs)
    of_kernel = _row_patches(images, width, stride, new_columns).T @ of_product
    of_kernel = of_kernel.reshape(width, inputs, height, outputs).transpose(2, 0, 1, 3)
    of_patches = (of_product @ _row_matrix(kernel).T).reshape(batch, rows, new_columns, width, inputs)
    spread = _spread(of_patches, 2, stride, width - 1, columns)
    of_images = sum(spread[:, :, width - 1 - x : width - 1 - x + columns, x] for x in range(width))
    return of_images, of_kernel


convolve_rows.defvjp(_rows_forward, _rows_backward)


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
