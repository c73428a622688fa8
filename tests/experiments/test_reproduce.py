import json
import math
import multiprocessing
import os
import random
import re
import signal
import sys
import threading
import time
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.compiling import A_LITTLE
from tutelage import cli
from tutelage.evaluation.evaluate import to_table
from tutelage.experiments import campaign, render, ship
from tutelage.experiments.campaign import PartsFailedError, run_parts
from tutelage.experiments.devices import Devices, find_devices
from tutelage.experiments.experiment_file import load_experiment
from tutelage.experiments.machines import Machines
from tutelage.experiments.parts import Baseline, Part, Place, Trained
from tutelage.experiments.plan import Plan, make_plan
from tutelage.experiments.record import make_record
from tutelage.experiments.scale import SCALES, find_scale
from tutelage.files import alone_in
from tutelage.training.card import TrainingLog

KILLS = 20
DEVICES = Devices(1, "here")


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """For processes that are to begin quickly: what they import is imported once, and programs are compiled once."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("XLA_FLAGS", A_LITTLE)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tutelage.cli"])
    return context


def campaign_in(folder: Path) -> None:
    sys.exit(cli.main(["reproduce", "cost", "--scale", "smoke", "--folder", str(folder)]))


def start(folder: Path, processes: ForkServerContext) -> ForkServerProcess:
    process = processes.Process(target=campaign_in, args=(folder,))
    process.start()
    return process


def tables(folder: Path) -> tuple[pl.DataFrame, dict]:
    """All that must not depend on interruptions; times may."""
    report = folder / "reports" / "cost-smoke"
    record = json.loads((report / "record.json").read_text())
    runs = {name: {k: v for k, v in run.items() if k != "seconds"} for name, run in record["training"].items()}
    return pl.read_parquet(report / "results.parquet").drop("seconds"), runs | {"hardware": record["hardware"]}


def finish(folder: Path, processes: ForkServerContext) -> float:
    """Run it to its end, and return the seconds that took."""
    begun = time.monotonic()
    process = start(folder, processes)
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - begun


def test_killed_at_random_moments_and_resumed(tmp_path, processes):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    finish(undisturbed, processes)
    shortest = finish(undisturbed, processes)  # with nothing left to compute: most of it goes into starting a worker
    chance = random.Random(0)
    kills = 0
    while kills < KILLS:
        begun = time.monotonic()
        process = start(killed, processes)
        process.join(chance.uniform(0.6, 1) * shortest)
        if process.exitcode is None:
            os.kill(process.pid, chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
            process.join()
            kills += process.exitcode != 0
        else:
            shortest = time.monotonic() - begun  # the machine has less else to do by now
    finish(killed, processes)
    (results, runs), (expected_results, expected_runs) = tables(killed), tables(undisturbed)
    assert_frame_equal(results, expected_results)
    assert runs == expected_runs
    assert runs.pop("hardware") == find_devices().description
    for run in runs.values():
        weights = [folder / "runs" / run["folder"] / "optimizer.safetensors" for folder in (killed, undisturbed)]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def losses(name: str, logs: list[float]) -> pl.DataFrame:
    return to_table(name, "mlp-orig", "test", np.exp([[0.0] * len(logs), logs]), np.ones((2, len(logs))))


def made_up(plan: Plan) -> dict[Part, Any]:
    """Results of all parts of a plan for one optimizee."""
    results: dict[Part, Any] = {part: Trained(Path(part.name), TrainingLog(7, 5, 1234, 60.0)) for part in plan.teach}
    results |= {part: losses(part.taught.name, [-9.0, -9.5, -8.8, -9.1, -9.2]) for part in plan.judge}
    for part in plan.baselines:
        table = losses(part.name, [-7.0, -7.4, -6.9, -7.1, math.inf if part.name == "sgd" else -7.2])
        results[part] = f"{part.name}:learning_rate=0.01", table, table
    return results


def save(plan: Plan, results: dict[Part, Any], folder: Path) -> None:
    versions = {"jax": "1"}
    about = {"scale_name": "small", "command": "c", "hardware": "two <cores>", "versions": versions, "finished": "f"}
    record = make_record(plan, results, about)
    assert record
    record.save(folder / "reports" / f"{plan.experiment.name}-small")


def test_a_report_on_what_is_finished(tmp_path):
    plan = make_plan(load_experiment("fig7a"), SCALES["small"])
    results = made_up(plan)
    assert make_record(plan, {part: results[part] for part in plan.teach}, {}) is None
    save(plan, {part: results[part] for part in plan.parts if getattr(part, "name", "") != "rmsprop"}, tmp_path)
    page = render("fig7a", "small", tmp_path).read_text()
    assert "still to come: rmsprop on mlp-orig." in page
    assert "without rmsprop so far" in page
    assert '<span class="holds">holds</span>' in page
    save(plan, results, tmp_path)
    finished = render("fig7a", "small", tmp_path).read_text()
    assert "so far" not in finished
    save(plan, {plan.judge[0]: results[plan.judge[0]]}, tmp_path)
    assert render("fig7a", "small", tmp_path).read_text() == finished, "half a report took the place of a whole one"


def test_a_report_is_made_from_tables_alone(tmp_path):
    plan = make_plan(load_experiment("fig7a"), SCALES["small"])
    save(plan, made_up(plan), tmp_path)
    page = render("fig7a", "small", tmp_path).read_text()
    for said in (
        "Figure 7a",
        "<svg",
        "l2o-dm-cl-il against adam: difference",
        '<span class="holds">holds</span>',
        "diverged in 1 of 5 seeds",
        "two &lt;cores&gt;",
        "<td>adam:learning_rate=0.01</td>",
        "<td>1,234</td>",
    ):
        assert said in page
    assert page.count("<details>") == 3
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(h""", page), "needs other files"
    assert render("fig7a", "small", tmp_path).read_text() == page
    shipped = ship.read_table(tmp_path / "reports" / "fig7a-small", "tutelage-1", tmp_path)
    assert {"l2o-dm-cl-il", "adam:learning_rate=0.01"} <= set(shipped["optimizer"])
    assert "adam" not in set(shipped["optimizer"])
    with pytest.raises(FileNotFoundError, match="no results of an experiment"):
        render("fig3", "small", tmp_path)


