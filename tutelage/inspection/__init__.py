"""A page that shows what an optimizer does."""

from .report import inspect

__all__ = ["inspect"]
