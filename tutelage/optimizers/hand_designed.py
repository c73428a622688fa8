"""Hand-designed optimizers of optax, by name."""

import inspect
import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ..naming import unknown_name

NAMES = (
    "adabelief",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "lion",
    "nadam",
    "radam",
    "rmsprop",
    "sgd",
    "yogi",
)
COSINE_STEPS = "cosine_steps"


class HandDesigned(eqx.Module):
    """An optimizer of optax whose numbers are array leaves, so that another learning rate needs no compilation.

    Has `init` and `update` as `optax.GradientTransformationExtraArgs` does. With `cosine_steps` the learning rate falls
    to 0 over that many steps, as half a cosine.
    """

    name: str = eqx.field(static=True)
    numbers: dict[str, Array]
    switches: tuple[tuple[str, bool], ...] = eqx.field(static=True)

    def __init__(self, name: str, **hyperparameters: float | bool):
        """`name` is one of `NAMES`; the hyperparameters are those of the optax function of that name.

        Raises:
            ValueError: an unknown name or hyperparameter, an impossible number, or no learning rate.
        """
        if name not in NAMES:
            raise unknown_name("hand-designed optimizer", name, NAMES)
        accepted = _hyperparameters(name)
        unknown = set(hyperparameters) - set(accepted)
        if unknown:
            raise ValueError(
                f"{name} has no hyperparameter {', '.join(sorted(unknown))}; it has {', '.join(accepted)}."
            )
        if "learning_rate" not in hyperparameters:
            raise ValueError(f"{name} needs a learning rate, as in {name}:learning_rate=0.01.")
        for key, value in hyperparameters.items():
            if isinstance(value, bool) != accepted[key] or not math.isfinite(value):
                wanted = "true or false" if accepted[key] else "a number"
                raise ValueError(f"{key} of {name} is {wanted}, not {value}.")
        if hyperparameters["learning_rate"] < 0:
            raise ValueError(f"learning_rate must be 0 or more, not {hyperparameters['learning_rate']}.")
        if hyperparameters.get(COSINE_STEPS, 1) <= 0:
            raise ValueError(f"{COSINE_STEPS} must be greater than 0, not {hyperparameters[COSINE_STEPS]}.")
        self.name = name
        self.numbers = {
            key: jnp.asarray(value, jnp.float32)
            for key, value in hyperparameters.items()
            if not isinstance(value, bool)
        }
        self.switches = tuple((k, v) for k, v in hyperparameters.items() if isinstance(v, bool))

    def _transformation(self) -> optax.GradientTransformation:
        numbers: dict[str, Any] = dict(self.numbers)
        if COSINE_STEPS in numbers:
            numbers["learning_rate"] = _cosine(numbers["learning_rate"], numbers.pop(COSINE_STEPS))
        return getattr(optax, self.name)(**numbers, **dict(self.switches))

    def init(self, params: PyTree) -> Any:
        """As in optax."""
        return self._transformation().init(params)

    def update(self, grads: PyTree, state: Any, params: PyTree | None = None, **extra: Any) -> tuple[PyTree, Any]:
        """As in optax."""
        return optax.with_extra_args_support(self._transformation()).update(grads, state, params, **extra)


def _hyperparameters(name: str) -> dict[str, bool]:
    """Those of the optax function of that name, types and masks aside, and whether each is a switch."""
    parameters = inspect.signature(getattr(optax, name)).parameters.items()
    taken = {key: isinstance(p.default, bool) for key, p in parameters if not key.endswith(("dtype", "mask"))}
    return taken | {COSINE_STEPS: False}


def _cosine(peak: Array, steps: Array) -> optax.Schedule:
    """As optax's own, whose number of steps cannot be an array."""
    return lambda count: peak * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(count / steps, 1.0)))


def parse_hand_designed(text: str) -> HandDesigned:
    """Read `name:key=value,…`, as in `adam:learning_rate=0.01,b1=0.9`.

    Raises:
        ValueError: not of this form, or see `HandDesigned`.
    """
    name, _, settings = text.partition(":")
    hyperparameters: dict[str, float | bool] = {}
    for setting in filter(None, settings.split(",")):
        key, _, value = (part.strip() for part in setting.partition("="))
        if key in hyperparameters:
            raise ValueError(f'"{text}" gives {key} twice.')
        try:
            hyperparameters[key] = _number_or_switch(value.lower())
        except ValueError:
            raise ValueError(f'"{setting}" in "{text}" is not of the form key=number.') from None
    return HandDesigned(name, **hyperparameters)


def _number_or_switch(value: str) -> float | bool:
    return value == "true" if value in ("true", "false") else float(value)
