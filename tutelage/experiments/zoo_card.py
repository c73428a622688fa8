"""What the zoo says of a taught optimizer: how it was taught, its results, where it fails, how to teach it again."""

from dataclasses import dataclass
from typing import Any

import polars as pl
import tomli_w

from ..evaluation import (
    Comparison,
    best_hand_designed,
    compare_final,
    describe,
    final_log_losses,
    summarize,
    summarize_windows,
)
from ..optimizers import load_weights
from ..training import TrainingConfig
from ..training.config import without_none
from ..zoo import zoo_weights

_CARD = """# {name}

{architecture}, taught on {on}: {epochs:,} epochs, {inner_steps:,} steps of optimizees, {minutes}
on {devices}. The weights are those after epoch {epoch:,}, whose loss on fresh optimizees was {loss:.4g} after {steps:,}
steps.

## Results

Logarithm of the mean loss over the last 100 steps, mean ± standard deviation over seeds. By the paper's protocol the
optimizee is trained on the test images. Beside it the best hand-designed optimizer measured there after as many steps,
with its learning rate searched for that optimizee, and whether {name} ends lower, with the 95 % interval of the
difference, seed by seed: yes where all of it is below 0, no where none of it is.

| optimizee | steps | {name} | seeds | best hand-designed | does {name} end lower? |
|---|---|---|---|---|---|
{results}

## Where it fails

{failures}

Where it was not measured, nothing is known.

## Teach it again

    {environment}tutelage train RUN --like {name}

Bit for bit on the same kind of {processor} with as many devices and the same versions: {versions}.

```toml
{settings}
```
"""


def describe_taught(name: str, windows: pl.DataFrame) -> str:
    """The card of an optimizer of the zoo.

    Args:
        windows: last windows of it and of hand-designed optimizers, with the columns of `evaluate`.
    """
    _, provenance = load_weights(zoo_weights(name))
    config, log = TrainingConfig.from_dict(provenance["config"]), provenance["training"]
    rows = [_Row.of(row, windows) for row in summarize_windows(windows).filter(optimizer=name).to_dicts()]
    failures = [f"- {row.where}: {row.failure}" for row in rows if row.failure]
    devices, backend = provenance["devices"], provenance["backend"]
    versions = (f"{package} {number}" for package, number in provenance["versions"].items())
    return _CARD.format(
        name=name,
        architecture=config.optimizer,
        on=", ".join(config.on),
        epochs=log["epochs"],
        inner_steps=log["inner_steps"],
        minutes=_count(round(log["seconds"] / 60), "minute"),
        devices=_count(devices, f"{backend} device"),
        processor=_processor(provenance),
        environment=f"JAX_NUM_CPU_DEVICES={devices} " * (backend == "cpu"),
        epoch=provenance["epoch"],
        loss=provenance["validation_loss"],
        steps=provenance["validation_steps"],
        results="\n".join(row.line for row in rows),
        failures="\n".join(failures) or "On none of the optimizees above.",
        versions=", ".join(versions),
        settings=tomli_w.dumps(without_none(provenance["config"])).strip(),
    )


def _processor(provenance: dict[str, Any]) -> str:
    if provenance["backend"] != "cpu":
        return "device"
    avx512 = {True: " with AVX-512", False: " without AVX-512", None: ""}[provenance["avx512"]]
    return f"processor ({provenance['processor']}{avx512})"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


@dataclass(frozen=True)
class _Row:
    """What was measured on an optimizee, beside the best hand-designed optimizer there."""

    measured: dict[str, Any]
    beside: "_Beside | None"

    @staticmethod
    def of(measured: dict[str, Any], windows: pl.DataFrame) -> "_Row":
        there = windows.filter(optimizee=measured["optimizee"], step=measured["steps"])
        best = best_hand_designed(summarize(there))
        if best is None:
            return _Row(measured, None)
        comparison = compare_final(final_log_losses(there), measured["optimizer"], best["optimizer"])
        return _Row(measured, _Beside(best, comparison))

    @property
    def where(self) -> str:
        return f"{self.measured['optimizee']}, {self.measured['steps']:,} steps"

    @property
    def line(self) -> str:
        measured = self.measured
        cells = [measured["optimizee"], f"{measured['steps']:,}", describe(measured), str(measured["seeds"])]
        cells += [self.beside.described, self.beside.verdict] if self.beside else ["", ""]
        return f"| {' | '.join(cells)} |"

    @property
    def failure(self) -> str | None:
        if self.measured["diverged"]:
            return f"{describe(self.measured)}."
        if self.beside:
            return self.beside.failure
        return "the loss ends above 1." if (self.measured["mean"] or 0.0) > 0 else None


@dataclass(frozen=True)
class _Beside:
    """The best hand-designed optimizer, and whether the taught one ends lower in the seeds that both have."""

    best: dict[str, Any]
    comparison: Comparison

    @property
    def described(self) -> str:
        return f"{describe(self.best)} ({self.best['optimizer']})"

    @property
    def verdict(self) -> str:
        return f"{self.comparison.ends_lower}: {self.comparison.measured}"

    @property
    def failure(self) -> str | None:
        lower = f"{self.best['optimizer']} ends lower"
        if self.comparison.ends_lower == "no":
            return f"{lower}."
        higher = (self.comparison.difference or 0.0) > 0
        return f"{lower}, by no more than chance may do." if higher else None
