"""Update rules by the name of their architecture, from the same files of weights as in JAX."""

from pathlib import Path

from ..weights import find_weights, read_weights
from .aligned_momentum import AlignedMomentum
from .l2o_dm import L2ODM
from .l2o_scale import L2OScale, L2OScaleAsReleased
from .rnnprop import RNNProp
from .rule import Rule

ARCHITECTURES: dict[str, type[Rule]] = {
    "l2o-dm": L2ODM,
    "rnnprop": RNNProp,
    "l2o-scale": L2OScale,
    "l2o-scale-as-released": L2OScaleAsReleased,
    "aligned-momentum": AlignedMomentum,
}


def load_rule(name_or_path: str | Path) -> Rule:
    """A taught update rule: of the zoo, a run directory or a `.safetensors` file.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: an unknown name, or what is there is damaged or something else.
    """
    path = find_weights(name_or_path)
    if path.suffix == ".npz":
        raise ValueError(f"Convert {path} first: tutelage import {path} --out {path.with_suffix('.safetensors')}.")
    weights, header = read_weights(path, "pt")
    architecture = header["architecture"]
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(
            f"{path} holds weights of {architecture}, which runs in JAX alone; in PyTorch there are {known}."
        )
    kind = ARCHITECTURES[architecture]
    if {name: tuple(array.shape) for name, array in weights.items()} != kind.shapes:
        raise ValueError(f"{path}: its arrays are not those of {architecture}.")
    return kind(weights)
