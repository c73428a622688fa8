import gzip
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pooch
import pytest
from sklearn.datasets import load_digits

from tutelage.optimizees import DataError, Optimizee, check_optimizee_name, datasets, load_dataset, optimizee


def num_coordinates(problem):
    return sum(leaf.size for leaf in jax.tree.leaves(problem.init(jax.random.key(0))))


@pytest.mark.parametrize(("name", "coordinates"), [("mlp-orig", 15_910), ("mlp-relu", 15_910), ("mlp-deeper", 16_330)])
def test_the_papers_perceptrons(mnist, name, coordinates):
    problem = optimizee(name)
    assert num_coordinates(problem) == coordinates
    params = problem.init(jax.random.key(1))
    images, labels = problem.sample(jax.random.key(2))
    assert images.shape == (128, 784)
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    assert labels.min() >= 0
    assert labels.max() <= 9
    # a start with weights of 0.01 knows nothing: the loss is near log 10
    assert float(problem.loss(params, (images, labels))) == pytest.approx(np.log(10), abs=0.02)
    for leaf in params:
        assert np.std(leaf.weight) == pytest.approx(0.01, rel=0.15)


def test_mnist_splits(mnist):
    assert len(load_dataset("mnist", "train").labels) == 55_000
    test = load_dataset("mnist", "test")
    assert len(test.labels) == 10_000
    assert list(test.labels[:5]) == [7, 2, 1, 0, 4]


def test_digits_need_no_files():
    problem = optimizee("mlp-digits")
    assert num_coordinates(problem) == 64 * 20 + 20 + 20 * 10 + 10
    train, test = load_dataset("digits", "train"), load_dataset("digits", "test")
    assert len(train.labels) + len(test.labels) == 1_797
    assert set(test.labels) == set(range(10))
    assert not {image.tobytes() for image in test.images} & {image.tobytes() for image in train.images}
    images, labels = load_digits(return_X_y=True)
    every_fifth = slice(4, None, 5)
    np.testing.assert_array_equal(test.images, np.asarray(images)[every_fifth])
    np.testing.assert_array_equal(test.labels, np.asarray(labels)[every_fifth])


def test_damaged_digits(monkeypatch, tmp_path):
    installed = SimpleNamespace(locate_file=lambda path: tmp_path / path)
    monkeypatch.setattr(datasets, "distribution", lambda name: installed)
    with pytest.raises(DataError, match=r"scikit-learn's digits cannot be read \(.*\); install it again"):
        load_dataset("digits", "train")


def test_the_loss_is_the_cross_entropy():
    problem = optimizee("mlp-digits")
    params, (images, labels) = problem.init(jax.random.key(0)), problem.sample(jax.random.key(1))
    (w1, b1), (w2, b2) = jax.tree.map(lambda x: np.asarray(x, np.float64) * 50, params)
    scaled = jax.tree.map(lambda x: x * 50, params)
    logits = 1 / (1 + np.exp(-(np.asarray(images) @ w1 + b1))) @ w2 + b2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(probabilities[np.arange(128), labels]).mean()
    assert float(problem.loss(scaled, (images, labels))) == pytest.approx(expected, rel=1e-5)


def test_batches_are_fresh_for_each_key_and_drawn_with_replacement():
    problem = optimizee("mlp-digits")
    one, same, other = (problem.sample(jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(one[0], same[0])
    assert not np.array_equal(one[0], other[0])


def idx(array):
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()


@pytest.fixture
def small_mnist(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(6, dtype=np.uint8))))
    return tmp_path


