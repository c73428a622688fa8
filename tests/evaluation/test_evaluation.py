import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import polars as pl
import pytest

import tutelage
from tests.compiling import A_LITTLE
from tests.problems import Quadratic, assert_trees_close
from tutelage.evaluation import curves, describe, lowest_first, plot_curves, summarize
from tutelage.evaluation.rollout import map_runs
from tutelage.evaluation.tune import rate_at
from tutelage.optimizers import L2ODM, AlignedMomentum, HandDesigned, L2OScale

PROBLEM = Quadratic(jnp.linspace(-1, 1, 7))
SGD = HandDesigned("sgd", learning_rate=0.1)


def test_rollout_is_the_loop_one_would_write():
    key = jax.random.key(0)
    losses, params = tutelage.rollout(SGD, PROBLEM, key, 7)
    init_key, batch_key = jax.random.split(key)
    expected = PROBLEM.init(init_key)
    for loss in losses:
        batch_key, now = jax.random.split(batch_key)
        value, gradient = jax.value_and_grad(PROBLEM.loss)(expected, PROBLEM.sample(now))
        assert float(loss) == pytest.approx(float(value), rel=1e-5)
        expected = jax.tree.map(lambda p, g: p - 0.1 * g, expected, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), params, expected)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_runs_one_after_the_other_and_side_by_side_are_those_by_themselves(monkeypatch, backend):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    keys, optimizer = jax.random.split(jax.random.key(0), 3), L2ODM.create(jax.random.key(1))
    together = map_runs(lambda key: tutelage.rollout(optimizer, PROBLEM, key, 20), keys)
    alone = [tutelage.rollout(optimizer, PROBLEM, key, 20) for key in keys]
    assert_trees_close(together, jax.tree.map(lambda *runs: jnp.stack(runs), *alone), 1e-6)


@pytest.mark.parametrize("optimizer", [SGD, optax.sgd(0.1), L2ODM.create(jax.random.key(0))])
def test_rollout_takes_anything_that_optax_does(optimizer):
    losses, _ = tutelage.rollout(optimizer, PROBLEM, jax.random.key(0), 20)
    assert losses.shape == (20,)
    assert np.isfinite(losses).all()


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("adam:learning_rate=0.1", PROBLEM, 20), "'adam:learning_rate=0.1' is no optimizer .*tutelage.optimizer"),
        ((SGD, "mlp-digits", 20), "'mlp-digits' is no tutelage Optimizee; tutelage.optimizee"),
        ((SGD, PROBLEM, 1e2), "num_steps must be an integer, 0 or more, not 100.0"),
        ((SGD, PROBLEM, -1), "num_steps must be an integer, 0 or more, not -1"),
    ],
)
def test_rollout_says_what_it_takes(arguments, sentence):
    optimizer, problem, num_steps = arguments
    with pytest.raises(ValueError, match=sentence):
        tutelage.rollout(optimizer, problem, jax.random.key(0), num_steps)


@pytest.mark.parametrize("num_seeds", [1, 2, 3])
def test_seeds_are_single_rollouts_whatever_device_they_run_on(num_seeds):
    table = tutelage.evaluate({"sgd": SGD}, {"q": PROBLEM}, num_steps=200, num_seeds=num_seeds)
    assert table.columns == ["optimizer", "optimizee", "split", "seed", "step", "loss", "seconds"]
    assert len(table) == 2 * num_seeds
    for seed in range(num_seeds):
        losses, _ = tutelage.rollout(SGD, PROBLEM, jax.random.key(seed), 200)
        rows = table.filter(seed=seed).sort("step")
        assert rows["step"].to_list() == [100, 200]
        np.testing.assert_allclose(rows["loss"], losses.reshape(2, 100).mean(axis=1), rtol=1e-4)


def test_evaluation_in_a_program_of_double_precision():
    with jax.enable_x64(True):
        problem = Quadratic(jnp.linspace(-1, 1, 7))
        losses, params = tutelage.rollout(SGD, problem, jax.random.key(0), 200)
        table = tutelage.evaluate({"sgd": SGD}, {"q": problem}, num_steps=200, num_seeds=1)
    assert {leaf.dtype for leaf in jax.tree.leaves((losses, params))} == {jnp.dtype("float64")}
    np.testing.assert_allclose(table["loss"], np.asarray(losses).reshape(2, 100).mean(axis=1), rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["rnnprop", "l2o-scale"])
def test_what_has_a_name_gives_the_same_in_a_program_of_double_precision(optimizer):
    def losses():
        return tutelage.evaluate([optimizer], ["fully-connected-noisy-sparse"], num_steps=100, num_seeds=2)["loss"]

    with jax.enable_x64(True):
        double = losses()
    assert double.to_list() == losses().to_list()


