"""How optimizers are judged."""

from .comparison import Comparison, compare, compare_final, confidence_interval, final_by_seed
from .evaluate import EvaluationProgress, evaluate
from .plot import PLOT_SUFFIXES, curves, plot_curves
from .rollout import rollout
from .store import EvaluationStore
from .summary import (
    best_hand_designed,
    describe,
    final_log_losses,
    is_hand_designed,
    last_windows,
    lowest_first,
    summarize,
    summarize_windows,
)
from .tune import check_tunable, tune

__all__ = [
    "PLOT_SUFFIXES",
    "Comparison",
    "EvaluationProgress",
    "EvaluationStore",
    "best_hand_designed",
    "check_tunable",
    "compare",
    "compare_final",
    "confidence_interval",
    "curves",
    "describe",
    "evaluate",
    "final_by_seed",
    "final_log_losses",
    "is_hand_designed",
    "last_windows",
    "lowest_first",
    "plot_curves",
    "rollout",
    "summarize",
    "summarize_windows",
    "tune",
]