def test_official_files_from_a_local_folder(small_mnist, monkeypatch):
    data = load_dataset("mnist", "test", small_mnist)
    np.testing.assert_array_equal(data.images[1], [[4, 5], [6, 7]])
    np.testing.assert_array_equal(data.labels, range(6))
    monkeypatch.setenv("TUTELAGE_DATA", str(small_mnist))
    np.testing.assert_array_equal(load_dataset("mnist", "test").images, data.images)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip at all", "cannot be read"),
        (gzip.compress(idx(np.zeros((6, 2, 2), np.uint8)))[:10] + bytes([255] * 30), "cannot be read"),
        (gzip.compress(idx(np.zeros((6, 2, 2), np.uint8)))[:-12], "cannot be read"),
        (gzip.compress(b"no header"), "not an IDX file"),
        (gzip.compress(idx(np.zeros((6, 2, 2), np.uint8))[:-3]), "holds 21 values, not 24"),
        (gzip.compress(idx(np.zeros((5, 2, 2), np.uint8))), "5 images but 6 labels"),
    ],
    # gzip holds the time, and names must not change
    ids=["no gzip", "damaged within", "cut off", "no header", "truncated", "another number"],
)
def test_damaged_files_are_named(small_mnist, content, message):
    (small_mnist / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_dataset("mnist", "test", small_mnist)


def test_files_of_another_data_set_are_told_of(small_mnist):
    with pytest.raises(DataError, match="mnist: of 6 images none is left but the 5,000 held out"):
        load_dataset("mnist", "train", small_mnist)
    letters = gzip.compress(idx(np.arange(20, 26, dtype=np.uint8)))
    (small_mnist / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(letters)
    with pytest.raises(DataError, match="mnist: a label is 25, not 0 to 9"):
        load_dataset("mnist", "test", small_mnist)


def test_missing_data_name_the_folders_and_the_mirrors(tmp_path, monkeypatch):
    tried = []

    def offline(url, **_):
        tried.append(url)
        raise OSError("no network")

    monkeypatch.setattr(pooch, "retrieve", offline)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.setenv("TUTELAGE_DATA", str(tmp_path / "variable"))
    with pytest.raises(DataError) as error:
        load_dataset("fashion-mnist", "train", tmp_path / "given")
    for folder in ("given", "variable", "cache"):
        assert str(tmp_path / folder / "fashion-mnist") in str(error.value)
    assert len(tried) == 2
    assert "--data-dir" in str(error.value)


def test_unknown_names():
    with pytest.raises(ValueError, match="did you mean mlp-orig"):
        optimizee("mlp-original")
    with pytest.raises(ValueError, match="There is no data set"):
        load_dataset("imagenet", "train")


def test_fewer_examples():
    whole, few = optimizee("mlp-digits"), optimizee("mlp-digits@100")
    np.testing.assert_array_equal(few.images, whole.images[:100])
    np.testing.assert_array_equal(few.labels, whole.labels[:100])
    for name in ("mlp-digits@", "mlp-digits@0", "mlp-digits@1e3"):
        with pytest.raises(ValueError, match="number of examples after the @, from 1"):
            check_optimizee_name(name)
        with pytest.raises(ValueError, match="number of examples after the @, from 1"):
            optimizee(name)
    with pytest.raises(ValueError, match='"mlp-digits@100000" is to have 1438 examples at most'):
        optimizee("mlp-digits@100000")
    with pytest.raises(ValueError, match="no optimizee"):
        optimizee("bowl@10")


class Parabola(Optimizee):
    split: str = eqx.field(static=True)

    def init(self, key):
        return jnp.ones(2)

    def sample(self, key):
        return None

    def loss(self, params, batch):
        return jnp.sum(params**2)


def test_an_optimizee_of_ones_own():
    assert optimizee("tests.optimizees.test_optimizees:Parabola", split="test").split == "test"
    with pytest.raises(ValueError, match="cannot be imported"):
        optimizee("tests.optimizees.test_optimizees:Hyperbola")
    with pytest.raises(ValueError, match="not a tutelage Optimizee"):
        optimizee("builtins:str")
    for name, why in (("os:path", "is not a callable"), ("os:getcwd", "too many"), ("os:link", "missing a required")):
        with pytest.raises(ValueError, match=f'"{name}" is to be a function of the split alone, and is not .*{why}'):
            optimizee(name)
