"""Optimizees by name."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax

from ..naming import import_factory, is_own, unknown_name
from ..settings import check_type
from .classification import Classification
from .convolutional import ConvNet, LeNet, NASCell
from .datasets import Dataset, Split, load_dataset
from .mlp import MLP
from .optimizee import Optimizee
from .small_problems import (
    Bowl,
    DependencyChain,
    MinMaxWell,
    Norm,
    OutwardSnake,
    ProjectionQuadratic,
    Quadratic,
    RandomClassification,
    SumOfQuadratics,
)
from .test_functions import TEST_FUNCTIONS, TestFunction
from .variants import LogObjective, Noisy, Rescaled, SparseGradient

# Networks on data: the data set, and the network on it.
_NETWORKS: dict[str, tuple[str, Callable[..., Classification]]] = {
    "mlp-orig": ("mnist", partial(MLP, hidden_sizes=(20,))),
    "mlp-relu": ("mnist", partial(MLP, hidden_sizes=(20,), activation=jax.nn.relu)),
    "mlp-deeper": ("mnist", partial(MLP, hidden_sizes=(20, 20))),
    "conv-mnist": ("mnist", partial(ConvNet, stride=1)),
    "conv-cifar": ("cifar10", partial(ConvNet, stride=2)),
    "lenet": ("cifar10", LeNet),
    "nas-cifar": ("cifar10", NASCell),
    "conv-mnist-plain": ("mnist", partial(ConvNet, stride=1, plain=True)),
    "conv-cifar-plain": ("cifar10", partial(ConvNet, stride=2, plain=True)),
    "lenet-plain": ("cifar10", partial(LeNet, plain=True)),
    "nas-cifar-plain": ("cifar10", partial(NASCell, plain=True)),
    "mlp-fashion": ("fashion-mnist", partial(MLP, hidden_sizes=(20,))),
    "mlp-digits": ("digits", partial(MLP, hidden_sizes=(20,))),
}

# Small problems, made from a seed for what is random in them.
_PROBLEMS: dict[str, Callable[[int], Optimizee]] = {
    **{name: lambda seed, name=name: TestFunction(name) for name in TEST_FUNCTIONS},
    "bowl": lambda seed: Bowl(5.0),
    "bowl-steep": lambda seed: Bowl(100.0, angle=0.5),
    "quadratic-5": partial(Quadratic, 5),
    "quadratic-20": partial(Quadratic, 20),
    "quadratic-100": partial(Quadratic, 100),
    "norm-half": partial(Norm, 10, 0.5),
    "norm-1": partial(Norm, 10, 1.0),
    "norm-5": partial(Norm, 10, 5.0),
    "dependency-chain": lambda seed: DependencyChain(20),
    "outward-snake": lambda seed: OutwardSnake(20),
    "min-max-well": lambda seed: MinMaxWell(20),
    "sum-of-quadratics": partial(SumOfQuadratics, 20),
    "projection-quadratic": partial(ProjectionQuadratic, 20),
    "softmax-regression": partial(RandomClassification, (10, 2)),
    "softmax-regression-large": partial(RandomClassification, (100, 2)),
    "fully-connected": partial(RandomClassification, (8, 8, 2)),
    "fully-connected-deep": partial(RandomClassification, (12, 8, 8, 2)),
    "quadratic-noisy": lambda seed: Noisy(Quadratic(20, seed), 0.5),
    "quadratic-rescaled": lambda seed: Rescaled(Quadratic(20, seed), 10.0),
    "quadratic-log": lambda seed: LogObjective(Quadratic(20, seed)),
    "bowl-noisy": lambda seed: Noisy(Bowl(5.0), 0.1),
    "rosenbrock-noisy": lambda seed: Noisy(TestFunction("rosenbrock"), 0.1),
    "rosenbrock-log": lambda seed: LogObjective(TestFunction("rosenbrock")),
    "softmax-regression-sparse": lambda seed: SparseGradient(RandomClassification((10, 2), seed), 0.1),
    "softmax-regression-rescaled": lambda seed: Rescaled(RandomClassification((10, 2), seed), 0.1),
    "fully-connected-noisy-sparse": lambda seed: SparseGradient(
        Noisy(RandomClassification((8, 8, 2), seed), 0.01), 0.5
    ),
}

GROUPS = {"small-problems": tuple(_PROBLEMS)}

_SEEDS = {"train": 0, "test": 1}


def optimizee_names() -> tuple[str, ...]:
    """The names that `optimizee` knows."""
    return (*_NETWORKS, *_PROBLEMS)


def expand(names: Sequence[str]) -> tuple[str, ...]:
    """Names of optimizees, with `small-problems` in full."""
    return tuple(name for given in names for name in GROUPS.get(given, (given,)))


def check_optimizee_name(name: str) -> None:
    """Nothing, if it is a name that `optimizee` knows; none of its data are loaded.

    Raises:
        ValueError: an unknown name, one of your own that cannot be imported, or no number of examples after an @.
    """
    network_name, at, examples = name.partition("@")
    if is_own(name):
        _import(name)
    elif network_name not in _NETWORKS and name not in _PROBLEMS:
        raise _unknown(name)
    elif at and (not examples.isdecimal() or int(examples) == 0):
        raise ValueError(f'"{name}" is to have a number of examples after the @, from 1.')


def _unknown(name: str) -> ValueError:
    if name in GROUPS:
        return ValueError(f'"{name}" are {len(GROUPS[name])} optimizees: name one of them, as "{GROUPS[name][0]}".')
    return unknown_name("optimizee", name, (*optimizee_names(), *GROUPS))


def optimizee(name: str, split: Split = "train", data_dir: str | Path | None = None) -> Optimizee:
    """The optimizee called `name`, on the given split of its data.

    Args:
        name: one of `optimizee_names()`, a network among them followed by @ and a number to have only so many
            examples of the split, as in `mlp-orig@2000`; or `package.module:factory` for one of your own, where
            `factory` takes the split ("train" or "test") and returns an `Optimizee`.
        split: the part of the data that batches are drawn from; small problems have other random numbers in each.
        data_dir: folder to look for data in first, see `load_dataset`.

    Raises:
        ValueError: an unknown name or split, or an impossible number of examples.
        DataError: its data are not to be had.
    """
    check_type("split", split, Split)
    check_optimizee_name(name)
    network_name, at, examples = name.partition("@")
    if network_name in _NETWORKS:
        data_name, network = _NETWORKS[network_name]
        data = load_dataset(data_name, split, data_dir)
        return network(_first(data, examples, name) if at else data)
    if name in _PROBLEMS:
        return _PROBLEMS[name](_SEEDS[split])
    made = _import(name)(split)
    if not isinstance(made, Optimizee):
        raise ValueError(f'"{name}" returned {type(made).__name__}, not a tutelage Optimizee.')
    return made


def _import(name: str) -> Callable[[Split], object]:
    return import_factory("optimizee", name, "the split")


def load_optimizees(names: Sequence[str], split: Split, data_dir: str | Path | None = None) -> dict[str, Optimizee]:
    """Optimizees by name. All names are checked before any data are fetched.

    Raises:
        ValueError: as `optimizee`.
        DataError: as `optimizee`.
    """
    for name in names:
        check_optimizee_name(name)
    return {name: optimizee(name, split, data_dir) for name in names}


def _first(data: Dataset, examples: str, name: str) -> Dataset:
    """The first examples of a split, which are as good as any others: the data sets come shuffled."""
    if int(examples) > len(data.labels):
        raise ValueError(f'"{name}" is to have {len(data.labels)} examples at most.')
    return data._replace(images=data.images[: int(examples)], labels=data.labels[: int(examples)])
