"""Small optimizees and optimizers that tests share."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import shard_map
from jax.sharding import PartitionSpec

from tutelage.interop.published import FORMATS
from tutelage.optimizees import Optimizee
from tutelage.optimizers import L2ODM, LSTM, CoordinatewiseOptimizer
from tutelage.training.objective import SEGMENT_LENGTH
from tutelage.training.parallel import TASKS, training_mesh


class Quadratic(Optimizee):
    """0.5 |θ - c|² + noise · θ with batches of noise; starts at ones times `start`."""

    center: jax.Array
    start: float = eqx.field(static=True, default=1.0)

    def init(self, key):
        return {"a": self.start * jnp.ones(3), "b": self.start * jax.random.normal(key, (2, 2))}

    def sample(self, key):
        return 0.1 * jax.random.normal(key, (7,))

    def loss(self, params, batch):
        flat = jnp.concatenate([params["a"], params["b"].reshape(-1)])
        return 0.5 * jnp.sum((flat - self.center) ** 2) + batch @ flat


class Branching(Quadratic):
    """What JAX cannot compile."""

    def loss(self, params, batch):
        return super().loss(params, batch) if params["a"][0] > 0 else jnp.float32(0)


def branching(split):
    return Branching(jnp.zeros(7))


class Prescribed(Optimizee):
    """The oracle's 6-4-3 sigmoid MLP: a fixed start, and the recorded batch that the key numbers."""

    start: tuple
    inputs: jax.Array
    labels: jax.Array

    def init(self, key):
        return self.start

    def sample(self, key):
        return jax.random.key_data(key)[1]

    def loss(self, params, batch):
        w1, b1, w2, b2 = params
        logits = jax.nn.sigmoid(self.inputs[batch] @ w1 + b1) @ w2 + b2
        log_probabilities = jax.nn.log_softmax(logits)
        return -jnp.mean(jnp.take_along_axis(log_probabilities, self.labels[batch][:, None], 1))


class Linear(CoordinatewiseOptimizer):
    """Updates a · g: the simplest rule with a weight."""

    rate: jax.Array

    def init_coordinates(self, num_coordinates):
        return jnp.zeros((1, num_coordinates))

    def step(self, gradients, state):
        return self.rate * gradients, state + gradients


class Momentum(CoordinatewiseOptimizer):
    """Updates -rate · m with m' = decay · m + tanh(g): a small rule with a state."""

    rate: jax.Array
    decay: jax.Array

    def init_coordinates(self, num_coordinates):
        return jnp.zeros(num_coordinates)

    def step(self, gradients, state):
        state = self.decay * state + jnp.tanh(10 * gradients)
        return -self.rate * state, state


class Drift(CoordinatewiseOptimizer):
    """Updates rate + start, whatever the gradient; `start` is the initial state, learned."""

    rate: jax.Array
    start: jax.Array

    def init_coordinates(self, num_coordinates):
        return jnp.broadcast_to(self.start, (num_coordinates,))

    def step(self, gradients, state):
        return self.rate + state, state


def numbered_keys(keys):
    """In place of `point_keys`: a point's key is its number."""
    points = jnp.arange(SEGMENT_LENGTH + 1, dtype=jnp.uint32)
    numbered = jax.vmap(lambda number: jax.random.wrap_key_data(jnp.stack([jnp.zeros_like(number), number])))(points)
    return jnp.broadcast_to(numbered[:, None], (len(points), keys.shape[0]))


def prescribed(archive) -> Prescribed:
    start = tuple(jnp.asarray(archive[f"init/{name}"]) for name in ("w1", "b1", "w2", "b2"))
    return Prescribed(start, jnp.asarray(archive["inputs"]), jnp.asarray(archive["labels"]))


def published(archive, dtype=np.float64):
    """The learned optimizer with the recorded weights, in the given precision."""
    weights = {k.removeprefix("weights/"): jnp.asarray(v.astype(dtype)) for k, v in archive.items() if "weights/" in k}
    (form,) = (form for form in FORMATS if form.shapes.keys() == weights.keys())
    return form.build(weights)


def from_names(w) -> L2ODM:
    return L2ODM(
        LSTM(w["lstm_1/w_gates"].T, w["lstm_1/b_gates"]),
        LSTM(w["lstm_2/w_gates"].T, w["lstm_2/b_gates"]),
        w["linear/w"][:, 0],
        w["linear/b"][0],
    )


def recorded_gradient(archive, prefix) -> L2ODM:
    """A gradient with respect to every weight, in the structure of the optimizer."""
    names = ("lstm_1/w_gates", "lstm_1/b_gates", "lstm_2/w_gates", "lstm_2/b_gates", "linear/w", "linear/b")
    return from_names({name: jnp.asarray(archive[f"{prefix}/{name}"]) for name in names})


def on_devices(function, num_tasks, *arguments, keys):
    """Call `function(*arguments, keys)` inside the training mesh; everything it returns is replicated.

    `keys` has the tasks on its last axis.
    """
    return _compiled(function, num_tasks, len(arguments), keys.ndim)(*arguments, keys)


@functools.cache
def _compiled(function, num_tasks, num_arguments, rank):
    replicated, by_task = PartitionSpec(), PartitionSpec(*[None] * (rank - 1), TASKS)
    specs = (*[replicated] * num_arguments, by_task)
    return jax.jit(
        shard_map(
            function,
            mesh=training_mesh(num_tasks, cuts_coordinates=True),
            in_specs=specs,
            out_specs=replicated,
            check_vma=False,
        )
    )


def assert_trees_close(actual, expected, relative):
    """Each leaf within `relative` of the largest element of its counterpart."""
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, e = np.asarray(a), np.asarray(e)
        scale = max(np.abs(e).max(), 1e-30) if e.size else 1.0
        assert np.abs(a - e).max(initial=0.0) <= relative * scale
