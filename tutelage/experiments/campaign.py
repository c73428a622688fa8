"""Running parts side by side, a worker process to each device, so that any interruption costs next to nothing.

A part's own files are all that is kept: a run directory, or evaluations in a store. A campaign that is begun anew asks
for every part again, and those that are finished answer at once.
"""

import functools
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from ..files import alone_in, make_folder
from ..optimizees import DataError
from .devices import Devices
from .estimate import Estimate
from .machines import Machines
from .parts import Part, Place, needed

_POLL_SECONDS = 0.2


@dataclass
class CampaignProgress:
    """Where a campaign stands."""

    total: int
    """Parts."""
    finished: int = 0
    running: dict[str, tuple[float, str]] = field(default_factory=dict)
    """By title: the share that is done, and where the part stands in words."""
    share: float = 0.0
    """Of the whole campaign's expected time."""
    seconds_left: float | None = None
    """None until there is something to go by."""


Report = Callable[[CampaignProgress], None]
Finished = Callable[[Part, Mapping[Part, Any]], None]
"""Told a part that is finished, and the results of all that are."""


class PartsFailedError(RuntimeError):
    """Some parts failed; all others were finished first."""


def run_parts(
    parts: Sequence[Part],
    place: Place,
    devices: Devices,
    num_workers: int,
    report: Report = lambda progress: None,
    finished: Finished = lambda part, results: None,
) -> dict[Part, Any]:
    """Run all parts, equal ones once, and return their results.

    Args:
        devices: what there is to work on.
        num_workers: processes; each takes one of the devices, in turn.

    Raises:
        PartsFailedError: a part raised an error. All that do not need it were finished first.
        BlockingIOError: another campaign is at work in this folder.
    """
    make_folder(place.folder)
    with alone_in(place.folder, "campaign"):
        place.store.remove_partial()
        Machines(place).remove_partial()
        return _Campaign(parts, place, devices, num_workers, report, finished).run()


class _Campaign:
    def __init__(
        self,
        parts: Sequence[Part],
        place: Place,
        devices: Devices,
        num_workers: int,
        report: Report,
        finished: Finished,
    ):
        self.place = place
        self.machine = devices.description
        self.report = report
        self.finished = finished
        self.waiting = list(dict.fromkeys(parts))
        self.estimate = Estimate({part: part.seconds for part in self.waiting})
        self.results: dict[Part, Any] = {}
        self.failures: dict[Part, Exception] = {}
        self.progress = CampaignProgress(len(self.waiting))
        self.running: dict[Future, Part] = {}
        context = multiprocessing.get_context("spawn")
        self.events = context.Queue()
        self.stopping = context.Event()
        places = context.Queue()
        for number in range(num_workers):
            places.put(number)
        self.num_workers = num_workers
        self.pool = ProcessPoolExecutor(
            num_workers, context, _start_worker, (places, num_workers, devices.count, self.events, self.stopping)
        )

    def run(self) -> dict[Part, Any]:
        try:
            while self.waiting or self.running:
                self._submit()
                done, _ = wait(self.running, _POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    self._end(self.running.pop(future), future)
                self._update()
        except BaseException:
            self.stopping.set()
            raise
        finally:
            self.pool.shutdown(wait=True, cancel_futures=True)
        if self.failures:
            messages = dict.fromkeys(f"{error}" for error in self.failures.values())
            raise PartsFailedError(
                f"{len(self.failures)} of {self.progress.total} parts failed ({'; '.join(messages)}): "
                "the others are finished and kept. The same command tries those again."
            )
        return self.results

    def _submit(self) -> None:
        """Hand out what can begin, no more than there are workers, so that what is finished is followed up at once."""
        for part in list(self.waiting):
            if len(self.running) >= self.num_workers:
                return
            before = needed(part)
            if before is None or before in self.results:
                self.waiting.remove(part)
                self.running[self.pool.submit(_run_part, part, self.place, self.machine)] = part

    def _end(self, part: Part, future: Future) -> None:
        self.progress.running.pop(part.title, None)
        try:
            self.results[part] = future.result()
        except BrokenProcessPool as error:
            raise PartsFailedError(
                "A worker process ended unexpectedly, perhaps for want of memory: try the same command with fewer "
                "--workers. What is finished is kept."
            ) from error
        except Exception as error:
            self._fail(part, error)
        else:
            self.finished(part, self.results)
        self._ended(part)

    def _ended(self, part: Part) -> None:
        self.estimate.end(part, time.monotonic())
        self.progress.finished += 1

    def _fail(self, part: Part, error: Exception) -> None:
        self.failures[part] = error
        for follower in [other for other in self.waiting if needed(other) == part]:
            self.waiting.remove(follower)
            self._fail(follower, error)
            self._ended(follower)

    def _update(self) -> None:
        now = time.monotonic()
        while not self.events.empty():
            part, share, where = self.events.get()
            if part in self.running.values():  # not what a finished part had said before
                self.estimate.come(part, share, now)
                self.progress.running[part.title] = (share, where)
        self.progress.share = self.estimate.share
        self.progress.seconds_left = self.estimate.seconds_left(self.num_workers, now)
        self.report(self.progress)


# In a worker: where to tell of progress, and whether to stop.
_events: Any = None
_stopping: Any = None


def _start_worker(places: Any, num_workers: int, num_devices: int, events: Any, stopping: Any) -> None:
    """Take a device, before JAX looks for devices. Interruptions are the parent's to pass on."""
    global _events, _stopping
    _events, _stopping = events, stopping
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    number = places.get()
    jax.config.update("jax_num_cpu_devices", 1)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number::num_workers] or cores)
    os.environ["CUDA_VISIBLE_DEVICES"] = _visible_device(number, num_devices)
    if num_workers > num_devices:
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"


def _visible_device(number: int, num_devices: int) -> str:
    """The GPU of a worker; none where the user lets none be seen, by an empty CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(num_devices)))).split(",")
    return visible[number % len(visible)]


def _run_part(part: Part, place: Place, machine: str) -> Any:
    note_machine = functools.cache(lambda: Machines(place).add(part, machine))  # once, as windows are many

    def advance(share: float, where: str) -> None:  # called where something was computed, not just read
        note_machine()  # before an interruption, which keeps what was computed
        if _stopping.is_set():
            raise KeyboardInterrupt
        _events.put((part, share, where))

    try:
        return part.run(place, advance)
    except Exception as error:  # told in words, as those of JAX do not survive the way to another process
        raise RuntimeError(_in_words(part, error)) from error


def _in_words(part: Part, error: Exception) -> str:
    """What to tell of an error; also where it was, if it is none of ours, as one of a user's own optimizee."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    is_ours = isinstance(error, ValueError) and Path(where.filename).is_relative_to(Path(__file__).parents[1])
    if is_ours or isinstance(error, OSError | DataError):
        return f"{error}"
    what, _, _ = f"{error}".partition("\n")
    return f"{part.title}: {type(error).__name__} in {where.filename}, line {where.lineno}: {what}"