@pytest.mark.parametrize("file", ["record.json", "results.parquet", "tuning.parquet"])
def test_a_damaged_report_is_named_and_made_anew(tmp_path, file):
    plan = make_plan(load_experiment("fig7a"), SCALES["small"])
    results = made_up(plan)
    save(plan, results, tmp_path)
    page = render("fig7a", "small", tmp_path).read_text()
    path = tmp_path / "reports" / "fig7a-small" / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=f"{path if file == 'record.json' else path.parent} is damaged"):
        render("fig7a", "small", tmp_path)
    if file == "record.json":
        save(plan, {plan.judge[0]: results[plan.judge[0]]}, tmp_path)
        assert "so far" in render("fig7a", "small", tmp_path).read_text()
    save(plan, results, tmp_path)
    assert render("fig7a", "small", tmp_path).read_text() == page


def test_a_report_is_known_to_be_on_another_training_run(tmp_path, monkeypatch):
    plan = make_plan(load_experiment("fig7a"), SCALES["small"])
    save(plan, made_up(plan), tmp_path)

    def read(log: TrainingLog):
        monkeypatch.setattr(ship, "training_log", lambda run: log)
        return ship.read_table(tmp_path / "reports" / "fig7a-small", "l2o-dm-cl-il", tmp_path)

    assert len(read(TrainingLog(7, 5, 1234, math.nextafter(60.0, 61.0))))
    for other in (TrainingLog(7, 4, 1234, 60.0), TrainingLog(7, 5, 1234, 60.1)):
        with pytest.raises(ValueError, match="on another training run called l2o-dm-cl-il"):
            read(other)


