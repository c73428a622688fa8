"""How optimizers are judged."""

from .evaluate import EvaluationProgress, evaluate
from .plot import curves, plot_curves
from .rollout import rollout
from .store import EvaluationStore
from .summary import (
    best_hand_designed,
    describe,
    final_log_losses,
    is_hand_designed,
    last_windows,
    summarize,
    summarize_windows,
)
from .tune import check_tunable, tune

__all__ = [
    "EvaluationProgress",
    "EvaluationStore",
    "best_hand_designed",
    "check_tunable",
    "curves",
    "describe",
    "evaluate",
    "final_log_losses",
    "is_hand_designed",
    "last_windows",
    "plot_curves",
    "rollout",
    "summarize",
    "summarize_windows",
    "tune",
]
