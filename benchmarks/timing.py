"""Timing of candidates that take turns, so that a noisy machine is noisy for all of them."""

import time
from collections.abc import Callable, Mapping

import jax
import numpy as np


def interleaved_medians(
    calls: Mapping[str, Callable[[], object]], repetitions: int, warm_before_each: bool = False
) -> dict[str, float]:
    """Median seconds of each call, over rounds in which every one has its turn.

    Each is called once before all rounds, to compile. With `warm_before_each` a call that is not timed comes before
    every one that is, for candidates whose threads go on spinning for a while after their work.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repetitions):
        for name, call in calls.items():
            if warm_before_each:
                jax.block_until_ready(call())
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def describe_run(repetitions: int) -> str:
    """Where and how often was measured."""
    return f"{jax.device_count()} {jax.default_backend()} device(s), {repetitions} interleaved repetitions"
