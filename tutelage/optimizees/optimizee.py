"""What gets optimized: the abstract optimizee."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

Params = Any
Batch = Any


class Optimizee(eqx.Module):
    """A problem that an optimizer is run on: a start, a source of batches and a loss.

    An optimizee is a frozen pytree. Its data are array leaves that live on the device, so it is passed to
    compiled functions as an argument and batches are drawn inside the compiled step.
    """

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
