"""Weights published by the authors, as their programs write them or as NumPy archives."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..optimizers import GRU, L2ODM, LSTM, L2OScale, LearnedOptimizer, RNNProp
from ..optimizers.l2o_scale import Affine, Readout
from .pickled import read_pickled

PREFIX = "weights/"

Weights = Mapping[str, Array]


class _Format(NamedTuple):
    architecture: str
    shapes: dict[str, tuple[int, ...]]
    build: Callable[[Weights], LearnedOptimizer]


def _lstm(weights: Weights, name: str) -> LSTM:
    return LSTM(weights[f"{name}/w_gates"].T, weights[f"{name}/b_gates"])


def _l2o_dm(weights: Weights) -> L2ODM:
    return L2ODM(_lstm(weights, "lstm_1"), _lstm(weights, "lstm_2"), weights["linear/w"][:, 0], weights["linear/b"][0])


def _rnnprop(weights: Weights) -> RNNProp:
    return RNNProp(
        weights["input_projection/w"].T,
        weights["input_projection/b"],
        _lstm(weights, "lstm_1"),
        _lstm(weights, "lstm_2"),
        weights["linear/w"][:, 0],
        weights["linear/b"][0],
    )


def _l2o_scale(weights: Weights) -> L2OScale:
    def affine(name: str) -> Affine:
        return Affine(weights[f"LOL/{name}/Affine/Matrix"].T, weights[f"LOL/{name}/Affine/Bias"])

    def gru(name: str) -> GRU:
        gates, candidate = affine(f"{name}/BiasGRUCell/gates"), affine(f"{name}/BiasGRUCell/candidate")
        return GRU(gates.weight, gates.bias, candidate.weight, candidate.bias)

    def readout(name: str) -> Readout:
        return Readout(weights[f"LOL/{name}_weights"][:, 0], weights[f"LOL/{name}_bias"][0])

    return L2OScale(
        parameter_gru=gru("PerTensor/Layer0_RNN"),
        tensor_gru=gru("PerTensor/Layer1_RNN"),
        global_gru=gru("Layer2_RNN"),
        tensor_to_parameter=affine("PerTensor/Layer0_RNN/Param"),
        global_to_parameter=affine("PerTensor/Layer0_RNN/Global"),
        global_to_tensor=affine("PerTensor/Layer1_RNN"),
        direction_weight=weights["LOL/update_weights"][:, 0],
        shortcut_weight=weights["LOL/PerTensor/GradsToDelta/Matrix"][:, 0],
        scale_decay=readout("scl_decay"),
        input_decay=readout("inp_decay"),
        learning_rate=readout("learning_rate"),
        learning_rate_momentum=weights["LOL/PerTensor/learning_rate_momentum_logit"],
        step_size_offset=weights["LOL/PerTensor/param_stepsize_offset"],
        parameter_start=weights["LOL/Level0_RNN/init_vector"][0],
        tensor_start=weights["LOL/Level1_RNN/init_vector"][0],
        global_start=weights["LOL/Level2_RNN/init_vector"][0],
        global_sees_last_tensor=True,
    )


def _gru_shapes(name: str, inputs: int, units: int) -> dict[str, tuple[int, ...]]:
    cell = f"LOL/{name}/BiasGRUCell"
    return {
        f"{cell}/gates/Affine/Matrix": (inputs + units, 2 * units),
        f"{cell}/gates/Affine/Bias": (2 * units,),
        f"{cell}/candidate/Affine/Matrix": (inputs + units, units),
        f"{cell}/candidate/Affine/Bias": (units,),
    }


def _affine_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"LOL/{name}/Affine/Matrix": (inputs, outputs), f"LOL/{name}/Affine/Bias": (outputs,)}


_LINEAR = {"linear/w": (20, 1), "linear/b": (1,)}
_LAYER_2 = {"lstm_2/w_gates": (40, 80), "lstm_2/b_gates": (80,)}
_READOUTS = ("scl_decay", "inp_decay", "learning_rate")

FORMATS = (
    _Format(
        "rnnprop",
        {
            "input_projection/w": (2, 20),
            "input_projection/b": (20,),
            "lstm_1/w_gates": (40, 80),
            "lstm_1/b_gates": (80,),
            **_LAYER_2,
            **_LINEAR,
        },
        _rnnprop,
    ),
    _Format("l2o-dm", {"lstm_1/w_gates": (22, 80), "lstm_1/b_gates": (80,), **_LAYER_2, **_LINEAR}, _l2o_dm),
    _Format(
        "l2o-scale-as-released",
        {
            "LOL/update_weights": (10, 1),
            "LOL/PerTensor/GradsToDelta/Matrix": (4, 1),
            "LOL/PerTensor/learning_rate_momentum_logit": (),
            "LOL/PerTensor/param_stepsize_offset": (),
            "LOL/Level0_RNN/init_vector": (1, 10),
            "LOL/Level1_RNN/init_vector": (1, 20),
            "LOL/Level2_RNN/init_vector": (1, 20),
            **{f"LOL/{name}_weights": (10, 1) for name in _READOUTS},
            **{f"LOL/{name}_bias": (1,) for name in _READOUTS},
            **_gru_shapes("PerTensor/Layer0_RNN", 12, 10),
            **_gru_shapes("PerTensor/Layer1_RNN", 22, 20),
            **_gru_shapes("Layer2_RNN", 20, 20),
            **_affine_shapes("PerTensor/Layer0_RNN/Param", 20, 30),
            **_affine_shapes("PerTensor/Layer0_RNN/Global", 20, 30),
            **_affine_shapes("PerTensor/Layer1_RNN", 20, 60),
        },
        _l2o_scale,
    ),
)


def load_published(path: str | Path) -> tuple[str, LearnedOptimizer]:
    """Read a learned optimizer from published weights; return its architecture's name too.

    They are in an `.npz` archive or, by any other name, in a file as the authors' programs of L2O-DM and RNNprop write
    it. The names of the arrays, with or without `weights/` before them, say what it is. L2O-DM: `lstm_1/w_gates`
    [22, 80], `lstm_1/b_gates` [80], `lstm_2/…`, `linear/w` [20, 1] and `linear/b` [1], gates in the order i, j, f, o.
    RNNprop: the same and `input_projection/w` [2, 20] and `/b` [20]. L2O-Scale: the variables of the authors'
    program, `LOL/…`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is neither; the message says what is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    arrays = _read_archive(path) if path.suffix == ".npz" else read_pickled(path)
    # the format that most of the names belong to; each has some that no other has
    form = max(FORMATS, key=lambda form: len(form.shapes.keys() & arrays) / len(form.shapes.keys() | arrays))
    for name, shape in form.shapes.items():
        if name not in arrays:
            raise ValueError(f'{path} has no array "{name}", so these are not weights of {form.architecture}.')
        if arrays[name].shape != shape:
            raise ValueError(f'{path}: "{name}" has shape {arrays[name].shape}; {form.architecture} needs {shape}.')
    return form.architecture, form.build({name: jnp.asarray(arrays[name]) for name in form.shapes})


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name.removeprefix(PREFIX): archive[name] for name in archive.files}
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise ValueError(f"{path} is not a readable .npz archive ({error}).") from error
