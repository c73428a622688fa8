import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.optimizees import ConvNet, Dataset, LeNet, NASCell, optimizee
from tutelage.optimizees.convolution import (
    average_pool,
    batch_norm,
    convolve,
    convolve_blocks,
    convolve_directly,
    convolve_rows,
    max_pool,
)

RANDOM = np.random.default_rng(0)


def images(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("height", "width", "inputs", "size", "outputs", "stride"),
    [
        (12, 15, 3, 5, 6, 1),
        (14, 14, 6, 5, 16, 1),
        (11, 11, 1, 5, 2, 2),
        (13, 12, 2, 5, 4, 2),  # a row that no patch reaches
        (9, 10, 4, 3, 5, 2),
        (10, 10, 16, 3, 16, 1),
        (13, 13, 16, 5, 32, 1),
    ],
)
@pytest.mark.parametrize("products", [convolve_blocks, convolve_rows])
def test_products_are_xlas_convolution(height, width, inputs, size, outputs, stride, products):
    x, kernel = images(2, height, width, inputs), images(size, size, inputs, outputs)
    direct = convolve_directly(x, kernel, stride)
    np.testing.assert_allclose(products(x, kernel, stride), direct, atol=2e-4)
    target = images(*direct.shape)
    for argument in (0, 1):
        by_products, directly = (
            jax.grad(lambda *a, f=f: jnp.sum(f(*a, stride) * target), argument)(x, kernel)
            for f in (products, convolve_directly)
        )
        np.testing.assert_allclose(by_products, directly, atol=2e-3)


@pytest.mark.parametrize(
    ("height", "width", "inputs", "size", "outputs", "stride", "padding"),
    [
        (13, 13, 2, 5, 4, 2, "SAME"),
        (9, 10, 4, 3, 5, 2, "SAME"),
        (8, 8, 16, 3, 16, 1, "SAME"),
        (11, 11, 1, 5, 2, 2, "VALID"),
        (14, 14, 6, 5, 16, 1, "VALID"),
    ],
)
def test_padding_is_xlas(height, width, inputs, size, outputs, stride, padding):
    x, kernel = images(2, height, width, inputs), images(size, size, inputs, outputs)
    directly = lambda x, kernel: jax.lax.conv_general_dilated(  # noqa: E731
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    direct, pull_directly = jax.vjp(directly, x, kernel)
    ours, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, stride, padding), x, kernel)
    np.testing.assert_allclose(ours, direct, atol=2e-4)
    target = images(*direct.shape)
    for mine, theirs in zip(pull(target), pull_directly(target), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-3)


@pytest.mark.parametrize("size", [3, 5])
def test_many_networks_at_once_and_second_derivatives(size):
    x, kernels, target = images(2, 8, 8, 4), images(3, size, size, 4, 5), images(2, 9 - size, 9 - size, 5)

    def gradients(f):
        loss = lambda kernel: jnp.sum((f(x, kernel, 1) - target) ** 2)  # noqa: E731
        gradient = jax.grad(loss)
        return jax.vmap(gradient)(kernels), jax.grad(lambda kernel: jnp.sum(gradient(kernel) ** 2))(kernels[0])

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(jnp.abs(b).max())),
        gradients(convolve_rows),
        gradients(convolve_directly),
    )


def test_pools():
    x = images(2, 5, 7, 3)
    pooled = max_pool(x)
    assert pooled.shape == (2, 2, 3, 3)
    np.testing.assert_array_equal(pooled[:, 1, 2], x[:, 2:4, 4:6].max(axis=(1, 2)))
    means = average_pool(x)
    np.testing.assert_allclose(means[:, 2, 3], x[:, 1:4, 2:5].mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(means[:, 0, 0], x[:, :2, :2].mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(means[:, 4, 3], x[:, 3:, 2:5].mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)


def test_batch_norm_and_its_derivative():
    x, target = 3 + 2 * images(6, 4, 5), images(6, 4, 5)

    def plain(x):
        mean, variance = x.mean(axis=(0, 1)), x.var(axis=(0, 1))
        return (x - mean) / jnp.sqrt(variance + 1e-3)

    np.testing.assert_allclose(batch_norm(x), plain(x), atol=1e-5)
    ours, theirs = (jax.grad(lambda x, f=f: jnp.sum(f(x) * target))(x) for f in (batch_norm, plain))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    # the second derivative too, for training with second derivatives
    ours, theirs = (
        jax.grad(lambda x, f=f: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(f(x))))(x) ** 2))(x)
        for f in (batch_norm, plain)
    )
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


def dataset(*shape):
    return Dataset(RANDOM.integers(0, 256, (300, *shape), np.uint8), RANDOM.integers(0, 10, 300, np.int32), 255.0)


MNIST, CIFAR = dataset(28, 28), dataset(32, 32, 3)
CONV_MNIST = [(3, 3, 1, 16), (16,), (5, 5, 16, 32), (32,), (512, 10), (10,)]
CONV_CIFAR = [(3, 3, 3, 16), (16,), (5, 5, 16, 32), (32,), (32, 10), (10,)]
LENET = [
    (5, 5, 3, 6), (6,), (6,), (5, 5, 6, 16), (16,), (16,), (400, 120), (120,), (120,), (120, 84), (84,), (84,),
    (84, 10), (10,),
]  # fmt: skip
NAS = [(3, 3, 3, 16), (16,), *[(3, 3, 16, 16), (16,)] * 3, (16, 10), (10,)]


