"""Optimizers and weights from elsewhere, and ours for elsewhere."""

from .loading import load_learned, load_with_architecture, resolve_optimizer
from .published import load_published
from .transformation import load

__all__ = ["load", "load_learned", "load_published", "load_with_architecture", "resolve_optimizer"]
