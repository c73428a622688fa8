"""Taught optimizers for PyTorch models. Needs PyTorch (the extra `torch`), and no JAX."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("tutelage.torch needs PyTorch: pip install 'tutelage[torch]'.") from error

from .optimizer import LearnedOptimizer

__all__ = ["LearnedOptimizer"]
