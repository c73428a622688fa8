"""Experiments that end in a table and a plot."""

from .demo import DemoResult, demo

__all__ = ["DemoResult", "demo"]
