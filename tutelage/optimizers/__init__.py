"""Update rules: learned ones, and hand-designed ones by name."""

from .aligned_momentum import AlignedMomentum
from .architectures import ARCHITECTURES, create_learned, find_architecture, load_weights, save_weights
from .averaged_momentum import AveragedMomentum
from .gru import GRU
from .hand_designed import HandDesigned, parse_hand_designed
from .l2o_dm import L2ODM
from .l2o_scale import L2OScale
from .learned import KEPT, CoordinatewiseOptimizer, LearnedOptimizer, for_steps, start_optimizer
from .lstm import LSTM
from .rnnprop import RNNProp
from .scheduled_momentum import ScheduledMomentum

__all__ = [
    "ARCHITECTURES",
    "GRU",
    "KEPT",
    "L2ODM",
    "LSTM",
    "AlignedMomentum",
    "AveragedMomentum",
    "CoordinatewiseOptimizer",
    "HandDesigned",
    "L2OScale",
    "LearnedOptimizer",
    "RNNProp",
    "ScheduledMomentum",
    "create_learned",
    "find_architecture",
    "for_steps",
    "load_weights",
    "parse_hand_designed",
    "save_weights",
    "start_optimizer",
]
