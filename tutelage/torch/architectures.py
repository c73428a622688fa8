"""Update rules by the name of their architecture, from the same files of weights as in JAX."""

from pathlib import Path

from ..weights import check_num_steps, find_weights, is_published, read_weights
from .aligned_momentum import AlignedMomentum, AveragedMomentum, ScheduledMomentum
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
    "averaged-momentum": AveragedMomentum,
    "scheduled-momentum": ScheduledMomentum,
}


def load_rule(name_or_path: str | Path, num_steps: int | None) -> Rule:
    """A taught update rule: of the zoo, a run directory or a `.safetensors` file.

    Args:
        num_steps: to be taken; for rules that follow a schedule, None for others.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: an unknown name, what is there is damaged or something else, or a schedule without a number of
            steps or the other way round.
    """
    path = find_weights(name_or_path)
    if is_published(path):
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
    check_num_steps(name_or_path, kind.scheduled, num_steps)
    rule = kind(weights)
    rule.num_steps = num_steps or 0
    return rule
