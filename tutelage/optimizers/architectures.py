"""Learned optimizers by the name of their architecture, and their weights as files."""

import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from .l2o_dm import L2ODM
from .learned import LearnedOptimizer

ARCHITECTURES: dict[str, Callable[[PRNGKeyArray], LearnedOptimizer]] = {"l2o-dm": L2ODM.create}

HEADER = "tutelage"
FORMAT = 1


def architecture_of(optimizer: LearnedOptimizer) -> str:
    """The name under which this kind of optimizer is registered."""
    for name, create in ARCHITECTURES.items():
        if type(_template(create)) is type(optimizer):
            return name
    raise ValueError(f"{type(optimizer).__name__} is not a registered architecture.")


def create_learned(name: str, key: PRNGKeyArray) -> LearnedOptimizer:
    """A learned optimizer with random initial weights.

    Raises:
        ValueError: an unknown name.
    """
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name, ARCHITECTURES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(ARCHITECTURES)}."
        raise ValueError(f'There is no learned optimizer "{name}"; {hint}')
    return ARCHITECTURES[name](key)


def _template(create: Callable[[PRNGKeyArray], LearnedOptimizer]) -> LearnedOptimizer:
    return eqx.filter_eval_shape(create, jax.eval_shape(lambda: jax.random.key(0)))


def _named(tree: LearnedOptimizer) -> dict[str, Any]:
    paths, _ = jax.tree.flatten_with_path(tree)
    return {".".join(str(getattr(part, "name", part)) for part in path): leaf for path, leaf in paths}


def save_weights(path: str | Path, optimizer: LearnedOptimizer, provenance: dict[str, Any]) -> None:
    """Write the weights as safetensors, atomically; the header's entry `tutelage` is JSON with what they are."""
    path = Path(path)
    # One entry, as safetensors writes several in no fixed order, and equal weights should be equal files.
    header = {"format": FORMAT, "architecture": architecture_of(optimizer), "provenance": provenance}
    arrays = {name: np.asarray(leaf) for name, leaf in _named(optimizer).items()}
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(save(arrays, metadata={HEADER: json.dumps(header, sort_keys=True)}))
    partial.replace(path)


def load_weights(path: str | Path) -> tuple[LearnedOptimizer, dict[str, Any]]:
    """Read what `save_weights` wrote: the optimizer and its provenance.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or weights of another program or architecture.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            arrays = {name: jnp.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}).") from error
    if header.get("format") != FORMAT or header.get("architecture") not in ARCHITECTURES:
        raise ValueError(f"{path} does not hold weights of a learned optimizer that this version knows.")
    template = _template(ARCHITECTURES[header["architecture"]])
    expected = _named(template)
    if {name: leaf.shape for name, leaf in expected.items()} != {n: a.shape for n, a in arrays.items()}:
        raise ValueError(f"{path}: its arrays are not those of {header['architecture']}.")
    leaves = [arrays[name] for name in expected]
    optimizer = jax.tree.unflatten(jax.tree.structure(template), leaves)
    return optimizer, header["provenance"]
