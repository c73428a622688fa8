"""What gets optimized."""

from .datasets import DataError, Dataset, Split, load_dataset
from .mlp import MLP
from .optimizee import Batch, Optimizee, Params
from .registry import optimizee, optimizee_names

__all__ = [
    "MLP",
    "Batch",
    "DataError",
    "Dataset",
    "Optimizee",
    "Params",
    "Split",
    "load_dataset",
    "optimizee",
    "optimizee_names",
]