@pytest.mark.parametrize("create", [L2ODM.create, L2OScale.create, AlignedMomentum.create])
def test_single_precision_weights_optimize_double_precision_parameters(create):
    optimizer = create(jax.random.key(0))
    with jax.enable_x64(True):
        losses, params = tutelage.rollout(optimizer, Quadratic(jnp.linspace(-1, 1, 7)), jax.random.key(0), 20)
    assert {leaf.dtype for leaf in jax.tree.leaves((losses, params))} == {jnp.dtype("float64")}
    assert np.isfinite(losses).all()


def test_a_diverged_run_is_shown_not_dropped(tmp_path):
    class Cliff(Quadratic):
        def init(self, key):
            huge = jax.random.bits(key) % 2 == 0
            return jax.tree.map(lambda x: jnp.where(huge, 1e25 * x, x), super().init(key))

    table = tutelage.evaluate({"sgd": SGD}, {"cliff": Cliff(jnp.zeros(7))}, num_steps=200, num_seeds=6)
    (row,) = summarize(table).to_dicts()
    assert 0 < row["diverged"] < 6
    assert row["mean"] is None
    assert describe(row) == f"diverged in {row['diverged']} of 6 seeds"
    plot_curves(table, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5_000
    with pytest.raises(ValueError, match="file, not "):
        plot_curves(table, tmp_path / "curves.jpeg")


class Lowered(Quadratic):
    """Its least loss is -3, or 0."""

    least: float = -3.0

    def sample(self, key):
        return jnp.zeros(7)

    def loss(self, params, batch):
        return jnp.maximum(super().loss(params, batch) - 0.1, 0.0) + self.least


@pytest.mark.parametrize("least", [-3.0, 0.0])
def test_a_loss_without_a_logarithm_is_judged_by_itself(least):
    problem = {"lowered": Lowered(jnp.linspace(-1, 1, 7), least=least)}
    best, table = tutelage.tune("sgd", problem, num_steps=100, num_seeds=2)
    rows = summarize(table).to_dicts()
    ((mean, loss),) = [(row["mean"], row["mean_loss"]) for row in rows if row["optimizer"] == best]
    assert loss == min(row["mean_loss"] for row in rows if not row["diverged"])
    if least < 0:
        assert mean is None
        assert [describe(row) for row in rows if row["optimizer"] == best] == [f"mean loss {loss:.3g}"]
    table = tutelage.evaluate([best], problem, num_steps=200, num_seeds=2)
    (row,) = summarize(table).to_dicts()
    assert (row["mean"], row["deviation"], row["diverged"]) == (None, None, 0)
    assert row["mean_loss"] == least
    (axis,) = curves(table).axes
    assert axis.get_ylabel() == ("loss" if least < 0 else "log of the loss")


def test_the_lowest_come_first_and_those_that_diverged_last():
    def row(name, mean, mean_loss, diverged=0):
        return {"optimizer": name, "mean": mean, "mean_loss": mean_loss, "diverged": diverged}

    rows = [row("once", None, None, 1), row("too", None, None, 1), row("flat", -1.0, 0.5), row("lucky", -9.0, 0.7)]
    assert [each["optimizer"] for each in lowest_first(rows)] == ["lucky", "flat", "once", "too"]
    rows.append(row("zero", None, 0.6))
    assert [each["optimizer"] for each in lowest_first(rows)] == ["flat", "zero", "lucky", "once", "too"]


def test_summary_is_the_mean_of_logs():
    rows = [("a", "q", "test", seed, step, loss, 0.1) for seed, last in ((0, 1.0), (1, np.e)) for step, loss in
            ((100, 9.0), (200, last))]  # fmt: skip
    table = pl.DataFrame(
        rows, schema=["optimizer", "optimizee", "split", "seed", "step", "loss", "seconds"], orient="row"
    )
    (row,) = summarize(table).to_dicts()
    assert row["mean"] == pytest.approx(0.5)
    assert row["deviation"] == pytest.approx(np.sqrt(0.5))
    assert row["seconds_per_step"] == pytest.approx(0.4 / 400)


def test_tuning_finds_the_best_rate_and_never_an_edge():
    best, table = tutelage.tune("sgd", {"bowl": flat_bowl("test")}, num_steps=100, num_seeds=2)
    assert table["optimizee"].unique().to_list() == ["bowl"]
    assert best == "sgd:learning_rate=1000"  # five decades from where it begins
    means = {row["optimizer"]: row["mean"] for row in summarize(table).to_dicts()}
    assert means[best] == min(m for m in means.values() if m is not None)
    for rate in (100, 300, 3000, 10000):
        mean = means[f"sgd:learning_rate={rate}"]
        assert mean is None or mean > means[best]
    assert "sgd:learning_rate=0.0003" not in means, "tried what lies on the other side"


def test_tuning_reports_how_many_rates_are_done_and_known_to_be_needed():
    reports = []
    _, table = tutelage.tune(
        "sgd", "tests.evaluation.test_evaluation:flat_bowl", num_steps=200, num_seeds=1, report=reports.append
    )
    rates = table["optimizer"].n_unique()
    done = [report.finished_pairs + report.finished_windows / report.total_windows for report in reports]
    np.testing.assert_allclose(done, np.arange(1, 2 * rates + 1) / 2)  # two windows each
    needed = [report.total_pairs for report in reports]
    assert needed == sorted(needed)
    assert (needed[0], needed[-1]) == (5, rates)


class Bowl(Quadratic):
    def sample(self, key):
        return jnp.zeros(7)

    def loss(self, params, batch):
        return 1e-3 * super().loss(params, batch) + 1e-9


def flat_bowl(split):
    return Bowl(jnp.zeros(7))


def test_the_grid_has_two_values_a_decade():
    assert [rate_at(position) for position in range(-4, 4)] == [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]


def test_tuning_says_when_every_rate_diverges():
    with pytest.raises(ValueError, match=r"sgd diverged on .*:nowhere at every learning rate tried"):
        tutelage.tune("sgd", "tests.evaluation.test_evaluation:nowhere", num_steps=100, num_seeds=1)


class Nowhere(Quadratic):
    def sample(self, key):
        return jnp.zeros(7)

    def loss(self, params, batch):
        return jnp.nan * super().loss(params, batch)


def nowhere(split):
    return Nowhere(jnp.zeros(7))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="multiple of 100, not 150"):
        tutelage.evaluate({"sgd": SGD}, {"q": PROBLEM}, num_steps=150)
    with pytest.raises(ValueError, match="1 or more"):
        tutelage.evaluate({"sgd": SGD}, {"q": PROBLEM}, num_steps=100, num_seeds=0)
    with pytest.raises(ValueError, match="at least one optimizer"):
        tutelage.evaluate([], ["mlp-digits"])
    with pytest.raises(ValueError, match="a list of names of optimizers"):
        tutelage.evaluate("tutelage-1", ["mlp-digits"])
    with pytest.raises(ValueError, match="a list of names of optimizees"):
        tutelage.evaluate(["tutelage-1"], "mlp-digits")
    with pytest.raises(ValueError, match="leave it out"):
        tutelage.tune("adam:learning_rate=0.1", "mlp-digits")
    with pytest.raises(ValueError, match="the name of one optimizee"):
        tutelage.tune("adam", {"one": PROBLEM, "other": PROBLEM})


