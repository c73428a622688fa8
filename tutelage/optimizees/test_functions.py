"""Functions of two variables that optimizers are traditionally tried on, each shifted so that its minimum is 0.

Of the ensemble in Wichrowska et al. (2017), "Learned Optimizers that Scale and Generalize", appendix. The forms and
minima are the standard ones of the optimization literature.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.numpy import cos, e, exp, log, pi, sin, sqrt
from jaxtyping import Array, Float, PRNGKeyArray

from .optimizee import Optimizee

Function = Callable[[Float[Array, ""], Float[Array, ""]], Float[Array, ""]]


class _Definition(NamedTuple):
    function: Function
    half_width: float
    """Of the square around the origin that starts are drawn from."""
    minimizer: tuple[float, float]


def _ackley(x, y):
    # the root is smooth but for the minimum itself, where its derivative is taken as 0
    radius = 0.5 * (x**2 + y**2)
    positive = radius > 0
    root = jnp.where(positive, sqrt(jnp.where(positive, radius, 1.0)), 0.0)
    return -20 * exp(-0.2 * root) - exp(0.5 * (cos(2 * pi * x) + cos(2 * pi * y))) + e + 20


def _beale(x, y):
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _booth(x, y):
    return (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2


def _branin(x, y):
    value = (y - 5.1 / (4 * pi**2) * x**2 + 5 / pi * x - 6) ** 2 + 10 * (1 - 1 / (8 * pi)) * cos(x) + 10
    return value - 10 / (8 * pi)


def _log_sum_exp(x, y):
    value = log(exp(x + 3 * y - 0.1) + exp(x - 3 * y - 0.1) + exp(-x - 0.1))
    return value + 0.1 - 1.5 * math.log(2)


def _matyas(x, y):
    return 0.26 * (x**2 + y**2) - 0.48 * x * y


def _michalewicz(x, y):
    return 1.8013034 - sin(x) * sin(x**2 / pi) ** 20 - sin(y) * sin(2 * y**2 / pi) ** 20


def _rosenbrock(x, y):
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def _styblinski_tang(x, y):
    return 0.5 * (x**4 - 16 * x**2 + 5 * x + y**4 - 16 * y**2 + 5 * y) + 78.3323314


TEST_FUNCTIONS = {
    "ackley": _Definition(_ackley, 5.0, (0.0, 0.0)),
    "beale": _Definition(_beale, 2.0, (3.0, 0.5)),
    "booth": _Definition(_booth, 10.0, (1.0, 3.0)),
    "branin": _Definition(_branin, 10.0, (math.pi, 2.275)),
    "log-sum-exp": _Definition(_log_sum_exp, 1.0, (-0.5 * math.log(2), 0.0)),
    "matyas": _Definition(_matyas, 10.0, (0.0, 0.0)),
    "michalewicz": _Definition(_michalewicz, 3.0, (2.2029055, 1.5707963)),
    "rosenbrock": _Definition(_rosenbrock, 2.0, (1.0, 1.0)),
    "styblinski-tang": _Definition(_styblinski_tang, 5.0, (-2.9035340, -2.9035340)),
}


class TestFunction(Optimizee):
    """One of `TEST_FUNCTIONS`; the same at every step."""

    __test__ = False  # not for pytest
    name: str = eqx.field(static=True)

    @property
    def minimizer(self) -> Float[Array, "2"]:
        """Where the loss is 0."""
        return jnp.array(TEST_FUNCTIONS[self.name].minimizer)

    def init(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        width = TEST_FUNCTIONS[self.name].half_width
        return jax.random.uniform(key, (2,), jnp.float32, -width, width)

    def sample(self, key: PRNGKeyArray) -> None:
        return None

    def loss(self, params: Float[Array, "2"], batch: None) -> Float[Array, ""]:
        return TEST_FUNCTIONS[self.name].function(params[0], params[1])
