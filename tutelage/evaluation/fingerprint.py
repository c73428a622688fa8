"""What determines an evaluation's losses, as a hash."""

import hashlib

import equinox as eqx
import jax
import numpy as np

from ..optimizees import Optimizee
from .rollout import Optimizer, advance_rollout, start_rollout
from .seeds import WINDOW, to_numpy


def fingerprint(optimizer: Optimizer, problem: Optimizee) -> str:
    """The program of a window, as lowered for this backend, and its inputs but for the seed, as a hash.

    So a changed hyperparameter, weight, image or line of the update rule gives another one. The number of steps does
    not count, as a longer run begins with the shorter one; but the program of an optimizer with a schedule has it.
    """
    arrays, static = eqx.partition((optimizer, problem), eqx.is_array)

    def window(arrays, seed):
        optimizer, problem = eqx.combine(arrays, static)
        state = start_rollout(optimizer, problem, jax.random.key(seed))
        return advance_rollout(optimizer, problem, state, WINDOW)[1]

    digest = hashlib.blake2b(digest_size=16)
    digest.update(jax.jit(window).lower(arrays, 0).as_text().encode())
    for leaf in jax.tree.leaves(arrays):
        digest.update(np.ascontiguousarray(to_numpy(leaf)).tobytes())
    return digest.hexdigest()
