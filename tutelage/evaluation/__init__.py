"""How optimizers are judged."""

from .rollout import rollout

__all__ = ["rollout"]
