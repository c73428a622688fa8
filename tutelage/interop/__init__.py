"""Optimizers and weights from elsewhere, and ours for elsewhere."""

from .loading import architecture_of, load_learned, resolve_optimizer
from .published import load_published
from .transformation import load

__all__ = ["architecture_of", "load", "load_learned", "load_published", "resolve_optimizer"]
