"""Update rules: learned ones, and hand-designed ones by name."""

from .architectures import ARCHITECTURES, architecture_of, create_learned, load_weights, save_weights
from .hand_designed import HandDesigned, parse_hand_designed
from .l2o_dm import L2ODM
from .learned import CoordinatewiseOptimizer, LearnedOptimizer
from .lstm import LSTM

__all__ = [
    "ARCHITECTURES",
    "L2ODM",
    "LSTM",
    "CoordinatewiseOptimizer",
    "HandDesigned",
    "LearnedOptimizer",
    "architecture_of",
    "create_learned",
    "load_weights",
    "parse_hand_designed",
    "save_weights",
]
