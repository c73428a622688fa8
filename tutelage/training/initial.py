"""The weights that training begins with, where they are not random."""

from ..interop import architecture_of, load_learned
from ..optimizers import LearnedOptimizer
from .config import TrainingConfig


def load_initial(config: TrainingConfig) -> LearnedOptimizer | None:
    """What `config.initial_weights` names; None where training begins with random weights.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: an unknown name, what is there is damaged, or weights of another optimizer than is trained.
    """
    if config.initial_weights is None:
        return None
    architecture = architecture_of(config.initial_weights)
    if architecture != config.optimizer:
        raise ValueError(
            f"{config.initial_weights} holds weights of {architecture}, with which {config.optimizer} cannot begin: "
            "name others, or train that."
        )
    return load_learned(config.initial_weights)
