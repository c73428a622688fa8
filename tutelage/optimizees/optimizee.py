"""What gets optimized: the abstract optimizee."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

Params = Any
Batch = Any


class Optimizee(eqx.Module):
    """A problem that an optimizer is run on: a start, a source of batches and a loss.

    An optimizee is a frozen pytree. Its data are array leaves that live on the device, so it is passed to
    compiled functions as an argument and batches are drawn inside the compiled step.

    Raises:
        ValueError: when made with a field that is neither arrays nor static.
    """

    def __check_init__(self):
        for path, leaf in jax.tree.leaves_with_path(self):
            if not eqx.is_array_like(leaf):
                raise ValueError(
                    f"{type(self).__name__}{jax.tree_util.keystr(path)} is a Python {type(leaf).__name__}: what is no "
                    "array is to be a static field, eqx.field(static=True)."
                )

    @abstractmethod
    def init(self, key: PRNGKeyArray) -> Params:
        """A random start: a pytree of floating-point arrays."""

    @abstractmethod
    def sample(self, key: PRNGKeyArray) -> Batch:
        """A fresh batch, drawn on the device."""

    @abstractmethod
    def loss(self, params: Params, batch: Batch) -> Float[Array, ""]:
        """The scalar loss of `params` on `batch`."""

    def observe(self, gradient: Params, batch: Batch) -> Params:
        """What an optimizer gets to see of the loss's gradient: all of it, unless a subclass says otherwise."""
        return gradient
