"""Files as the authors' programs of L2O-DM and RNNprop write them: with dill, of whatever version."""

import collections
import io
import os
import pickle

import dill
import numpy as np
import pytest

from tests.interop.test_loading import archive
from tutelage.interop import load_published
from tutelage.interop.pickled import read_pickled


class WithoutModules:
    """What is pickled as `function` called with these arguments."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


class OldDill(dill.Pickler):
    """As dill wrote functions of NumPy up to version 0.3: by the module's name and its attribute's."""

    def reducer_override(self, obj):
        if getattr(obj, "__name__", "") == "_reconstruct":
            return dill._dill._get_attr, (WithoutModules(dill._dill._import_module, obj.__module__), obj.__name__)
        return NotImplemented


def modules(arrays):
    """{module: {variable: array}}, the form in which the authors' programs keep them."""
    made = collections.defaultdict(dict)
    for name, array in arrays.items():
        module, _, variable = name.removeprefix("weights/").partition("/")
        made[module][variable] = array
    return made


@pytest.mark.parametrize("write", [dill.dumps, pickle.dumps])
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("architecture", ["l2o-dm", "rnnprop"])
def test_they_are_read(tmp_path, architecture, protocol, write):
    arrays = archive(tmp_path / "x.npz", architecture=architecture)
    path = tmp_path / "cw.l2l-0"
    path.write_bytes(write(modules(arrays), protocol=protocol))
    assert load_published(path)[0] == architecture
    read = read_pickled(path)
    assert read.keys() == {name.removeprefix("weights/") for name in arrays}
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name.removeprefix("weights/")], array, strict=True)


def test_as_older_versions_wrote_them(tmp_path):
    arrays = archive(tmp_path / "x.npz")
    content = io.BytesIO()
    OldDill(content, protocol=3).dump(modules(arrays))
    assert b"_import_module" in content.getvalue()
    (tmp_path / "cw.l2l-0").write_bytes(content.getvalue())
    read = read_pickled(tmp_path / "cw.l2l-0")
    np.testing.assert_array_equal(read["linear/w"], arrays["weights/linear/w"], strict=True)


def test_nothing_that_a_file_names_is_run(tmp_path):
    bad = {"lstm_1": WithoutModules(os.mkdir, str(tmp_path / "made"))}
    (tmp_path / "cw.l2l-0").write_bytes(pickle.dumps(bad))
    with pytest.raises(ValueError, match=r"asks for \w+\.mkdir"):
        read_pickled(tmp_path / "cw.l2l-0")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [{"linear": {"w": 3}}, {"linear": {"w": np.arange(3)}}, [1], {"linear": 1}])
def test_other_pickles_are_refused(tmp_path, content):
    (tmp_path / "cw.l2l-0").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="holds no weights as the authors' programs write them"):
        load_published(tmp_path / "cw.l2l-0")


def test_a_damaged_file_is_refused(tmp_path):
    whole = dill.dumps(modules(archive(tmp_path / "x.npz")))
    (tmp_path / "cw.l2l-0").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="holds no weights as the authors' programs write them"):
        load_published(tmp_path / "cw.l2l-0")
