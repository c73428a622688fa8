"""The meta-objective of an unroll, by the settings of a run."""

from jaxtyping import Array, Int

from ..optimizees import Optimizee
from ..optimizers import CoordinatewiseOptimizer, LearnedOptimizer
from .config import TrainingConfig
from .evolution import EvolutionStrategies, PersistentEvolutionStrategies
from .imitation import AutodiffImitation, BlockwiseImitation, Imitation
from .objective import MetaObjective, Mixture, ObjectiveSettings
from .teachers import Teachers
from .unroll import AutodiffUnroll, BlockwiseUnroll


def cuts_coordinates(config: TrainingConfig, optimizer: LearnedOptimizer) -> bool:
    """Whether the work on one task can be divided among devices."""
    by_blocks = isinstance(optimizer, CoordinatewiseOptimizer) and not config.second_derivatives
    return by_blocks and config.estimator == "backpropagation"


def make_unroll(
    config: TrainingConfig,
    optimizer: LearnedOptimizer,
    optimizee: Optimizee,
    active_steps: Int[Array, ""] | None = None,
    mixture: Mixture | None = None,
) -> MetaObjective:
    """The estimator that the settings ask for; of backpropagation, the fastest exact way for this optimizer."""
    common = (optimizee, config.objective_settings, active_steps, mixture)
    if config.estimator == "es":
        return EvolutionStrategies(AutodiffUnroll(*common), config.perturbation)
    if config.estimator == "pes":
        return PersistentEvolutionStrategies(AutodiffUnroll(*common), config.perturbation)
    if cuts_coordinates(config, optimizer):
        return BlockwiseUnroll(*common)
    return AutodiffUnroll(*common, config.second_derivatives)


def make_imitation(
    config: TrainingConfig,
    optimizer: LearnedOptimizer,
    optimizee: Optimizee,
    teachers: Teachers,
    chosen: Int[Array, ""],
) -> Imitation:
    """Imitation of the chosen teacher."""
    imitation = config.technique.imitation
    assert imitation is not None
    kind = BlockwiseImitation if isinstance(optimizer, CoordinatewiseOptimizer) else AutodiffImitation
    settings = ObjectiveSettings(augmentation=config.technique.augmentation)
    return kind(
        optimizee,
        settings,
        teachers=teachers,
        chosen=chosen,
        mean_over_coordinates=imitation.mean_over_coordinates,
    )
