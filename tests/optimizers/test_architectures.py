import json

import jax
import numpy as np
import pytest
from safetensors import safe_open

from tutelage.optimizers import ARCHITECTURES, create_learned, load_weights, save_weights


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_survive_their_file(tmp_path, name):
    optimizer, path = create_learned(name, jax.random.key(0)), tmp_path / "x.safetensors"
    save_weights(path, optimizer, name, {"seed": 3})
    loaded, provenance = load_weights(path)
    assert provenance == {"seed": 3}
    assert type(loaded) is type(optimizer)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(optimizer), strict=True):
        np.testing.assert_array_equal(a, b)
    with safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["tutelage"])["architecture"] == name
    save_weights(tmp_path / "y.safetensors", optimizer, name, {"seed": 3})
    assert (tmp_path / "y.safetensors").read_bytes() == path.read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"x.safetensors", "y.safetensors"}


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_and_states_are_single_precision_in_a_program_of_double(name):
    optimizer = create_learned(name, jax.random.key(0))
    state = optimizer.init({"w": np.zeros((3, 2), np.float32)})
    assert {leaf.dtype for leaf in jax.tree.leaves((optimizer, state))} == {np.dtype("float32")}


def test_unknown_damaged_and_foreign_files(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError, match=r"no file .*x\.safetensors"):
        load_weights(path)
    save_weights(path, create_learned("l2o-dm", jax.random.key(0)), "l2o-dm", {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        load_weights(path)
    for name in b'"tutelage"', b"provenance", b"architecture":
        path.write_bytes(whole.replace(name, name.swapcase()))
        with pytest.raises(ValueError, match="does not hold weights"):
            load_weights(path)
    with pytest.raises(ValueError, match="did you mean l2o-dm"):
        create_learned("l2o_dm", jax.random.key(0))
