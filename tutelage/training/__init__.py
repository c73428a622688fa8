"""How learned optimizers are taught."""

from .config import TrainingConfig
from .curriculum import Curriculum, Decision, Schedule
from .technique import TECHNIQUES, ImitationSettings, Technique, technique
from .trainer import Event, train

__all__ = [
    "TECHNIQUES",
    "Curriculum",
    "Decision",
    "Event",
    "ImitationSettings",
    "Schedule",
    "Technique",
    "TrainingConfig",
    "technique",
    "train",
]
