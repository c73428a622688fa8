"""What holds floating-point arrays alone: parameters, and weights that are trained."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


def check_floating(tree: PyTree, what: str, otherwise: str) -> None:
    """Nothing, if all leaves are floating-point arrays.

    Args:
        what: what each leaf is, for the message.
        otherwise: what to do with one that is none.

    Raises:
        ValueError: one is none.
    """
    for path, leaf in jax.tree.leaves_with_path(tree):
        kind = getattr(leaf, "dtype", None)
        if kind is None or not jnp.issubdtype(kind, jnp.floating):
            at = f" at {jax.tree_util.keystr(path)}" if path else ""
            kind = kind or f"a Python {type(leaf).__name__}"
            raise ValueError(f"The {what}{at} is {kind}: only floating-point arrays can be optimized; {otherwise}.")


def widened(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The array in single precision, if it has less."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
