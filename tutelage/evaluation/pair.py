"""One optimizer on one optimizee: what is kept of it, and the rest computed."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..optimizees import Optimizee
from ..optimizers import for_steps
from .fingerprint import fingerprint
from .rollout import Optimizer, RolloutState
from .seeds import WINDOW, SeedsTogether
from .store import EvaluationStore, Kept

SAVE_SECONDS = 60.0
_NOTHING = Kept(np.empty((0, 0)), np.empty(0), [])


def evaluate_pair(
    optimizer: Optimizer,
    problem: Optimizee,
    *,
    num_steps: int,
    num_seeds: int,
    store: EvaluationStore | None = None,
    report: Callable[[int, int, np.ndarray], None] = lambda finished, total, losses: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean losses of `optimizer` on `problem` and the seconds that each window took, both [windows, seeds].

    Seeds 0 … `num_seeds` - 1 are computed side by side, on all devices. Those that the store has are not computed
    again, which on a CPU changes no digit, on a GPU rounding. The seconds are those of all seeds computed together,
    by their number, without compilation.

    Args:
        num_steps: a multiple of 100.
        num_seeds: 1 or more.
        store: where to look first for what was computed already, and to keep what is.
        report: called after each window that is computed here, with the number of them so far, of all, and its losses.

    Raises:
        ValueError: a file of the store that cannot be read.
    """
    windows = num_steps // WINDOW
    optimizer = for_steps(optimizer, num_steps)
    blocks = _blocks(optimizer, problem, windows, num_seeds, store)
    total = windows * sum(not block.reaches(windows) for block in blocks)
    finished = 0
    results: list[Kept] = []
    for block in blocks:
        if block.reaches(windows):
            results.append(block.kept)
            continue

        def window_done(window: int, losses: np.ndarray, before: int = finished) -> None:
            report(before + window, total, losses)

        results.append(_compute(block, optimizer, problem, windows, store, window_done))
        finished += windows
    losses = np.concatenate([result.losses[:windows] for result in results], axis=1)
    seconds = np.concatenate([_seconds_by_seed(result)[:windows] for result in results], axis=1)
    return losses[:, :num_seeds], seconds[:, :num_seeds]


def _seconds_by_seed(result: Kept) -> np.ndarray:
    """[windows, seeds]"""
    seeds = result.losses.shape[1]
    return np.repeat(result.seconds[:, None] / seeds, seeds, axis=1)


class _Block(NamedTuple):
    """Seeds that are computed together, and kept in one file, by the key of the optimizer and the first of them."""

    key: str
    seeds: range
    kept: Kept

    def reaches(self, windows: int) -> bool:
        return len(self.kept.losses) >= windows


def _blocks(
    optimizer: Optimizer, problem: Optimizee, windows: int, num_seeds: int, store: EvaluationStore | None
) -> list[_Block]:
    """As the store has them, up to the seeds that it lacks, which are one more."""
    key = "" if store is None else fingerprint(optimizer, problem)
    blocks: list[_Block] = []
    first = 0
    while first < num_seeds:
        block_key = f"{key}-{first}"
        kept = None if store is None else store.load(block_key)
        if kept is not None and (kept.state or len(kept.losses) >= windows):
            seeds = range(first, first + kept.losses.shape[1])
        else:
            if store is not None and kept is not None and kept.losses.shape[1] > num_seeds - first:
                _set_aside(store, f"{key}-{num_seeds}", kept, num_seeds - first)
            seeds, kept = range(first, num_seeds), _NOTHING
        blocks.append(_Block(block_key, seeds, kept))
        first = seeds.stop
    return blocks


def _set_aside(store: EvaluationStore, key: str, shorter: Kept, longer_seeds: int) -> None:
    """Keep the further seeds of an evaluation, the first of which a longer one is to replace."""
    there, losses = store.load(key), shorter.losses[:, longer_seeds:]
    if there is None or len(there.losses) < len(losses):
        share = losses.shape[1] / shorter.losses.shape[1]
        store.save(key, Kept(losses, shorter.seconds * share, []))


class _Progress(NamedTuple):
    """How far the seeds have come: replaced as a whole, so that an interruption never sees half of a window."""

    states: RolloutState
    losses: tuple[np.ndarray, ...]
    seconds: tuple[float, ...]


def _compute(
    block: _Block,
    optimizer: Optimizer,
    problem: Optimizee,
    windows: int,
    store: EvaluationStore | None,
    report: Callable[[int, np.ndarray], None],
) -> Kept:
    """Go on from where the block stands to the last window, keeping what there is now and then."""
    together = SeedsTogether(optimizer, problem, block.seeds)
    progress = _Progress(together.start(block.kept.state), tuple(block.kept.losses), tuple(block.kept.seconds.tolist()))

    def so_far(state: list[np.ndarray]) -> Kept:
        return Kept(np.array(progress.losses), np.array(progress.seconds), state)

    saved = time.monotonic()
    try:
        while len(progress.losses) < windows:
            before = time.perf_counter()
            states, losses = together.advance(progress.states)
            seconds = time.perf_counter() - before
            progress = _Progress(states, (*progress.losses, losses), (*progress.seconds, seconds))
            report(len(progress.losses), losses)
            if store is not None and time.monotonic() - saved > SAVE_SECONDS:
                store.save(block.key, so_far(together.leaves(progress.states)))
                saved = time.monotonic()
    except KeyboardInterrupt:
        if store is not None and progress.losses:
            store.save(block.key, so_far(together.leaves(progress.states)))
        raise
    result = so_far([])
    if store is not None:
        store.save(block.key, result)
    return result