@pytest.mark.parametrize(
    ("made", "shapes", "total", "plain_total"),
    [
        (lambda plain: ConvNet(MNIST, 1, plain), CONV_MNIST, 18_122, 18_122 + 2 * 48),
        (lambda plain: ConvNet(CIFAR, 2, plain), CONV_CIFAR, 13_610, 13_610 + 2 * 48),
        (lambda plain: LeNet(CIFAR, plain), LENET, 62_232, 62_232 + 226),
        (lambda plain: NASCell(CIFAR, plain), NAS, 7_578, 7_578 + 2 * 64),
    ],
    ids=["conv-mnist", "conv-cifar", "lenet", "nas-cifar"],
)
def test_layers_coordinates_and_start(made, shapes, total, plain_total):
    released, plain = made(False), made(True)
    params = released.init(jax.random.key(0))
    leaves = jax.tree.leaves(params)
    assert [leaf.shape for leaf in leaves] == shapes
    assert sum(leaf.size for leaf in leaves) == total
    assert sum(leaf.size for leaf in jax.tree.leaves(plain.init(jax.random.key(0)))) == plain_total
    assert np.std(params[1].kernel) == pytest.approx(0.01, rel=0.1)
    logits = plain.logits(plain.init(jax.random.key(0)), plain.sample(jax.random.key(1))[0])
    assert logits.shape == (128, 10)
    assert float(plain.loss(plain.init(jax.random.key(0)), plain.sample(jax.random.key(1)))) == pytest.approx(
        np.log(10), abs=0.15
    )


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("plain", [False, True])
def test_networks_stay_in_single_precision_in_a_program_of_double(plain):
    for network in (ConvNet(MNIST, 1, plain), LeNet(CIFAR, plain), NASCell(CIFAR, plain)):
        key = jax.random.key(0)
        params = jax.eval_shape(network.init, key)
        loss = jax.eval_shape(network.loss, params, jax.eval_shape(network.sample, key))
        assert {leaf.dtype for leaf in jax.tree.leaves((params, loss))} == {jnp.dtype("float32")}


def test_only_the_released_variants_cut_off_logits():
    for released, plain in ((ConvNet(MNIST, 1), ConvNet(MNIST, 1, True)), (NASCell(CIFAR), NASCell(CIFAR, True))):
        images, _ = released.sample(jax.random.key(1))
        assert float(released.logits(released.init(jax.random.key(0)), images).min()) == 0
        assert float(plain.logits(plain.init(jax.random.key(0)), images).min()) < 0


def test_the_networks_are_their_definitions():
    """Written again, layer by layer, in the order that the protocol names."""
    relu, sigmoid = jax.nn.relu, jax.nn.sigmoid
    conv = lambda x, p, stride=1: batch_norm(convolve_directly(x, p.kernel, stride) + p.bias)  # noqa: E731
    pool = lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")  # noqa: E731

    def conv_net(p, x, stride):
        x = pool(relu(conv(x, p[0], stride)))
        x = pool(relu(conv(x, p[1], stride)))
        return relu(x.reshape(len(x), -1) @ p[2].weight + p[2].bias)

    def lenet(p, x):
        for layer in p[:2]:
            x = pool(sigmoid(conv(x, layer) + layer.shift))
        x = x.reshape(len(x), -1)
        for layer in p[2:4]:
            x = sigmoid(batch_norm(x @ layer.kernel + layer.bias) + layer.shift)
        return x @ p[4].weight + p[4].bias

    def cell(p, x):
        node = lambda x, layer: relu(conv(jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]), layer))  # noqa: E731
        n0 = node(x, p[0])
        n1 = node(n0, p[1])
        n2 = average_pool(n1) + node(n0, p[2])
        n3 = n2 + node(n1, p[3]) + n0
        return relu(n3.mean(axis=(1, 2)) @ p[4].weight + p[4].bias)

    cases = [
        (ConvNet(MNIST, 1), lambda p, x: conv_net(p, x.reshape(-1, 28, 28, 1), 1)),
        (ConvNet(CIFAR, 2), lambda p, x: conv_net(p, x.reshape(-1, 32, 32, 3), 2)),
        (LeNet(CIFAR), lambda p, x: lenet(p, x.reshape(-1, 32, 32, 3))),
        (NASCell(CIFAR), lambda p, x: cell(p, x.reshape(-1, 32, 32, 3))),
    ]
    for problem, written in cases:
        params = jax.tree.map(lambda x: 10 * x + 0.01, problem.init(jax.random.key(2)))
        pixels, _ = problem.sample(jax.random.key(3))
        np.testing.assert_allclose(problem.logits(params, pixels), written(params, pixels), atol=2e-3)


def test_real_images(cifar10):
    problem = optimizee("lenet", "test")
    assert problem.images.shape == (10_000, 3072)
    pixels, labels = problem.sample(jax.random.key(0))
    assert 0 <= float(pixels.min()) < 0.1 < 0.9 < float(pixels.max()) <= 1
    assert set(np.asarray(labels)) == set(range(10))
