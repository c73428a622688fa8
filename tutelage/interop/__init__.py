"""Weights from elsewhere."""

from .loading import find_weights, load, resolve_optimizer
from .published import load_published

__all__ = ["find_weights", "load", "load_published", "resolve_optimizer"]
