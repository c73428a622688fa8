"""Weights from elsewhere."""

from .loading import load, resolve_optimizer
from .published import load_published

__all__ = ["load", "load_published", "resolve_optimizer"]
