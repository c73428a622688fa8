"""How optimizers are judged."""

from .evaluate import EvaluationProgress, evaluate
from .plot import curves, plot_curves
from .rollout import rollout
from .store import EvaluationStore
from .summary import describe, final_log_losses, summarize
from .tune import tune

__all__ = [
    "EvaluationProgress",
    "EvaluationStore",
    "curves",
    "describe",
    "evaluate",
    "final_log_losses",
    "plot_curves",
    "rollout",
    "summarize",
    "tune",
]
