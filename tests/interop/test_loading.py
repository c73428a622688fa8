import jax
import numpy as np
import pytest

from tests.problems import published
from tutelage.interop import load_learned, load_published, resolve_optimizer
from tutelage.interop.published import FORMATS
from tutelage.optimizers import HandDesigned, create_learned, save_weights


def archive(path, prefix="weights/", architecture="l2o-dm", **changes):
    """An archive of published weights with the given arrays changed, or left out where None."""
    (shapes,) = (form.shapes for form in FORMATS if form.architecture == architecture)
    shapes = shapes | {name.replace("__", "/"): shape for name, shape in changes.items()}
    random = np.random.default_rng(0)
    arrays = {prefix + n: random.normal(size=s).astype(np.float32) for n, s in shapes.items() if s is not None}
    np.savez(path, **arrays)
    return arrays


@pytest.mark.parametrize("prefix", ["", "weights/"])
@pytest.mark.parametrize("architecture", [form.architecture for form in FORMATS])
def test_published_weights_with_and_without_prefix(tmp_path, prefix, architecture):
    arrays = archive(tmp_path / "x.npz", prefix, architecture)
    ours = load_learned(tmp_path / "x.npz")
    assert load_published(tmp_path / "x.npz")[0] == architecture
    fresh = create_learned(architecture, jax.random.key(0))
    assert jax.tree.structure(fresh) == jax.tree.structure(ours)
    assert [x.shape for x in jax.tree.leaves(fresh)] == [x.shape for x in jax.tree.leaves(ours)]
    expected = published({f"weights/{name.removeprefix('weights/')}": a for name, a in arrays.items()}, np.float32)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_archives_are_refused(tmp_path):
    archive(tmp_path / "x.npz", linear__w=None)
    with pytest.raises(ValueError, match='no array "linear/w"'):
        load_published(tmp_path / "x.npz")
    archive(tmp_path / "x.npz", linear__w=(10, 1))
    with pytest.raises(ValueError, match="l2o-dm needs"):
        load_published(tmp_path / "x.npz")
    archive(tmp_path / "x.npz", architecture="rnnprop", lstm_2__b_gates=None)
    with pytest.raises(ValueError, match="not weights of rnnprop"):
        load_published(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match="not a readable"):
        load_published(tmp_path / "x.npz")
    np.savez_compressed(tmp_path / "x.npz", **{"linear/w": np.zeros((40, 80))})
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[60:90] = bytes([255] * 30)
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"not a readable .* while decompressing"):
        load_published(tmp_path / "x.npz")


def test_every_way_to_name_an_optimizer(tmp_path):
    optimizer = create_learned("l2o-dm", jax.random.key(5))
    (tmp_path / "run").mkdir()
    save_weights(tmp_path / "run" / "optimizer.safetensors", optimizer, "l2o-dm", {})
    for path in (tmp_path / "run", tmp_path / "run" / "optimizer.safetensors"):
        np.testing.assert_array_equal(resolve_optimizer(str(path)).lstm_1.weight, optimizer.lstm_1.weight)
    assert isinstance(resolve_optimizer("adam:learning_rate=0.1"), HandDesigned)


def test_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match='no optimizer "rnnpropp"; did you mean rnnprop'):
        resolve_optimizer("rnnpropp")
    with pytest.raises(ValueError, match='no optimizer in the zoo "adam"'):
        load_learned("adam")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        resolve_optimizer(str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="holds no optimizer"):
        load_learned(tmp_path)
