import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import polars as pl
import pytest

import tutelage
from tests.compiling import NOTHING
from tutelage import cli
from tutelage.commands import Zoo, measure
from tutelage.experiments import demonstration as demo_module
from tutelage.training import ImitationSettings, Schedule, Technique
from tutelage.zoo import zoo_card

ROOT = Path(__file__).parents[1]
SMALL = ["--technique", "plain", "--unroll", "40", "--on", "mlp-digits", "--num-validation", "2", "--max-epochs", "2"]


def run(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, " ".join(captured.err.split())


def test_train_resume_evaluate_tune(capsys, tmp_path):
    code, out, _ = run(capsys, "train", tmp_path / "run", *SMALL, "--json")
    assert code == 0
    assert [json.loads(line)["epoch"] for line in out.splitlines()] == [0, 1, 2, 2]
    assert run(capsys, "train", tmp_path / "run", "--resume")[0] == 0

    code, out, _ = run(
        capsys, "evaluate", tmp_path / "run", "adam:learning_rate=0.01", "--on", "mlp-digits", "--steps", "200",
        "--seeds", "2", "--out", tmp_path / "r.parquet", "--plot", tmp_path / "c.svg", "--json",
    )  # fmt: skip
    assert code == 0
    names = [row["optimizer"] for row in json.loads(out)["results"]]
    assert names == [str(tmp_path / "run"), "adam:learning_rate=0.01"]
    assert len(pl.read_parquet(tmp_path / "r.parquet")) == 2 * 2 * 2
    assert "<svg" in (tmp_path / "c.svg").read_text()

    code, out, _ = run(capsys, "tune", "sgd", "--on", "mlp-digits", "--steps", "100", "--seeds", "1")
    assert code == 0
    assert "best: sgd:learning_rate=" in out


def test_without_a_terminal_an_evaluation_says_now_and_then_how_far_it_is(capsys, monkeypatch):
    sgd, adam = "sgd:learning_rate=1", "adam:learning_rate=0.01"
    command = ("evaluate", sgd, adam, "--on", "mlp-digits", "--steps", "200", "--seeds", "2")
    assert "%" not in run(capsys, *command)[2]  # it takes less than a minute
    monkeypatch.setattr("tutelage.commands.terminal.SECONDS_BETWEEN_LINES", 0)
    said = run(capsys, *command)[2]
    pairs = re.findall(r"(\S+) on mlp-digits: (\d+)%", said)
    assert pairs == [(sgd, "50"), (sgd, "100"), (adam, "50"), (adam, "100")]
    assert re.search(r"loss \d\.\d+; 75% of all, about \d:\d\d:\d\d left", said)
    assert run(capsys, *command, "--json")[2] == ""


def test_without_a_terminal_training_says_now_and_then_how_far_it_is_each_time_in_a_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tutelage.commands.terminal.SECONDS_BETWEEN_LINES", 0)
    folder = tmp_path / ("a-long-name" * 8)
    assert cli.main(["train", str(folder), *SMALL]) == 0
    validated, first, second, validated_again, finished = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"epoch 0: validation loss \S+ after 40 steps \(best of the stage\), continue", validated)
    assert re.fullmatch(r"epoch 1: loss \S+; stage 1: 40 steps, epochs to validation: 1", first)
    assert second.startswith("epoch 2: loss ")
    assert validated_again.startswith("epoch 2: validation loss ")
    assert finished == f"Finished: the best weights are in {folder / 'optimizer.safetensors'}."
    assert cli.main(["train", str(folder) + "2", *SMALL, "--json"]) == 0
    assert "to validation" not in capsys.readouterr().err


def test_evaluate_says_whether_the_first_ends_lower_than_the_others(capsys):
    optimizers = "adam:learning_rate=0.01", "sgd:learning_rate=0.001", "adam:learning_rate=0.02"
    code, out, _ = run(capsys, "evaluate", *optimizers, "--on", "mlp-digits", "--steps", "200", "--seeds", "3")
    assert code == 0
    said = out.split("Does adam:learning_rate=0.01 end lower?")[1]
    lines = {cells[1]: cells for cells in (re.split(r" *│ *", line) for line in said.splitlines()) if len(cells) > 4}
    assert lines[optimizers[1]][3] == "yes"
    assert lines[optimizers[2]][3] == "no"
    assert "end lower" not in run(capsys, "evaluate", optimizers[0], "--on", "mlp-digits", "--steps", "100")[1]


