"""Experiments that end in a table and a plot."""

from .demonstration import DemoResult, demo

__all__ = ["DemoResult", "demo"]
