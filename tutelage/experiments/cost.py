"""Roughly what optimizees cost, so that a campaign can say how long it will take."""

# Seconds of a step (a loss and its gradient) of one seed on one core of a server, as measured for docs/performance.md.
# A campaign corrects them by the times that it takes, so that only their ratios matter for long.
_SECONDS = {"conv-mnist": 0.045, "conv-cifar": 0.009, "lenet": 0.03, "nas-cifar": 0.25}
_OTHERWISE = 0.001


def seconds_per_step(optimizee: str) -> float:
    """Of a gradient step on the optimizee of that name, or of a variant of it."""
    return next((seconds for name, seconds in _SECONDS.items() if optimizee.startswith(name)), _OTHERWISE)
