import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tutelage import cli
from tutelage.experiments import campaign, render, reproduce
from tutelage.experiments.campaign import PartsFailedError, run_parts
from tutelage.experiments.devices import Devices
from tutelage.experiments.parts import Baseline, Place

KILLS = 20
DEVICES = Devices(1, "here")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """For processes that are to begin quickly: programs are compiled once, and run as users' do."""
    kept = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "",
        "JAX_NUM_CPU_DEVICES": "1",
    }
    return os.environ | kept


def start(folder: Path, environment: dict[str, str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "tutelage.cli", "reproduce", "fig2", "--scale", "smoke", "--folder", str(folder)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, environment):
    """The folder of fig2 at smoke scale."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(folder, environment)
    _, said = process.communicate()
    assert process.returncode == 0, said
    return folder


def tables(folder: Path) -> tuple[pl.DataFrame, dict]:
    """All that must not depend on interruptions; times may."""
    report = folder / "reports" / "fig2-smoke"
    record = json.loads((report / "record.json").read_text())
    runs = {name: {k: v for k, v in run.items() if k != "seconds"} for name, run in record["training"].items()}
    return pl.read_parquet(report / "results.parquet").drop("seconds"), runs


def test_killed_at_random_moments_and_resumed(tmp_path, environment, undisturbed):
    chance = random.Random(0)
    kills = 0
    while kills < KILLS:
        process = start(tmp_path, environment)
        try:
            process.communicate(timeout=chance.uniform(0, 9))
        except subprocess.TimeoutExpired:
            process.send_signal(chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
            process.communicate()
            kills += 1
        if process.returncode == 0:
            break
    process = start(tmp_path, environment)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert kills > KILLS / 2
    results, runs = tables(tmp_path)
    expected_results, expected_runs = tables(undisturbed)
    assert_frame_equal(results, expected_results)
    assert runs == expected_runs
    for run in runs.values():
        weights = [folder / "runs" / run["folder"] / "optimizer.safetensors" for folder in (tmp_path, undisturbed)]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_report_says_all(undisturbed):
    page = (undisturbed / "reports" / "fig2-smoke" / "index.html").read_text()
    for said in ("Figure 2", "<svg", "l2o-dm-cl-il", "Imitation improves on plain training.", "undecided", "jaxlib"):
        assert said in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(h""", page), "needs other files"
    assert page.count("<details>") == 5


def test_a_report_is_made_again_from_tables(tmp_path, undisturbed):
    made = undisturbed / "reports" / "fig2-smoke"
    copy = tmp_path / "reports" / "fig2-smoke"
    copy.mkdir(parents=True)
    for name in ("results.parquet", "tuning.parquet", "record.json"):
        (copy / name).write_bytes((made / name).read_bytes())
    render("fig2", "smoke", tmp_path)
    assert (copy / "index.html").read_bytes() == (made / "index.html").read_bytes()
    with pytest.raises(FileNotFoundError, match="no results of an experiment"):
        render("fig3", "smoke", tmp_path)


def test_a_failing_part_does_not_take_the_others_along(tmp_path):
    place = Place(tmp_path)
    good = Baseline("sgd", "sgd", "mlp-digits", 100, 1, 1)
    bad = Baseline("other", "sgd", "no-such-problem", 100, 1, 1)
    with pytest.raises(PartsFailedError, match=r"1 of 2 parts failed .*no-such-problem.*The same command tries"):
        run_parts([bad, good], place, DEVICES, 1)
    assert len(list((tmp_path / "evaluations").iterdir())) >= 11
    seen = []
    (result,) = run_parts([good], place, DEVICES, 1, lambda progress: seen.append(progress.finished)).values()
    assert result[0].startswith("sgd:learning_rate=")
    assert seen[-1] == 1


def test_one_campaign_at_a_time(tmp_path):
    with campaign._locked(tmp_path / "lock"), pytest.raises(BlockingIOError, match="wait for it, or name another"):
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


def test_unknown_scale(tmp_path):
    with pytest.raises(ValueError, match="smoke, small, paper"):
        reproduce("fig2", "huge", tmp_path)  # pyright: ignore[reportArgumentType]
