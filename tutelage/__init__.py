"""Tutelage: learned optimizers, properly taught."""

from .evaluation import evaluate, rollout, tune
from .interop import load
from .interop import resolve_optimizer as optimizer
from .optimizees import optimizee
from .training import train

__all__ = ["evaluate", "load", "optimizee", "optimizer", "rollout", "train", "tune"]
