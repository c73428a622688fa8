"""How training is spread over devices: tasks first, then the coordinates of each task."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

TASKS = "tasks"
COORDINATES = "coordinates"


def training_mesh(num_tasks: int, cuts_coordinates: bool) -> Mesh:
    """Devices as [tasks, coordinates]: as many along tasks as divide their number, the rest along coordinates.

    What cannot be cut along coordinates leaves the rest out: they would only do the same work once more.
    """
    tasks = math.gcd(num_tasks, jax.device_count())
    coordinates = jax.device_count() // tasks if cuts_coordinates else 1
    return jax.make_mesh(
        (tasks, coordinates),
        (TASKS, COORDINATES),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=jax.devices()[: tasks * coordinates],
    )


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """The same arrays on every device, placed once rather than at every call."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


class CoordinateShard(NamedTuple):
    """This device's share of `total` coordinates that are cut into `shards` equal parts (the last is padded).

    Its methods are called inside `shard_map` over `training_mesh`.
    """

    total: int
    shards: int

    @property
    def size(self) -> int:
        return -(-self.total // self.shards)

    def local(self, x: Float[Array, "... total"]) -> Float[Array, "... size"]:
        """The part of `x` that is this device's; padding is zero."""
        if self.shards == 1:
            return x
        padding = [(0, 0)] * (x.ndim - 1) + [(0, self.size * self.shards - self.total)]
        start = lax.axis_index(COORDINATES) * self.size
        return lax.dynamic_slice_in_dim(jnp.pad(x, padding), start, self.size, axis=-1)

    def gather(self, x: Float[Array, "... size"]) -> Float[Array, "... total"]:
        """The parts of all devices together."""
        if self.shards == 1:
            return x
        whole = lax.all_gather(x, COORDINATES, axis=x.ndim - 1, tiled=True)
        return whole[..., : self.total]

    def is_real(self) -> Float[Array, " size"]:
        """1 for real coordinates of this device's part and 0 for padding."""
        return self.local(jnp.ones(self.total))