def test_names_and_what_they_name_in_one_dictionary():
    mixed = {"mine": SGD, "theirs": "sgd:learning_rate=0.1"}
    table = tutelage.evaluate(mixed, {"quadratic": PROBLEM, "digits": "mlp-digits"}, num_steps=100, num_seeds=1)
    named = tutelage.evaluate(["sgd:learning_rate=0.1"], ["mlp-digits"], num_steps=100, num_seeds=1)
    assert table.select("optimizee", "optimizer").rows() == [(p, o) for p in ("quadratic", "digits") for o in mixed]
    assert table["loss"][-1] == named["loss"].item()
    with pytest.raises(ValueError, match=r'"small-problems" are \d+ optimizees: name one of them'):
        tutelage.evaluate(mixed, {"all": "small-problems"}, num_steps=100)


@pytest.mark.usefixtures("unchecked_types")
def test_what_is_of_another_type_is_told_of():
    with pytest.raises(ValueError, match=r"The number of steps must be an integer, not 1000\.0"):
        tutelage.evaluate(["tutelage-1"], ["mlp-digits"], num_steps=1e3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a dictionary of optimizers by name"):
        tutelage.evaluate([SGD], ["mlp-digits"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a dictionary of optimizees by name"):
        tutelage.evaluate(["tutelage-1"], PROBLEM)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a dictionary with one by its name"):
        tutelage.tune("adam", PROBLEM)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match='"mine" is a float, neither a name nor an optimizer'):
        tutelage.evaluate({"mine": 0.1}, ["mlp-digits"])
    with pytest.raises(ValueError, match='"q" is a dict, neither a name nor a tutelage Optimizee'):
        tutelage.evaluate({"mine": SGD}, {"q": {}})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"store is of type .*EvaluationStore.*, not 'kept'"):
        tutelage.evaluate(["tutelage-1"], ["mlp-digits"], store="kept")  # pyright: ignore[reportArgumentType]
    for problem in ("mlp-digits", "rosenbrock"):
        with pytest.raises(ValueError, match="split is one of train, test, not 'validation'"):
            tutelage.evaluate(["tutelage-1"], [problem], split="validation")  # pyright: ignore[reportArgumentType]


def test_published_weights_show_the_published_beginning(oracle, mnist, tmp_path):
    # about -1.6 at 1,000 steps, in the protocol's evaluation on the test images
    oracle("l2o_dm")
    weights = str(Path(os.environ["TUTELAGE_ORACLE"]) / "l2o_dm.npz")
    out = subprocess.run(
        [sys.executable, "-m", "tutelage", "evaluate", weights, "--steps", "1000", "--seeds", "1", "--json"],
        env=os.environ | {"XLA_FLAGS": A_LITTLE},  # 1,000 steps
        capture_output=True,
        check=True,
    ).stdout
    (row,) = json.loads(out)["results"]
    assert row["mean"] == pytest.approx(-1.6, abs=0.4)
