"""Small problems of any dimension with known minimum 0, and networks on random data.

Of the ensemble in Wichrowska et al. (2017), "Learned Optimizers that Scale and Generalize", appendix. Random
matrices and data belong to the problem: they are drawn once, from its seed.
"""

from abc import abstractmethod
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .optimizee import Optimizee

BATCH = 32


class _OneVector(Optimizee):
    """A problem whose parameters are one vector that starts standard normal."""

    dimension: int = eqx.field(static=True)

    @property
    @abstractmethod
    def minimizer(self) -> Float[Array, " dimension"]:
        """Where the loss is 0, whatever the batch."""

    def init(self, key: PRNGKeyArray) -> Float[Array, " dimension"]:
        return jax.random.normal(key, (self.dimension,), jnp.float32)

    def sample(self, key: PRNGKeyArray) -> Int[Array, " batch"] | None:
        return None


class Quadratic(_OneVector):
    """|W θ - y|² with a random matrix and vector."""

    matrix: Float[Array, "dimension dimension"]
    target: Float[Array, " dimension"]

    def __init__(self, dimension: int, seed: int):
        self.dimension = dimension
        self.matrix, self.target = _system(dimension, seed)

    @property
    def minimizer(self) -> Float[Array, " dimension"]:
        return jnp.linalg.solve(self.matrix, self.target)

    def loss(self, params: Float[Array, " dimension"], batch: None) -> Float[Array, ""]:
        return jnp.sum((self.matrix @ params - self.target) ** 2)


class Norm(Quadratic):
    """(Σ |W θ - y|^p)^(1/p)."""

    power: float = eqx.field(static=True)

    def __init__(self, dimension: int, power: float, seed: int):
        super().__init__(dimension, seed)
        self.power = power

    def loss(self, params: Float[Array, " dimension"], batch: None) -> Float[Array, ""]:
        distances = jnp.abs(self.matrix @ params - self.target)
        # the derivative at 0 is not finite for p < 1: the distance is kept away from it
        return jnp.sum(jnp.maximum(distances, 1e-12) ** self.power) ** (1 / self.power)


class Bowl(_OneVector):
    """½ (x² + κ y²) in coordinates turned by an angle (radians); κ is the condition number."""

    condition: float = eqx.field(static=True)
    angle: float = eqx.field(static=True)

    def __init__(self, condition: float, angle: float = 0.0):
        self.dimension = 2
        self.condition = condition
        self.angle = angle

    @property
    def minimizer(self) -> Float[Array, " dimension"]:
        return jnp.zeros(2)

    def loss(self, params: Float[Array, " dimension"], batch: None) -> Float[Array, ""]:
        x, y = params
        along = jnp.cos(self.angle) * x + jnp.sin(self.angle) * y
        across = jnp.cos(self.angle) * y - jnp.sin(self.angle) * x
        return 0.5 * (along**2 + self.condition * across**2)


class DependencyChain(_OneVector):
    """θ_1² + Σ θ_i² / (θ_{i-1}² + 0.03): each coordinate matters once the one before it is small."""

    @property
    def minimizer(self) -> Float[Array, " dimension"]:
        return jnp.zeros(self.dimension)

    def loss(self, params: Float[Array, " dimension"], batch: None) -> Float[Array, ""]:
        return params[0] ** 2 + jnp.sum(params[1:] ** 2 / (params[:-1] ** 2 + 0.03))


class OutwardSnake(_OneVector):
    """A winding path outwards: n / |θ| + Σ (10 (θ_{i+1} - cos(π θ_i)))²; the infimum 0 is at infinity."""

    @property
    def minimizer(self) -> Float[Array, " dimension"]:
        """A point far out on the path, with a loss of 1e-3 or less."""
        point = [jnp.float32(1_000 * self.dimension)]
        for _ in range(self.dimension - 1):
            point.append(jnp.cos(jnp.pi * point[-1]))
        return jnp.stack(point)

    def loss(self, params: Float[Array, " dimension"], batch: None) -> Float[Array, ""]:
        radius = jnp.sqrt(jnp.sum(params**2) + 1e-12)
        off_path = params[1:] - jnp.cos(jnp.pi * params[:-1])
        return self.dimension / radius + jnp.sum((10 * off_path) ** 2)


