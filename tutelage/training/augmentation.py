"""Augmentations of the optimizees that a learned optimizer is trained on (Lv, Jiang and Li 2017)."""

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..optimizees import Batch, Optimizee, Params
from ..settings import check_fields

CONVEX_COORDINATES = 20
CONVEX_RANGE = 1.0


@dataclass(frozen=True)
class Augmentation:
    """How training optimizees are made different from the optimizee that they come from."""

    random_scaling: float = 0.0
    """Range r of random scaling: for a factor c = exp(u), u ~ U(-r, r), of every coordinate, f(c ⊙ θ) is optimized
    from θ_0 / c. RNNprop takes 3; 0 is no scaling."""
    convex_term: bool = False
    """Whether (1/n) Σ (x_i - v_i)² is added, with n = 20 further coordinates x; v and the start of x ~ U(-1, 1)."""
    start_scale: float = 1.0
    """Factor of the optimizee's start; L2O-Scale as released starts from 100 times σ = 0.01."""

    def __post_init__(self):
        check_fields(self)
        if not self.random_scaling >= 0:
            raise ValueError(f"The range of random scaling is 0 or more, not {self.random_scaling}.")
        if not self.start_scale > 0:
            raise ValueError(f"The scale of the start is greater than 0, not {self.start_scale}.")

    def draw(self, optimizee: Optimizee, key: PRNGKeyArray) -> "Constants":
        """What stays the same throughout one task."""
        scale_key, target_key = jax.random.split(jax.random.fold_in(key, 2))
        scale = target = None
        if self.random_scaling:
            leaves, structure = jax.tree.flatten(jax.eval_shape(optimizee.init, key))
            keys = jax.random.split(scale_key, len(leaves))
            logs = [
                jax.random.uniform(k, x.shape, x.dtype, -self.random_scaling, self.random_scaling)
                for k, x in zip(keys, leaves, strict=True)
            ]
            scale = jax.tree.unflatten(structure, [jnp.exp(log) for log in logs])
        if self.convex_term:
            target = jax.random.uniform(target_key, (CONVEX_COORDINATES,), jnp.float32, -CONVEX_RANGE, CONVEX_RANGE)
        return Constants(scale, target)

    def apply(self, optimizee: Optimizee, constants: "Constants") -> Optimizee:
        """The optimizee of one task."""
        return optimizee if self == Augmentation() else _Augmented(optimizee, constants, self.start_scale)


class Constants(NamedTuple):
    """Of one task; None where there is no such augmentation."""

    scale: Params | None
    """c of random scaling, one per coordinate."""
    target: Float[Array, " convex_coordinates"] | None
    """v of the convex term."""


class _Augmented(Optimizee):
    """Its parameters are θ / c, or (θ / c, x) with the convex term."""

    inner: Optimizee
    constants: Constants
    start_scale: float = eqx.field(static=True)

    def _split(self, params: Params) -> tuple[Params, Array | None]:
        return params if self.constants.target is not None else (params, None)

    def _join(self, inner: Params, convex: Array | None) -> Params:
        return inner if convex is None else (inner, convex)

    def _unscaled(self, inner: Params) -> Params:
        return inner if self.constants.scale is None else jax.tree.map(jnp.multiply, self.constants.scale, inner)

    def init(self, key: PRNGKeyArray) -> Params:
        inner = jax.tree.map(lambda x: self.start_scale * x, self.inner.init(key))
        if self.constants.scale is not None:
            inner = jax.tree.map(jnp.divide, inner, self.constants.scale)
        convex = None
        if self.constants.target is not None:
            convex_key = jax.random.fold_in(key, 3)
            convex = jax.random.uniform(convex_key, (CONVEX_COORDINATES,), jnp.float32, -CONVEX_RANGE, CONVEX_RANGE)
        return self._join(inner, convex)

    def sample(self, key: PRNGKeyArray) -> Batch:
        return self.inner.sample(key)

    def loss(self, params: Params, batch: Batch) -> Float[Array, ""]:
        inner, convex = self._split(params)
        loss, target = self.inner.loss(self._unscaled(inner), batch), self.constants.target
        return loss if target is None or convex is None else loss + jnp.mean((convex - target) ** 2)

    def observe(self, gradient: Params, batch: Batch) -> Params:
        inner, convex = self._split(gradient)
        return self._join(self.inner.observe(inner, batch), convex)