def test_a_failing_part_does_not_take_the_others_along(tmp_path):
    place = Place(tmp_path)
    good = Baseline("sgd", "sgd", "mlp-digits", 100, 1, 1)
    unknown = Baseline("other", "sgd", "no-such-problem", 100, 1, 1)
    of_ones_own = Baseline("own", "sgd", "tests.problems:branching", 100, 1, 1)
    said = (
        r"2 of 3 parts failed .*no-such-problem.*; own on .*: TracerBoolConversionError in .*problems.py, line \d+: .*"
    )
    with pytest.raises(
        PartsFailedError, match=f"{said}traced array.*: the others are finished.*The same command tries"
    ):
        run_parts([unknown, of_ones_own, good], place, DEVICES, 1)
    try:
        int("own")
    except ValueError as error:
        told = campaign._in_words(good, error)
    assert re.fullmatch(
        r"sgd on mlp-digits: ValueError in .*test_reproduce.py, line \d+: invalid literal .* 'own'", told
    )
    assert len(list((tmp_path / "evaluations").iterdir())) >= 5  # as many rates as a search must try
    seen, kept = [], []
    results = run_parts(
        [good], place, DEVICES, 1, lambda progress: seen.append(progress.finished), lambda *told: kept.append(told)
    )
    assert results[good][0].startswith("sgd:learning_rate=")
    assert seen[-1] == 1
    assert kept == [(good, results)]


def test_a_report_says_which_machines_computed_what(tmp_path):
    parts = [Baseline(name, name, "mlp-digits", 100, 1, 1) for name in ("sgd", "sgd:momentum=0.9")]
    for machine, of in (("first", parts[:1]), ("second", parts)):
        run_parts(of, Place(tmp_path), Devices(1, machine), 1)
    machines = Machines(Place(tmp_path))
    assert machines.describe(parts) == "first (1 of 2 parts); second (1 of 2 parts)"
    assert machines.describe(parts[1:]) == "second"
    machines.add(parts[1], "third")
    machines.add(parts[1], "third")
    assert machines.of(parts[1]) == ["second", "third"]
    unknown = Baseline("adam", "adam", "mlp-digits", 100, 1, 1)
    assert machines.describe([parts[0], unknown]) == "first (1 of 2 parts); not recorded (1 of 2 parts)"


def test_an_interrupted_part_is_of_the_machine_that_computed_some_of_it(tmp_path, monkeypatch):
    place, part = Place(tmp_path), Baseline("sgd", "sgd", "mlp-digits", 100, 1, 1)
    stopping = threading.Event()
    stopping.set()
    monkeypatch.setattr(campaign, "_stopping", stopping)
    with pytest.raises(KeyboardInterrupt):
        campaign._run_part(part, place, "here")
    assert len(list((tmp_path / "evaluations").iterdir())) == 1
    assert Machines(place).of(part) == ["here"]


def test_workers_take_the_devices_that_a_user_lets_be_seen(monkeypatch):
    for seen, taken in ((None, ["0", "1", "0"]), ("3,5", ["3", "5", "3"]), ("", ["", "", ""])):
        if seen is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
        assert [campaign._visible_device(number, 2) for number in range(3)] == taken


def test_one_campaign_at_a_time(tmp_path):
    with alone_in(tmp_path, "campaign"), pytest.raises(BlockingIOError, match="wait for it, or name another"):
        run_parts([], Place(tmp_path), DEVICES, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fig22"], 'no experiment "fig22"; did you mean fig2'),
        (["fig2", "--workers", "0"], "number of workers must be 1 or more"),
        (["fig2", "--report-only"], "no results of an experiment"),
    ],
)
def test_mistakes_are_named(capsys, tmp_path, arguments, message):
    assert cli.main(["reproduce", *arguments, "--folder", str(tmp_path)]) in (1, 2)
    assert message in " ".join(capsys.readouterr().err.split())


def test_unknown_scale():
    with pytest.raises(ValueError, match="smoke, small, paper"):
        find_scale("huge")
