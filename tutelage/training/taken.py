"""What a run takes from taught optimizers: the weights that it begins with, and teachers."""

from dataclasses import replace
from pathlib import Path

from ..interop import load_learned, load_with_architecture
from ..optimizers import load_weights, parse_hand_designed
from ..optimizers.hand_designed import NAMES
from .config import TrainingConfig
from .run_directory import INITIAL, RunDirectory
from .teachers import Teachers


def taken_weights(config: TrainingConfig) -> dict[str, str]:
    """The taught optimizers that a run takes weights from, by the file in its folder that keeps them."""
    initial = {} if config.initial_weights is None else {INITIAL: config.initial_weights}
    return initial | {_file(config, name): name for name in config.technique.teachers if _is_taught(name)}


def taught_with(weights: Path) -> TrainingConfig:
    """The settings that weights were taught with.

    What their run took from taught optimizers is taken from its own copies, where these lie beside the weights, so that
    it can be taught again whatever has become of where they are from.

    Raises:
        ValueError: a damaged file, or one that does not say.
    """
    config = TrainingConfig.of_weights(weights)
    taken = [(name, weights.with_name(file)) for file, name in taken_weights(config).items()]
    names = {name: str(copy) for name, copy in taken if copy.is_file()}
    parts = {"imitation": config.technique.imitation, "self_improving": config.technique.self_improving}
    taught = {
        part: replace(settings, teachers=tuple(names.get(name, name) for name in settings.teachers))
        for part, settings in parts.items()
        if settings
    }
    initial = config.initial_weights and names.get(config.initial_weights, config.initial_weights)
    return replace(config, technique=replace(config.technique, **taught), initial_weights=initial)


def check_taken(config: TrainingConfig) -> None:
    """Nothing, if all that a run takes is there and can be taken.

    Raises:
        FileNotFoundError: one is not there.
        ValueError: an unknown name, what is there is damaged, weights to begin with of another optimizer than is
            trained, or a teacher with a schedule.
    """
    for name in config.technique.teachers:
        if not _is_taught(name):
            parse_hand_designed(name)
        elif load_learned(name).scheduled:
            raise ValueError(f"{name} follows a schedule, so it cannot be a teacher: name another.")
    if config.initial_weights is not None:
        architecture, _ = load_with_architecture(config.initial_weights)
        if architecture != config.optimizer:
            raise ValueError(
                f"{config.initial_weights} holds weights of {architecture}, with which {config.optimizer} cannot "
                "begin: name others, or train that."
            )


def load_teachers(run: RunDirectory, config: TrainingConfig, names: tuple[str, ...]) -> Teachers:
    """Those of the technique with these names, as the run has taken them."""
    return Teachers(
        tuple(
            load_weights(run.path / _file(config, name))[0] if _is_taught(name) else parse_hand_designed(name)
            for name in names
        )
    )


def _is_taught(name: str) -> bool:
    """Whether it is not a hand-designed optimizer, whose name is one of a few or has settings after it."""
    return name not in NAMES and ":" not in name


def _file(config: TrainingConfig, teacher: str) -> str:
    return f"teacher-{config.technique.teachers.index(teacher)}.safetensors"
