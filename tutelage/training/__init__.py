"""How learned optimizers are taught."""

from .augmentation import Augmentation
from .config import TrainingConfig
from .curriculum import Curriculum, Decision, Schedule
from .recipe import recipe
from .technique import (
    ImitationSettings,
    RandomLengths,
    SelfImprovingSettings,
    Technique,
    technique,
)
from .trainer import Event, train

__all__ = [
    "Augmentation",
    "Curriculum",
    "Decision",
    "Event",
    "ImitationSettings",
    "RandomLengths",
    "Schedule",
    "SelfImprovingSettings",
    "Technique",
    "TrainingConfig",
    "recipe",
    "technique",
    "train",
]
