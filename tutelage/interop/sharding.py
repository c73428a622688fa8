"""Meshes with explicit axes: the coordinates of all leaves are one batch, whose sharding no leaf's says.

So a step is computed with these axes left to the compiler, and its results get the shardings of what they replace.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec, auto_axes
from jaxtyping import PyTree


def explicit_mesh(tree: PyTree) -> AbstractMesh | None:
    """The mesh with explicit axes that arrays lie on, if there is one."""
    for leaf in jax.tree.leaves(tree):
        mesh = _sharding(leaf).mesh
        if AxisType.Explicit in mesh.axis_types:
            return mesh
    return None


def left_to_the_compiler(function: Callable, mesh: AbstractMesh, shardings: PyTree) -> Callable:
    """`function`, with the explicit axes of `mesh` as automatic ones inside, and results with these shardings."""
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    axes = tuple(name for name, kind in kinds if kind == AxisType.Explicit)

    def call(*arguments: Any) -> Any:
        arrays, others = eqx.partition(arguments, eqx.is_array)
        inside = auto_axes(lambda arrays: function(*eqx.combine(arrays, others)), axes=axes, out_sharding=shardings)
        return inside(arrays)

    return call


def shardings_of(tree: PyTree, mesh: AbstractMesh) -> PyTree:
    """The sharding of each array; replicated if it does not lie on `mesh`."""
    replicated = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: _sharding(leaf) if _sharding(leaf).mesh == mesh else replicated, tree)


def shardings_of_state(state: PyTree, params: PyTree, mesh: AbstractMesh) -> PyTree:
    """For a fresh state: its last axis, that of coordinates, over the axes that any parameter is cut along."""
    axes = tuple(name for name in mesh.axis_names if any(name in _axes(leaf) for leaf in jax.tree.leaves(params)))
    size = math.prod(mesh.shape[name] for name in axes)

    def sharding(leaf: Any) -> NamedSharding:
        cut = axes and leaf.ndim and leaf.shape[-1] and leaf.shape[-1] % size == 0
        return NamedSharding(mesh, PartitionSpec(*[None] * (leaf.ndim - 1), axes) if cut else PartitionSpec())

    return jax.tree.map(sharding, state)


def _sharding(leaf: Any) -> Any:
    return jax.typeof(leaf).sharding


def _axes(leaf: Any) -> set[str]:
    names = set()
    for entry in _sharding(leaf).spec:
        names |= {entry} if isinstance(entry, str) else set(entry or ())
    return names
