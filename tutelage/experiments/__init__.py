"""Experiments that end in tables and a report."""

from .campaign import CampaignProgress, PartsFailedError
from .demonstration import DemoResult, demo
from .experiment_file import experiment_names
from .reproduce import render, reproduce
from .scale import ScaleName

__all__ = [
    "CampaignProgress",
    "DemoResult",
    "PartsFailedError",
    "ScaleName",
    "demo",
    "experiment_names",
    "render",
    "reproduce",
]