def test_a_table_in_a_pipe_has_whole_lines(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = run(capsys, "zoo")
    assert re.search(r"^│ lenet +│ 10,000 +│ adam:learning_rate=0.1,cosine_steps=10000 +│ -\d", out, re.MULTILINE)


def test_import_then_evaluate_either_form(capsys, tmp_path):
    from tests.interop.test_loading import archive

    archive(tmp_path / "x.npz")
    assert run(capsys, "import", tmp_path / "x.npz", "--out", tmp_path / "x.safetensors")[0] == 0
    code, out, _ = run(
        capsys, "evaluate", tmp_path / "x.npz", tmp_path / "x.safetensors", "--on", "mlp-digits", "--steps", "100",
        "--seeds", "1", "--json",
    )  # fmt: skip
    assert code == 0
    first, second = json.loads(out)["results"]
    assert first["mean"] == second["mean"]
    (comparison,) = json.loads(out)["comparisons"]
    assert (comparison["than"], comparison["difference"]) == (str(tmp_path / "x.safetensors"), 0.0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["evaluate", "adma"], 2, "There is no optimizer"),
        (["evaluate", "adam:learning_rate=0.1", "--on", "mlp-digit"], 2, "did you mean mlp-digits"),
        (["evaluate", "adam:learning_rate=0.1", "--steps", "30"], 2, "multiple of 100"),
        (["evaluate", "adam:learning_rate=0.1", "--seeds", "0"], 2, "1 or more"),
        (["evaluate"], 2, "at least one optimizer"),
        (["tune", "adam", "--steps", "30"], 2, "multiple of 100"),
        (["evaluate", "adam:learning_rate=0.1", "--out", "x.csv"], 2, "names a .parquet file"),
        (["evaluate", "adam:learning_rate=0.1", "--out", "no/where.parquet"], 1, "no folder no"),
        (["evaluate", "adam:learning_rate=0.1", "--plot", "x.jpeg"], 2, "names a .png or .pdf or .svg file"),
        (["evaluate", "adam:learning_rate=0.1", "--plot", "no/where.png"], 1, "no folder no"),
        (["evaluate", "adma", "--keep", "kept"], 2, "There is no optimizer"),
        (["evaluate", "no/such/run"], 1, "no file or folder"),
        (["train", "x", "--resume"], 1, "no training run"),
        (["train", "x", "--resume", "--seed", "3"], 2, "leave the others out"),
        (["train", "x", "--technique", "cil"], 2, "no technique"),
        (["train", "x", "--optimizer", "l2odm", "--on", "mlp-orig"], 2, "did you mean l2o-dm"),
        (["train", "x", "--validate-on", "mlp-orik"], 2, "did you mean mlp-orig"),
        (["train", "x", "--num-tasks", "0"], 2, "greater than 0"),
        (["train", "x", "--unroll", "100"], 2, "cl-il lengthens the unroll: give the lengths of two stages or more"),
        (["train", "x", "--unroll", "20", "40", "--technique", "il"], 2, "il has unrolls of one length: give just one"),
        (["train", "x", "--unroll", "20", "--technique", "random-lengths"], 2, "random-lengths draws its unrolls"),
        (["train", "x", "--unroll", "30", "--technique", "plain"], 2, "multiples of 20 steps, not 30"),
        (["train", "x", "--validate-every", "0"], 2, "are 1 or more"),
        (
            ["train", "x", "--like", "l2o-dm", "--unroll", "100"],
            2,
            "leave --optimizer, --technique, --teachers, --imitation-ratio, --variant, --unroll",
        ),
        (["train", "x", "--technique", "cl", "--teachers", "rnnprop"], 2, "cl has no teachers: leave them out, or add"),
        (["train", "x", "--technique", "self-improving", "--imitation-ratio", "1"], 2, "does not imitate: leave the"),
        (["train", "x", "--imitation-ratio", "30"], 2, "probabilities from 0 to 1"),
        (["train", "x", "--teachers", "rnnprob"], 2, "did you mean rnnprop"),
        (["train", "x", "--initial-weights", "l2o-dm", "--optimizer", "rnnprop"], 2, "rnnprop cannot begin"),
        (["tune", "l2o-dm", "--on", "mlp-digits"], 2, "no hand-designed optimizer"),
        (["import", "x.npz", "--out", "x.safetensors"], 1, "no file x.npz"),
    ],
)
def test_mistakes_get_one_sentence(capsys, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUTELAGE_DATA", raising=False)  # no mistake is told of only after data are fetched
    returned, _, error = run(capsys, *arguments)
    assert returned == code
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "adam:learning_rate=0.1", "--on", "mlp-digits", "--steps", "100", "--keep"],
        ["reproduce", "fig2", "--scale", "smoke", "--folder"],
        ["train", "--on", "mlp-digits", "--seed", "0"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_file_in_place_of_a_folder_is_told_of_before_anything_is_computed(capsys, tmp_path, monkeypatch, arguments):
    monkeypatch.setattr("tutelage.evaluation.pair.SeedsTogether.advance", None)
    (tmp_path / "file").write_text("precious")
    returned, _, error = run(capsys, *arguments, tmp_path / "file" / "within")
    assert returned == 2
    assert f"{tmp_path / 'file' / 'within'} is no folder" in error
    assert (tmp_path / "file").read_text() == "precious"


def test_a_machine_that_knows_ascii_alone(tmp_path):
    commands = [
        ["zoo"],
        ["zoo", "tutelage-1"],
        ["inspect", "adam:learning_rate=0.01", "--steps", "20"],
        ["reproduce", "fig6", "--report-only", "--folder", "results"],
    ]
    report = Path("results", "reports", "fig6-small")
    shutil.copytree(ROOT / "docs" / report, tmp_path / report)
    (tmp_path / report / "index.html").unlink()
    script = f"from tutelage import cli; raise SystemExit(max(cli.main(command) for command in {commands}))"
    ascii_alone = {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "LC_ALL": "C", "XLA_FLAGS": NOTHING}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=os.environ | ascii_alone, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr
    card = zoo_card("tutelage-1").read_text(encoding="utf-8")
    assert "±" in card
    assert card.encode("ascii", errors="replace") in result.stdout
    assert "\u2212" in (tmp_path / "inspect.html").read_text(encoding="utf-8")
    assert "±" in (tmp_path / report / "index.html").read_text(encoding="utf-8")


def test_usage_errors_exit_with_2(capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(["train"])
    assert error.value.code == 2
    with pytest.raises(SystemExit) as error:
        cli.main(["evaluate", "--help"])
    assert error.value.code == 0
    assert "10000" in capsys.readouterr().out


def test_version(capsys):
    assert run(capsys, "--version")[:2] == (0, f"tutelage {version('tutelage')}\n")
    assert tutelage.__version__ == version("tutelage")


def test_an_existing_result_is_not_overwritten(capsys, tmp_path):
    (tmp_path / "r.parquet").write_text("precious")
    code, _, error = run(capsys, "evaluate", "adam:learning_rate=0.1", "--out", tmp_path / "r.parquet")
    assert code == 2
    assert "exists already" in error
    assert (tmp_path / "r.parquet").read_text() == "precious"


def test_ctrl_c_keeps_everything_and_says_how_to_go_on(tmp_path):
    # a shell's background jobs ignore SIGINT, and hand that on
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from tutelage import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "train", "run", *SMALL[:-1], "500"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        started = time.monotonic()
        while not (tmp_path / "run" / "metrics.jsonl").exists():
            assert time.monotonic() - started < 120
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        error = " ".join(process.communicate(timeout=120)[1].split())
    assert process.returncode == 1
    assert "--resume" in error
    assert "Traceback" not in error
    assert list((tmp_path / "run" / "checkpoints").iterdir())


def test_ctrl_c_within_a_callback_of_the_garbage_collector_is_not_lost(capsys, monkeypatch):
    def interrupt(phase, info):
        gc.callbacks.remove(interrupt)
        raise KeyboardInterrupt

    def collect(command):
        gc.callbacks.append(interrupt)
        gc.collect()
        for _ in range(600):
            time.sleep(0.1)

    monkeypatch.setattr(Zoo, "run", collect)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, _, error = run(capsys, "zoo")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, error.strip()) == (1, "tutelage: interrupted.")


@pytest.mark.parametrize(
    ("command", "rows"), [(["evaluate", "adam:learning_rate=0.1", "sgd:learning_rate=0.1"], 4), (["tune", "sgd"], 10)]
)
def test_ctrl_c_during_a_measurement(capsys, tmp_path, monkeypatch, command, rows):
    arguments = [*command, "--on", "bowl", "--steps", "200", "--seeds", "1", "--out", tmp_path / "r.parquet"]

    def interrupt(progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "show_evaluation", lambda bar, task, lines: interrupt)
    code, _, error = run(capsys, *arguments)
    assert code == 1
    assert "nothing was written. With --keep FOLDER" in error
    code, _, error = run(capsys, *arguments, "--keep", tmp_path / "kept")
    assert code == 1
    assert "nothing is lost. The same command goes on" in error
    monkeypatch.undo()
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert run(capsys, *arguments, "--keep", tmp_path / "kept")[0] == 0
    assert len(pl.read_parquet(tmp_path / "r.parquet")) >= rows


def test_the_demo_from_end_to_end(capsys, tmp_path, monkeypatch):
    schedule = Schedule((20, 40), (20, 40), period=1, min_periods=1, max_periods=1)
    monkeypatch.setattr(demo_module, "CURRICULUM_IMITATION", Technique(schedule, ImitationSettings()))
    monkeypatch.setattr(demo_module, "PLAIN", Technique(schedule))
    monkeypatch.setattr(demo_module, "STEPS", 100)
    code, out, error = run(capsys, "demo", "--out", tmp_path / "demo", "--json")
    assert code == 0
    names = [row["optimizer"].partition(":")[0] for row in json.loads(out)["results"]]
    assert names == ["l2o-dm", "l2o-dm-cl-il", "adam", "rmsprop", "sgd"]
    said = " ".join(error.split())
    assert re.search(r"Does l2o-dm-cl-il end lower than l2o-dm here\? (yes|no|undecided): difference ", said)
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    assert written == {"l2o-dm", "l2o-dm-cl-il", "results.parquet", "curves.png"}
    assert (tmp_path / "demo" / "curves.png").stat().st_size > 5_000
    assert run(capsys, "demo", "--out", tmp_path / "demo")[0] == 2


def test_without_a_terminal_the_demo_says_what_it_is_at(capsys, tmp_path, monkeypatch):
    def begins(folder, on_phase, **reports):
        on_phase("Teaching")
        raise ValueError("no further")

    monkeypatch.setattr("tutelage.commands.demo.demo", begins)
    assert run(capsys, "demo", "--out", tmp_path)[2] == "Teaching tutelage: no further"
    assert run(capsys, "demo", "--out", tmp_path, "--json")[2] == "tutelage: no further"


def test_an_optimizer_and_an_optimizee_of_ones_own(capsys, tmp_path):
    mine = ["--optimizer", "examples.my_optimizer:create", "--technique", "plain-il-self-improving"]
    text = ["--on", "examples.my_optimizee:create"]
    assert run(capsys, "train", tmp_path / "mine", *mine, *SMALL[2:], "--json")[0] == 0
    code, out, _ = run(
        capsys, "evaluate", tmp_path / "mine", "examples.my_optimizer:create", *text,
        "--steps", "100", "--seeds", "2", "--json",
    )  # fmt: skip
    assert code == 0
    results = json.loads(out)["results"]
    assert [row["diverged"] for row in results] == [0, 0]
    assert results[0]["mean"] != results[1]["mean"]


@pytest.mark.parametrize(
    ("technique", "settings"),
    [
        ("cl-il", ["--optimizer", "rnnprop", "--unroll", "40", "60", "--random-scaling", "1", "--convex-term"]),
        (
            "plain-self-improving",
            ["--optimizer", "rnnprop", "--unroll", "40", "--num-tasks", "2", "--estimator", "pes"],
        ),
        ("random-lengths-il", ["--optimizer", "l2o-scale", "--on", "bowl", "rosenbrock-noisy"]),
    ],
)
def test_every_kind_of_training_runs_and_leaves_an_optimizer(capsys, tmp_path, technique, settings):
    given = ["--technique", technique, "--max-epochs", "2", "--num-validation", "2", *settings]
    if "--on" not in settings:
        given += ["--on", "mlp-digits"]
    code, out, _ = run(capsys, "train", tmp_path / "run", *given, "--json")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    trained = [row for row in rows if "unroll" in row]
    assert [row["epoch"] for row in trained] == [1, 2]
    assert all(row["gradient_norm"] > 0 and row["skipped_steps"] == 0 for row in trained)
    code, out, _ = run(capsys, "evaluate", tmp_path / "run", "--on", "bowl", "--steps", "100", "--seeds", "2", "--json")
    assert code == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--estimator", "pes", "--second-derivatives"], "does not differentiate"),
        (["--technique", "cl-augmented"], "There is no technique"),
        (["--technique", "cl-random-lengths"], "There is no technique"),
        (["--meta-optimizer", "adam"], "needs a learning rate"),
        (["--random-scaling", "-1"], "0 or more"),
        (["--optimizer", "examples.nothing:create"], "cannot be imported"),
        (["--optimizer", "os:getcwd"], "is to be a function of a key alone"),
        (["--optimizer", "rnn-prop"], "did you mean rnnprop"),
        (["--on", "conv-minst"], "did you mean conv-mnist"),
    ],
)
def test_combinations_and_names_that_make_no_sense_are_refused(capsys, tmp_path, settings, message):
    code, _, error = run(capsys, "train", tmp_path / "run", "--on", "mlp-digits", *settings)
    assert code == 2
    assert message in error
    assert not (tmp_path / "run").exists()