class MinMaxWell(_OneVector):
    """max θ² + 1 / min θ² - 2: two regimes of curvature; 0 where every |θ_i| is 1."""

    @property
    def minimizer(self) -> Float[Array, " dimension"]:
        return jnp.ones(self.dimension)

    def loss(self, params: Float[Array, " dimension"], batch: None) -> Float[Array, ""]:
        squares = params**2
        return squares.max() + 1 / (squares.min() + 1e-6) - 2 + 1e-6


class SumOfQuadratics(_OneVector):
    """The mean over a batch of ½ |D_i (θ - θ*)|², with random diagonals D_i and one minimizer θ* for all of them."""

    diagonals: Float[Array, "examples dimension"]
    center: Float[Array, " dimension"]

    def __init__(self, dimension: int, seed: int, examples: int = 100):
        self.dimension = dimension
        keys = jax.random.split(jax.random.key(seed))
        self.diagonals = jax.random.normal(keys[0], (examples, dimension), jnp.float32)
        self.center = jax.random.normal(keys[1], (dimension,), jnp.float32)

    @property
    def minimizer(self) -> Float[Array, " dimension"]:
        return self.center

    def sample(self, key: PRNGKeyArray) -> Int[Array, " batch"]:
        return jax.random.randint(key, (BATCH,), 0, len(self.diagonals), jnp.int32)

    def loss(self, params: Float[Array, " dimension"], batch: Int[Array, " batch"]) -> Float[Array, ""]:
        return 0.5 * jnp.mean(jnp.sum((self.diagonals[batch] * (params - self.center)) ** 2, axis=1))


class ProjectionQuadratic(SumOfQuadratics):
    """The mean over a batch of (a_i · (θ - θ*))², with random directions a_i: a single one says little."""

    def __init__(self, dimension: int, seed: int):
        super().__init__(dimension, seed)

    def loss(self, params: Float[Array, " dimension"], batch: Int[Array, " batch"]) -> Float[Array, ""]:
        return jnp.mean((self.diagonals[batch] @ (params - self.center)) ** 2)


class RandomClassification(Optimizee):
    """A network with sigmoid layers on random data that a network of the same shape has labelled.

    Without hidden layers it is softmax regression. The infimum of the loss is 0, as the labels are those of a
    network whose last layer can be scaled up.
    """

    inputs: Float[Array, "examples features"]
    labels: Int[Array, " examples"]
    teacher: list[tuple[Array, Array]]
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, sizes: tuple[int, ...], seed: int, examples: int = 200):
        self.sizes = sizes
        input_key, teacher_key = jax.random.split(jax.random.key(seed))
        self.inputs = jax.random.normal(input_key, (examples, sizes[0]), jnp.float32)
        self.teacher = _network(teacher_key, sizes, 2.0)
        self.labels = jnp.argmax(_logits(self.teacher, self.inputs), axis=1).astype(jnp.int32)

    def init(self, key: PRNGKeyArray) -> list[tuple[Array, Array]]:
        return _network(key, self.sizes, 1.0)

    def sample(self, key: PRNGKeyArray) -> Int[Array, " batch"]:
        return jax.random.randint(key, (BATCH,), 0, len(self.labels), jnp.int32)

    def loss(self, params: list[tuple[Array, Array]], batch: Int[Array, " batch"]) -> Float[Array, ""]:
        log_probabilities = jax.nn.log_softmax(_logits(params, self.inputs[batch]))
        return -jnp.mean(jnp.take_along_axis(log_probabilities, self.labels[batch][:, None], axis=1))


def _system(dimension: int, seed: int) -> tuple[Array, Array]:
    matrix_key, target_key = jax.random.split(jax.random.key(seed))
    matrix = jax.random.normal(matrix_key, (dimension, dimension), jnp.float32)
    return matrix, jax.random.normal(target_key, (dimension,), jnp.float32)


def _network(key: PRNGKeyArray, sizes: tuple[int, ...], scale: float) -> list[tuple[Array, Array]]:
    """Weights normal with σ = scale / sqrt(fan-in), biases 0."""
    keys = jax.random.split(key, len(sizes))
    return [
        (scale / a**0.5 * jax.random.normal(k, (a, b), jnp.float32), jnp.zeros(b, jnp.float32))
        for k, (a, b) in zip(keys, pairwise(sizes), strict=False)
    ]


def _logits(params: list[tuple[Array, Array]], x: Array) -> Array:
    *hidden, (weight, bias) = params
    for w, b in hidden:
        x = jax.nn.sigmoid(x @ w + b)
    return x @ weight + bias
