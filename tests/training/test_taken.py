"""Training that begins with taught weights, or has taught teachers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from tests.interop.test_loading import archive
from tests.training.test_trainer import contents
from tutelage import cli
from tutelage.experiments.experiment_file import load_experiment
from tutelage.experiments.parts import Place
from tutelage.interop import load_learned
from tutelage.optimizees import optimizee
from tutelage.optimizers import L2ODM, save_weights
from tutelage.training import recipe, train, trainer
from tutelage.training.taken import taught_with

SHORT = {"unroll": 20, "validate_every": 1, "on": ("mlp-digits",), "num_validation": 2, "max_epochs": 1}
GENTLE = recipe("l2o-dm", "plain", **SHORT)


def begun_with(weights: str | Path):
    return replace(GENTLE, initial_weights=str(weights))


def test_training_begins_with_the_weights_named(tmp_path):
    still = replace(begun_with("l2o-dm"), meta_optimizer="sgd:learning_rate=1e-30")
    assert eqx.tree_equal(train(tmp_path / "run", still), load_learned("l2o-dm"))
    other = train(tmp_path / "other", begun_with("l2o-dm"))
    before, _, after = contents(tmp_path / "other")[0]
    assert before == contents(tmp_path / "run")[0][0]
    assert after["best"] == (not eqx.tree_equal(other, load_learned("l2o-dm")))
    assert "seed 0, begun with the weights of l2o-dm." in (tmp_path / "run" / "card.md").read_text()


def test_training_that_makes_them_worse_ends_with_them(tmp_path):
    spoiling = replace(begun_with("l2o-dm"), meta_optimizer="adam:learning_rate=10")
    assert eqx.tree_equal(train(tmp_path / "run", spoiling), load_learned("l2o-dm"))


def test_a_run_goes_on_without_the_file_that_it_began_with(tmp_path):
    given = tmp_path / "given.safetensors"
    save_weights(given, L2ODM.create(jax.random.key(5)), "l2o-dm", {})
    train(tmp_path / "whole", begun_with(given))
    given.unlink()
    (tmp_path / "killed").mkdir()
    for name in ("config.toml", "initial.safetensors"):  # before its first checkpoint
        shutil.copy(tmp_path / "whole" / name, tmp_path / "killed" / name)
    train(tmp_path / "killed", resume=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_run_is_taught_again_with_the_copies_that_it_has_kept(tmp_path):
    taken = tmp_path / "taken.safetensors"
    save_weights(taken, L2ODM.create(jax.random.key(5)), "l2o-dm", {})
    learned = {"teachers": (str(taken), "sgd:learning_rate=0.01"), "initial_weights": str(taken)}
    config = recipe("l2o-dm", "il-self-improving", imitation_ratio=0.5, **learned, **SHORT | {"max_epochs": 3})
    first = train(tmp_path / "first", config)
    taken.unlink()
    again = taught_with(tmp_path / "first" / "optimizer.safetensors")
    assert eqx.tree_equal(train(tmp_path / "second", again), first)
    losses = [
        [row.get("mean_loss", row.get("validation_loss")) for row in contents(tmp_path / run)[0]]
        for run in ("first", "second")
    ]
    assert losses[0] == losses[1]
    assert again.technique.teachers[1] == "sgd:learning_rate=0.01"
    alone = shutil.copy(tmp_path / "first" / "optimizer.safetensors", tmp_path / "alone.safetensors")
    assert taught_with(Path(alone)) == config


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ("tutelage-1", ValueError, "tutelage-1 holds weights of aligned-momentum, with which l2o-dm cannot begin"),
        ("l2o-dn", ValueError, 'no optimizer in the zoo "l2o-dn"; did you mean l2o-dm'),
        ("no/weights.safetensors", FileNotFoundError, "There is no file or folder no/weights"),
    ],
)
def test_weights_that_it_cannot_begin_with(tmp_path, weights, error, message):
    with pytest.raises(error, match=message):
        train(tmp_path / "run", begun_with(weights))
    assert not (tmp_path / "run").exists()


def test_the_command_trains_what_the_weights_are_of(capsys, tmp_path):
    archive(tmp_path / "published.npz")
    short = ["--technique", "plain", "--unroll", "20", "--validate-after", "40", "--validate-every", "1", "--json"]
    short += ["--max-epochs", "1", "--num-validation", "2", "--on", "mlp-digits"]
    for weights, architecture in (("tutelage-1", "aligned-momentum"), (tmp_path / "published.npz", "l2o-dm")):
        run = tmp_path / architecture
        assert cli.main(["train", str(run), "--initial-weights", str(weights), *short]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row.get("unroll", row.get("validation_steps")) for row in rows] == [40, 20, 40]
        assert eqx.tree_equal(load_learned(run / "initial.safetensors"), load_learned(weights))
        assert f'optimizer = "{architecture}"' in (run / "config.toml").read_text()


def test_other_weights_are_another_run_of_an_experiment(tmp_path):
    given, folders = tmp_path / "given.safetensors", set()
    for seed in (1, 2, 2):
        save_weights(given, L2ODM.create(jax.random.key(seed)), "l2o-dm", {})
        folders.add(Place(tmp_path).run_directory("x", begun_with(given)))
    assert len(folders) == 2


def test_an_experiment_whose_weights_are_not_there_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    training = '{ optimizer = "l2o-dm", technique = "plain", initial_weights = "no/weights.safetensors" }'
    path.write_text(f'title = "t"\non = "mlp-digits"\n[taught]\na = {training}\n')
    with pytest.raises(ValueError, match=r"mine\.toml: There is no file or folder no/weights"):
        load_experiment(str(path))


@pytest.mark.parametrize("student", ["l2o-dm", "aligned-momentum"])
@pytest.mark.parametrize("teacher", ["rnnprop", "tutelage-1"])
def test_a_taught_optimizer_teaches_as_it_optimizes(tmp_path, student, teacher):
    """The teacher's own losses, from the same starts and batches, whoever follows it; layouts of tensors included."""
    train(tmp_path / "run", recipe(student, "il", teachers=(teacher,), imitation_ratio=1.0, **SHORT))
    row = contents(tmp_path / "run")[0][1]
    problem, optimizer = optimizee("mlp-digits"), load_learned(teacher)
    assert row["teacher"] == teacher
    key = trainer._Keys(0).of_epoch(0)[0]
    segment, task = (jax.random.fold_in(jax.random.fold_in(key, index), 0) for index in (0, 1))
    params = problem.init(task)
    state, losses = optimizer.init(params), []
    for step in jax.random.split(segment, 21)[:20]:
        loss, gradient = jax.value_and_grad(problem.loss)(params, problem.sample(step))
        updates, state = optimizer.update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        losses.append(float(loss))
    assert row["mean_loss"] == pytest.approx(sum(losses) / 20, rel=1e-5)
    assert eqx.tree_equal(load_learned(tmp_path / "run" / "teacher-0.safetensors"), optimizer)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("tutelage-2", "tutelage-2 follows a schedule, so it cannot be a teacher"),
        ("rnnprob", 'no optimizer in the zoo "rnnprob"; did you mean rnnprop'),
        ("adma:learning_rate=0.1", 'no hand-designed optimizer "adma"; did you mean adam'),
        ("adam", "adam needs a learning rate"),
    ],
)
def test_what_cannot_teach_is_refused_before_there_is_a_folder(tmp_path, teacher, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", recipe("l2o-dm", "self-improving", teachers=(teacher,), **SHORT))
    assert not (tmp_path / "run").exists()


def test_self_improving_from_a_taught_optimizer(tmp_path):
    train(tmp_path / "run", recipe("l2o-dm", "self-improving", teachers=("tutelage-1", "l2o-dm"), **SHORT))
    assert contents(tmp_path / "run")[0][1]["gradient_norm"] > 0
    assert {path.name for path in (tmp_path / "run").glob("teacher-*")} == {
        "teacher-0.safetensors",
        "teacher-1.safetensors",
    }
