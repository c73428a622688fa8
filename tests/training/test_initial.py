"""Training that begins with taught weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import pytest

from tests.interop.test_loading import archive
from tests.training.test_trainer import contents
from tutelage import cli
from tutelage.experiments.experiment_file import load_experiment
from tutelage.experiments.parts import Place
from tutelage.interop import load_learned
from tutelage.optimizers import L2ODM, save_weights
from tutelage.training import recipe, train

GENTLE = recipe(
    "l2o-dm", "plain", unroll=20, validate_every=1, on=("mlp-digits",), num_validation=2, max_epochs=1
)  # fmt: skip


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
