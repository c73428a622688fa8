import json
import math
import re
from dataclasses import replace
from pathlib import Path

import jax
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import tutelage
from tutelage import cli
from tutelage.commands.train import Train
from tutelage.evaluation import summarize_windows
from tutelage.experiments.ship import ship
from tutelage.experiments.zoo_card import describe_taught
from tutelage.optimizers import load_weights
from tutelage.training import TrainingConfig, recipe
from tutelage.training.card import training_log
from tutelage.training.run_directory import CONFIG, RunDirectory
from tutelage.zoo import RESULTS, zoo_card, zoo_names, zoo_weights

NAMES = zoo_names()


@pytest.mark.parametrize("name", NAMES)
def test_each_works_as_an_optimizer(name):
    problem = tutelage.optimizee("mlp-digits")
    scheduled = tutelage.optimizer(name).scheduled
    optimizer = tutelage.load(name, num_steps=100 if scheduled else None)
    losses, _ = tutelage.rollout(optimizer, problem, jax.random.key(0), 100)
    assert losses[-1] < losses[0]
    assert zoo_weights(name).stat().st_size < 100_000


def test_a_log_says_when_the_best_weights_were_learned(tmp_path):
    run = RunDirectory(tmp_path)
    recipe("l2o-dm", "cl").save(run.path / CONFIG)
    validations = [(0, 0, True), (10, 0, True), (20, 0, False), (20, 1, True), (30, 1, False)]
    rows = [{"epoch": e, "stage": s, "best": best, "seconds": 1.0} for e, s, best in validations]
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert training_log(run).best_epoch == 10  # restored in epoch 20


@pytest.mark.parametrize("name", NAMES)
def test_each_card_says_what_the_table_says(name):
    card = zoo_card(name).read_text()
    for row in summarize_windows(pl.read_parquet(RESULTS).filter(optimizer=name)).iter_rows(named=True):
        where = f"| {row['optimizee']} | {row['steps']:,} |"
        assert f"{where} {row['mean']:.2f} ± {row['deviation']:.2f} | {row['seeds']} |" in card
    assert f"tutelage train RUN --like {name}" in card
    _, provenance = load_weights(zoo_weights(name))
    assert f"({provenance['processor']} {'with' if provenance['avx512'] else 'without'} AVX-512)" in card
    config = TrainingConfig.of_weights(zoo_weights(name))
    assert f'optimizer = "{config.optimizer}"' in card


def test_a_card_decides_by_the_seeds_that_both_have():
    """About 2 below SGD in each of five seeds, whatever two more of SGD's; against Adam now lower, now higher."""
    name, sgd, adam = "tutelage-1", "sgd:learning_rate=1", "adam:learning_rate=0.01"
    losses = {
        ("one", name): [0.1, 0.2, 0.3, 0.4, 0.5],
        ("one", sgd): [x * math.e**2 for x in (0.1, 0.25, 0.3, 0.4, 0.45)] + [0.0001] * 2,
        ("two", name): [0.2, 0.4, 0.2, 0.4, 0.2],
        ("two", adam): [0.4, 0.1, 0.1, 0.1, 0.3],
        ("three", name): [2.0] * 5,
    }
    windows = pl.DataFrame(
        {"optimizer": who, "optimizee": on, "split": "test", "seed": seed, "step": 100, "loss": loss, "seconds": 1.0}
        for (on, who), values in losses.items()
        for seed, loss in enumerate(values)
    )
    card = describe_taught(name, windows)
    rows = {line.split("|")[1].strip(): line for line in card.splitlines() if line.startswith("| ")}
    assert re.search(r"\(sgd:learning_rate=1\) \| yes: difference -2\.0\d, from .* \(5 seeds\) \|$", rows["one"])
    assert re.search(r"\(adam:learning_rate=0.01\) \| undecided: .* \(5 seeds\) \|$", rows["two"])
    failures = re.findall(r"^- (.*)$", card, re.MULTILINE)
    assert failures == [
        "three, 100 steps: the loss ends above 1.",
        "two, 100 steps: adam:learning_rate=0.01 ends lower, by no more than chance may do.",
    ]


