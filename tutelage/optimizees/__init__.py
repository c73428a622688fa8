"""What gets optimized."""

from .convolutional import ConvNet, LeNet, NASCell
from .datasets import DataError, Dataset, Split, load_dataset
from .mlp import MLP
from .optimizee import Batch, Optimizee, Params
from .registry import check_optimizee_name, expand, load_optimizees, optimizee, optimizee_names

__all__ = [
    "MLP",
    "Batch",
    "ConvNet",
    "DataError",
    "Dataset",
    "LeNet",
    "NASCell",
    "Optimizee",
    "Params",
    "Split",
    "check_optimizee_name",
    "expand",
    "load_dataset",
    "load_optimizees",
    "optimizee",
    "optimizee_names",
]
