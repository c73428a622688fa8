"""The page of `tutelage inspect`."""

import html
from typing import Any

import numpy as np
import optax

from ..optimizees import Optimizee
from ..optimizers import LearnedOptimizer
from ..page import page, svg
from .journey import Journey, travel
from .responses import SIZE, histories, responses, step_sizes, updates_along

ADAM, SGD = "Adam", "SGD"
_COLOURS = {ADAM: "#888888", SGD: "#d98c5f"}
_OURS = "#2b5fa5"
_AVERAGE = 20


def inspect(name: str, optimizer: Any, on: str, optimizee: Optimizee, num_steps: int, card: str = "") -> str:
    """An HTML page that shows what an optimizer does with gradients, and along a rollout of `num_steps` steps.

    Args:
        name: of the optimizer.
        optimizer: anything with optax's `init` and `update`.
        on: name of the optimizee.
        card: what is known of the optimizer, as text.
    """
    rivals = {name: optimizer, ADAM: optax.adam(1e-3), SGD: optax.sgd(1e-3)}
    along = {label: updates_along(rule) for label, rule in rivals.items()}
    journeys = {each: travel(rivals[each], optimizee, num_steps) for each in (name, ADAM)}
    taught = "one that was taught: parts of it are numbers found by training"
    kind = taught if isinstance(optimizer, LearnedOptimizer) else "another"
    parts = [
        f"<p>An optimizer is a rule: at every step it is given the gradient of each number of a model, and answers by "
        f"how much to change that number. Adam and SGD are rules that people wrote. <b>{html.escape(name)}</b> is "
        f"{kind}. This page asks it what it does. Each curve shows it beside Adam and SGD on the same gradients.</p>",
        "<h2>What it does over time</h2>",
        f"<p>One coordinate is given gradients of size {SIZE:g}, of four kinds (thin black line): always the same, of "
        "alternating sign, random, and vanishing. The curves are its updates. As the rules step at different sizes, "
        "each is drawn as a multiple of its own update after many steady gradients; a gradient above zero asks for an "
        "update below zero. An optimizer that trusts what persists moves on under steady gradients and hardly under "
        "alternating or random ones. SGD just repeats the gradient.</p>",
        svg(_over_time(along)),
        "<h2>What it does with the next gradient</h2>",
        "<p>After each of these histories, the next update (in the same units) for any next gradient. A sloping line "
        "means that a larger gradient makes a larger step, as in SGD; a flat one that only the past, or only the sign, "
        "counts. Where a curve crosses zero, gradient and memory cancel.</p>",
        svg(_next_gradient(rivals, along)),
        "<h2>Does the scale of gradients matter?</h2>",
        "<p>The size of the update after many equal gradients, from tiny to huge. SGD's steps grow with the gradient. "
        "Adam's are always its learning rate, here 0.001. Where a curve is flat the rule does not care how a loss is "
        "scaled; where it bends the rule was taught, or built, for some range.</p>",
        svg(_scales(rivals)),
        f"<h2>On a real problem: {html.escape(on)}</h2>",
        f"<p>{num_steps:,} steps from one start. Left, the loss. Middle, the effective learning rate: the one with "
        "which plain gradient descent would come nearest to the update; where it is below zero (not drawn) the step "
        "went uphill on that batch. Right, where it saturates: the share of coordinates whose update would hardly "
        "change (by less than a tenth, relatively) if their present gradient were larger: memory and sign decide, not "
        f"size. Means over {_AVERAGE} steps.</p>",
        svg(_journeys(journeys)),
        _words(journeys, name),
    ]
    if card:
        parts += ["<h2>Its card</h2>", f"<pre>{html.escape(card)}</pre>"]
    return page(f"Inside {name}", "\n".join(parts))


