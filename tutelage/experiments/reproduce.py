"""The paper's experiments, from nothing to a report."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..files import make_folder, write_text
from .campaign import CampaignProgress, run_parts
from .devices import find_devices, versions
from .experiment_file import ALL, experiment_names, load_experiment
from .machines import Machines
from .parts import Part, Place
from .plan import Plan, make_plan
from .record import Record, make_record
from .report import write_report
from .scale import ScaleName, find_scale

PAGE = "index.html"


def reproduce(
    name: str,
    scale: ScaleName = "small",
    folder: str | Path = "reproduction",
    *,
    workers: int | None = None,
    data_dir: str | Path | None = None,
    report: Callable[[CampaignProgress], None] = lambda progress: None,
) -> Path:
    """Train, tune and evaluate whatever is missing for an experiment, and write its report.

    Everything is kept in `folder` as it is computed. Interrupted at any moment, the same call goes on from there and
    ends with the same tables; experiments share what they have in common. The tables are written anew whenever a part
    of them is finished, so that `render` shows how things stand at any time.

    Args:
        name: of an experiment, or `all`; or a file of one's own that describes one, by its path ending in `.toml`.
        scale: smoke (a minute), small (an afternoon or two) or paper.
        workers: processes at work side by side; one for each device, if None.
        data_dir: where to look for data first.
        report: called as the work goes on.

    Returns:
        The page, in `folder/reports`, with the tables that it was made from beside it or, for `all`, in the folders of
        the experiments.

    Raises:
        ValueError: an unknown name or scale, an impossible number, or a file that describes no experiment.
        FileNotFoundError: there is no such file.
        PartsFailedError: parts that failed; the others were finished first.
        BlockingIOError: another campaign is at work in this folder.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"The number of workers must be 1 or more, not {workers}.")
    plans = {each: make_plan(load_experiment(each), find_scale(scale)) for each in _names(name)}
    place = Place(Path(folder), None if data_dir is None else Path(data_dir))
    devices = find_devices()
    machines = Machines(place)

    def keep(finished: Part, results: Mapping[Part, Any]) -> None:
        for each, plan in plans.items():
            if finished in plan.parts:
                _keep(each, plan, results, machines, scale, folder)

    parts = [part for plan in plans.values() for part in plan.parts]
    run_parts(parts, place, devices, workers or devices.count, report, keep)
    return render(name, scale, folder)


def _names(name: str) -> tuple[str, ...]:
    return experiment_names() if name == ALL else (name,)


def _keep(
    name: str, plan: Plan, results: Mapping[Part, Any], machines: Machines, scale: str, folder: str | Path
) -> None:
    """Write an experiment's tables as far as they go."""
    about = {
        "scale_name": scale,
        "command": f"tutelage reproduce {name} --scale {scale}",
        "hardware": machines.describe([part for part in plan.parts if part in results]),
        "versions": versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    record = make_record(plan, results, about)
    if record:
        record.save(_reports(folder, scale, plan.experiment.name))


def render(name: str, scale: ScaleName = "small", folder: str | Path = "reproduction") -> Path:
    """Write an experiment's report anew from its tables in `folder/reports`, finished or not, computing nothing.

    Raises:
        FileNotFoundError: there are no tables of it.
        ValueError: an unknown name, or a file that describes no experiment.
    """
    experiments = [load_experiment(each) for each in _names(name)]
    records = [Record.load(each, _reports(folder, scale, each.name)) for each in experiments]
    only = experiments[0]
    title = "Training Stronger Baselines for Learning to Optimize" if name == ALL else only.paper or only.title
    page = _reports(folder, scale, ALL if name == ALL else only.name) / PAGE
    make_folder(page.parent)
    write_text(page, write_report(records, title))
    return page


def _reports(folder: str | Path, scale: str, name: str) -> Path:
    return Path(folder) / "reports" / f"{name}-{scale}"