def test_a_run_is_shipped_and_taught_again_bit_for_bit(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tutelage.zoo.FOLDER", tmp_path / "zoo")
    monkeypatch.setattr("tutelage.experiments.ship.RESULTS", tmp_path / "zoo" / "results.parquet")
    (tmp_path / "zoo").mkdir()
    tutelage.train(tmp_path / "run", recipe("l2o-dm", "plain", on=("mlp-digits",), max_epochs=2, num_validation=2))
    names = {
        "mine": tutelage.optimizer(str(tmp_path / "run")),
        "sgd:learning_rate=3": tutelage.optimizer("sgd:learning_rate=3"),
    }
    table = tutelage.evaluate(names | {"other": names["mine"]}, ["mlp-digits"], num_steps=200, num_seeds=2)
    shorter = tutelage.evaluate({"mine": names["mine"]}, ["mlp-digits"], num_steps=100, num_seeds=2)
    ship("mine", tmp_path / "run", [table, shorter])
    ship("mine", tmp_path / "run", [table])  # replaces
    kept = pl.read_parquet(tmp_path / "zoo" / "results.parquet")
    assert list(kept["optimizer"]) == ["mine"] * 4 + ["sgd:learning_rate=3"] * 2
    assert list(kept["step"]) == [100] * 2 + [200] * 4
    card = (tmp_path / "zoo" / "mine.md").read_text()
    assert "- mlp-digits, 100 steps: the loss ends above 1." in card
    lines = [line for line in card.splitlines() if line.startswith("| mlp-digits |")]
    assert lines[0].endswith(" |  |  |")
    assert re.search(r" \(sgd:learning_rate=3\) \| (no|undecided): difference \d\.\d\d, .* \(2 seeds\) \|$", lines[1])
    assert "- mlp-digits, 200 steps: sgd:learning_rate=3 ends lower" in card
    assert "2 epochs, 200 steps of optimizees" in card
    assert "on 2 cpu devices." in card
    assert "    JAX_NUM_CPU_DEVICES=2 tutelage train RUN --like mine\n" in card

    metrics = RunDirectory(tmp_path / "run").metrics
    metrics.write_text(metrics.read_text() + metrics.read_text().splitlines()[-2] + "\n")  # it went on, for nothing
    ship("mine", tmp_path / "run", [])
    assert_frame_equal(pl.read_parquet(tmp_path / "zoo" / "results.parquet"), kept)
    assert "3 epochs, 300 steps of optimizees" in (tmp_path / "zoo" / "mine.md").read_text()

    assert cli.main(["train", str(tmp_path / "again"), "--like", str(tmp_path / "zoo" / "mine.safetensors")]) == 0
    first, again = (load_weights(RunDirectory(tmp_path / run).weights) for run in ("run", "again"))
    assert all((a == b).all() for a, b in zip(*(jax.tree.leaves(loaded[0]) for loaded in (first, again)), strict=True))
    assert first[1] == again[1]


def test_other_settings_beside_those_of_a_taught_optimizer():
    like = TrainingConfig.of_weights(zoo_weights("rnnprop"))
    given = Train(Path("run"), like="rnnprop", seed=5, on=("mlp-digits",), start_scale=2.0)
    technique = replace(like.technique, augmentation=replace(like.technique.augmentation, start_scale=2.0))
    assert given.config() == replace(like, seed=5, on=("mlp-digits",), technique=technique)


def test_the_command_line(capsys):
    assert cli.main(["zoo"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES if len(pl.read_parquet(RESULTS).filter(optimizer=name)))
    assert cli.main(["zoo", NAMES[0]]) == 0
    assert capsys.readouterr().out.strip() == zoo_card(NAMES[0]).read_text().strip()
    assert cli.main(["zoo", "rnnpropp"]) == 2
    assert "did you mean rnnprop" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["train", "x", "--like", "rnnprop", "--technique", "cl"]) == 2
    assert "--like says what is taught, and how: leave --optimizer" in " ".join(capsys.readouterr().err.split())
