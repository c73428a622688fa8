"""Learned optimizers by the name of their architecture, and their weights as files."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from safetensors.numpy import save

from ..files import write_whole
from ..naming import import_factory, is_own, unknown_name
from ..weights import FORMAT, HEADER, read_weights
from .aligned_momentum import AlignedMomentum
from .averaged_momentum import AveragedMomentum
from .l2o_dm import L2ODM
from .l2o_scale import L2OScale
from .learned import LearnedOptimizer
from .rnnprop import RNNProp
from .scheduled_momentum import ScheduledMomentum

Create = Callable[[PRNGKeyArray], LearnedOptimizer]

ARCHITECTURES: dict[str, Create] = {
    "l2o-dm": L2ODM.create,
    "rnnprop": RNNProp.create,
    "l2o-scale": L2OScale.create,
    "l2o-scale-as-released": functools.partial(L2OScale.create, global_sees_last_tensor=True),
    "aligned-momentum": AlignedMomentum.create,
    "averaged-momentum": AveragedMomentum.create,
    "scheduled-momentum": ScheduledMomentum.create,
}


def find_architecture(name: str) -> Create:
    """What makes a learned optimizer of this name, see `create_learned`, from a key.

    Raises:
        ValueError: an unknown name.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    if is_own(name):
        return import_factory("learned optimizer", name, "a key")
    raise unknown_name("learned optimizer", name, ARCHITECTURES)


def create_learned(name: str, key: PRNGKeyArray) -> LearnedOptimizer:
    """A learned optimizer with random initial weights.

    Args:
        name: one of `ARCHITECTURES`, or `package.module:factory` for one of your own, where `factory` takes a key
            and returns a `LearnedOptimizer`.

    Raises:
        ValueError: an unknown name.
    """
    made = find_architecture(name)(key)
    if not isinstance(made, LearnedOptimizer):
        raise ValueError(f'"{name}" returned {type(made).__name__}, not a tutelage LearnedOptimizer.')
    return made


def _named(tree: LearnedOptimizer) -> dict[str, Any]:
    paths, _ = jax.tree.flatten_with_path(tree)
    return {".".join(str(getattr(part, "name", getattr(part, "idx", part))) for part in path): x for path, x in paths}


def save_weights(path: str | Path, optimizer: LearnedOptimizer, architecture: str, provenance: dict[str, Any]) -> None:
    """Write the weights as safetensors, atomically; the header's entry `tutelage` is JSON with what they are.

    Args:
        architecture: the name that `create_learned` made this kind of optimizer from.
    """
    # One entry, as safetensors writes several in no fixed order, and equal weights should be equal files.
    header = {"format": FORMAT, "architecture": architecture, "provenance": provenance}
    arrays = {name: np.asarray(leaf) for name, leaf in _named(optimizer).items()}
    content = save(arrays, metadata={HEADER: json.dumps(header, sort_keys=True)})
    write_whole(Path(path), lambda partial: partial.write_bytes(content))


def load_weights(path: str | Path) -> tuple[LearnedOptimizer, dict[str, Any]]:
    """Read what `save_weights` wrote: the optimizer and its provenance.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or weights of another program or architecture.
    """
    arrays, header = read_weights(path, "numpy")
    return restore(path, header["architecture"], arrays), header["provenance"]


def restore(path: str | Path, architecture: str, arrays: dict[str, np.ndarray]) -> LearnedOptimizer:
    """The optimizer that the arrays of a weights file are of.

    Raises:
        ValueError: an unknown architecture, or arrays of another.
    """
    try:
        create = find_architecture(architecture)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    template = eqx.filter_eval_shape(create, jax.eval_shape(lambda: jax.random.key(0)))
    expected = _named(template)
    if {name: leaf.shape for name, leaf in expected.items()} != {n: a.shape for n, a in arrays.items()}:
        raise ValueError(f"{path}: its arrays are not those of {architecture}.")
    leaves = [jnp.asarray(arrays[name]) for name in expected]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)