def _figure(columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # here, as it takes most of a second to import and few commands draw

    figure = Figure(figsize=(4.2 * columns, 3.4), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _line(axis: Any, x: Any, y: Any, label: str) -> None:
    axis.plot(x, y, label=label, color=_COLOURS.get(label, _OURS), linewidth=1.2 if label in _COLOURS else 2)


def _panels(titles: str) -> tuple[Any, dict[str, Any]]:
    """A panel for each kind of history."""
    kinds = list(histories())
    figure, axes = _figure(len(kinds))
    for axis, kind in zip(axes, kinds, strict=True):
        axis.axhline(0, color="#cccccc", linewidth=0.6, zorder=0)
        axis.set(title=titles.format(kind), ylim=(-3, 3))
    axes[0].set_ylabel("update, in units of its own")
    return figure, dict(zip(kinds, axes, strict=True))


def _over_time(along: dict[str, dict[str, Any]]) -> Any:
    figure, axes = _panels("{}")
    for kind, history in histories().items():
        axes[kind].plot(history / SIZE, color="black", linewidth=0.5, label="gradient")
        for label, updates in along.items():
            _line(axes[kind], np.arange(len(history)), updates[kind] / _unit(updates), label)
        axes[kind].set_xlabel("step")
    axes["steady"].legend(fontsize="small", frameon=False)
    return figure


def _next_gradient(rivals: dict[str, Any], along: dict[str, dict[str, Any]]) -> Any:
    now = np.linspace(-3, 3, 1_000)
    figure, axes = _panels("after {} gradients")
    for label, rule in rivals.items():
        for kind, updates in responses(rule, SIZE * now).items():
            _line(axes[kind], now, updates / _unit(along[label]), label)
            axes[kind].set_xlabel(f"next gradient / {SIZE:g}")
    axes["steady"].legend(fontsize="small", frameon=False)
    return figure


def _unit(updates: dict[str, Any]) -> float:
    """The size of the update after many steady gradients."""
    return float(abs(updates["steady"][-1])) or 1.0


def _scales(rivals: dict[str, Any]) -> Any:
    magnitudes = np.logspace(-8, 2, 31)
    figure, (axis,) = _figure(1)
    for label, rule in rivals.items():
        _line(axis, magnitudes, np.maximum(step_sizes(rule, magnitudes), 1e-12), label)
    axis.set(xscale="log", yscale="log", xlabel="gradient", ylabel="size of the update")
    axis.legend(fontsize="small", frameon=False)
    return figure


def _smooth(values: Any) -> Any:
    window = min(_AVERAGE, len(values))
    return values[: len(values) // window * window].reshape(-1, window).mean(axis=1)


def _journeys(journeys: dict[str, Journey]) -> Any:
    figure, (losses, rates, saturation) = _figure(3)
    for label, journey in journeys.items():
        mean = _smooth(journey.losses)
        steps = np.linspace(0, len(journey.losses), len(mean), endpoint=False)
        _line(losses, steps, mean, label)
        rate = _smooth(journey.learning_rates)
        _line(rates, steps, np.where(rate > 0, rate, np.nan), label)
        _line(saturation, steps, _smooth(journey.saturated), label)
    has_logs = all((journey.losses >= 0).all() for journey in journeys.values())
    losses.set(title="loss", xlabel="step", yscale="log" if has_logs else "linear")
    rates.set(title="effective learning rate", xlabel="step", yscale="log")
    saturation.set(title="saturated share of coordinates", xlabel="step", ylim=(0, 1))
    losses.legend(fontsize="small", frameon=False)
    return figure


def _words(journeys: dict[str, Journey], name: str) -> str:
    ours, adam = journeys[name], journeys[ADAM]
    window = min(_AVERAGE, len(ours.losses))
    return (
        f"<p>At the end the loss is {ours.losses[-window:].mean():.3g}; with Adam at 0.001 it is "
        f"{adam.losses[-window:].mean():.3g}. The effective learning rate has a median of "
        f"{np.median(ours.learning_rates):.3g} over the steps (Adam's: {np.median(adam.learning_rates):.3g}), and "
        f"{100 * (ours.learning_rates < 0).mean():.0f} % of the steps went uphill on their batch "
        f"({100 * (adam.learning_rates < 0).mean():.0f} %). On average {100 * ours.saturated.mean():.0f} % of the "
        f"coordinates are saturated ({100 * adam.saturated.mean():.0f} %).</p>"
    )
