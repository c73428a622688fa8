import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tomli_w

from tests.problems import Linear, Quadratic
from tutelage.evaluation.rollout import start_rollout
from tutelage.files import alone_in
from tutelage.interop import load_learned
from tutelage.optimizees import optimizee
from tutelage.optimizers import HandDesigned, load_weights
from tutelage.training import (
    ImitationSettings,
    Schedule,
    Technique,
    TrainingConfig,
    recipe,
    technique,
    train,
    trainer,
)
from tutelage.training.augmentation import Augmentation
from tutelage.training.epoch import make_epoch
from tutelage.training.imitation import BlockwiseImitation
from tutelage.training.parallel import training_mesh
from tutelage.training.run_directory import RunDirectory
from tutelage.training.teachers import Teachers
from tutelage.training.technique import RandomLengths, SelfImprovingSettings
from tutelage.training.unroll import BlockwiseUnroll
from tutelage.training.validation import make_validation

SCHEDULE = Schedule((20, 40), (20, 40), period=2, min_periods=2, max_periods=2)
CONFIG = TrainingConfig(Technique(SCHEDULE, ImitationSettings((0.5,))), on=("mlp-digits",), num_validation=2)
MESH = training_mesh(1, cuts_coordinates=True)


def contents(run: Path):
    """Everything of a run that must not depend on how it was interrupted."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"]
    return rows, (run / "optimizer.safetensors").read_bytes()


def meta_steps(run: Path, config: TrainingConfig):
    """How many steps the meta-optimizer had taken by the run's newest checkpoint."""
    problems = {name: optimizee(name) for name in config.on}
    state = trainer._Trainer(RunDirectory(run), config, problems, problems).load()
    return int(optax.tree.get(state.meta_state, "count"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    events = []
    train(run, CONFIG, report=events.append)
    return run, events


def test_a_run_leaves_a_complete_directory(undisturbed):
    run, events = undisturbed
    names = {path.name for path in run.iterdir()}
    assert names == {"config.toml", "metrics.jsonl", "checkpoints", "optimizer.safetensors", "card.md", ".lock"}
    rows, _ = contents(run)
    assert [row for row in rows if "validation_loss" not in row][-1]["epoch"] == events[-1].epoch == 8
    assert sum("validation_loss" in row for row in rows) == 6
    teachers = {row.get("teacher", "") for row in rows if "unroll" in row}
    assert None in teachers
    assert teachers & set(CONFIG.technique.imitation.teachers)
    _, provenance = load_weights(run / "optimizer.safetensors")
    assert provenance["config"]["on"] == ["mlp-digits"]
    assert "| epoch | unroll |" in (run / "card.md").read_text()


@pytest.mark.usefixtures("unchecked_types")
def test_a_technique_by_name_is_no_configuration(tmp_path):
    with pytest.raises(ValueError, match=r"config is of type .*TrainingConfig.*, not 'cl-il'"):
        train(tmp_path / "run", "cl-il")  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "run").exists()


def test_the_configuration_survives_its_file(tmp_path):
    everything = recipe("l2o-scale", "random-lengths-il-self-improving", "as-released", on=("bowl", "mlp-digits"))
    for config in (replace(CONFIG, gradient_clip=0.5, max_epochs=7), everything):
        config.save(tmp_path / "config.toml")
        assert TrainingConfig.load(tmp_path / "config.toml") == config


def test_learning_changes_weights_and_keeps_the_best(undisturbed):
    run, _ = undisturbed
    rows, _ = contents(run)
    best = [row for row in rows if row.get("best")][-1]
    assert load_weights(run / "optimizer.safetensors")[1]["validation_loss"] == best["validation_loss"]


@pytest.mark.parametrize("epochs", [1, 3, 6])
def test_an_interrupted_run_resumes_bit_for_bit(undisturbed, tmp_path, epochs):
    def interrupt(event):
        if event.epoch == epochs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, CONFIG, report=interrupt)
    train(tmp_path, resume=True)
    assert contents(tmp_path) == contents(undisturbed[0])


def test_a_run_is_the_same_in_a_program_of_double_precision(undisturbed, tmp_path):
    with jax.enable_x64(True):
        optimizer = train(tmp_path, CONFIG)
    assert contents(tmp_path) == contents(undisturbed[0])
    assert {leaf.dtype for leaf in jax.tree.leaves(optimizer)} == {jnp.dtype("float32")}


def test_a_killed_run_resumes_bit_for_bit(undisturbed, tmp_path):
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        import jax
        jax.config.update("jax_num_cpu_devices", 2)
        from tests.training.test_trainer import CONFIG
        from tutelage.training import train, trainer
        trainer.CHECKPOINT_SECONDS = 0.0
        run = Path(sys.argv[1])
        resume = (run / "config.toml").exists()
        train(run, None if resume else CONFIG, resume=resume)
        """
    )
    run, random_moment = tmp_path / "run", random.Random(0)
    kills = 0

    def logged() -> int:
        metrics = run / "metrics.jsonl"
        return metrics.stat().st_size if metrics.exists() else 0

    for _ in range(3):
        before = logged()
        process = subprocess.Popen([sys.executable, "-c", script, run], env=os.environ | {"PYTHONPATH": "."})
        started = time.monotonic()
        while process.poll() is None and logged() <= before:
            assert time.monotonic() - started < 120
            time.sleep(0.05)
        time.sleep(random_moment.uniform(0.0, 2.0))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() != 0
    assert kills
    train(run, resume=True)
    assert contents(run) == contents(undisturbed[0])


def test_a_damaged_newest_checkpoint_costs_only_what_came_after_the_one_before(undisturbed, tmp_path):
    def interrupt(event):
        if event.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, CONFIG, report=interrupt)
    newest = max((tmp_path / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for file in newest.rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    train(tmp_path, resume=True)
    assert contents(tmp_path) == contents(undisturbed[0])


def test_nothing_is_overwritten_and_nothing_imaginary_resumed(undisturbed, tmp_path):
    before = contents(undisturbed[0])
    with pytest.raises(FileExistsError, match="--resume"):
        train(undisturbed[0], replace(CONFIG, on=("nowhere:nothing",)))  # told of before anything is looked for
    assert contents(undisturbed[0]) == before
    with pytest.raises(FileNotFoundError, match="no training run"):
        train(tmp_path, resume=True)
    (tmp_path / "config.toml").write_text("seed = 1")
    with pytest.raises(ValueError, match="not a valid training configuration"):
        train(tmp_path, resume=True)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("edited", "message"),
    [
        ({"seed": 1.5}, r"config.toml is not a valid training configuration \(seed is of type int, not 1.5"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, not -1"),
        ({"num_tasks": 2.0}, "num_tasks is of type int, not 2.0"),
        ({"on": "bowl"}, "on is a tuple of at least one optimizee"),
        ({"on": ["bowl", 3]}, "on is of type tuple.str, .*, not .'bowl', 3."),
        ({"objective": "product"}, "objective is one of sum, log, not 'product'"),
        ({"gradient_clip": float("nan")}, "gradient_clip must be greater than 0, not nan"),
        ({"technique": 3}, "not a valid training configuration"),
        ({"technique": {"schedule": {"period": "3"}}}, "not a valid training configuration"),
    ],
)
def test_settings_that_were_edited_wrongly_are_named(tmp_path, edited, message):
    CONFIG.save(tmp_path / "config.toml")
    table = tomllib.loads((tmp_path / "config.toml").read_text())
    (tmp_path / "config.toml").write_text(tomli_w.dumps(table | edited))
    with pytest.raises(ValueError, match=message):
        train(tmp_path, resume=True)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (Schedule, {"unroll_lengths": (40,), "validation_lengths": (40,), "period": "3"}, "period is of type int"),
        (ImitationSettings, {"ratios": (0.5, "1")}, "ratios is of type tuple.float, ..."),
        (SelfImprovingSettings, {"start_probability": float("nan")}, "start probability is from 0 to 1, not nan"),
        (Augmentation, {"random_scaling": float("nan")}, "random scaling is 0 or more, not nan"),
        (RandomLengths, {"length_scale": float("nan")}, "greater than 0"),
        (Technique, {"schedule": SCHEDULE, "imitation": 0.5}, r"imitation is of type .*ImitationSettings \| None"),
    ],
)
def test_parts_of_a_technique_are_of_their_types(kind, wrong, message):
    with pytest.raises(ValueError, match=message):
        kind(**wrong)


def test_a_finished_run_resumes_to_its_end(undisturbed):
    before = contents(undisturbed[0])
    train(undisturbed[0], resume=True)
    assert contents(undisturbed[0]) == before
    assert isinstance(load_learned(undisturbed[0]), type(load_weights(undisturbed[0] / "optimizer.safetensors")[0]))


def test_one_training_at_a_time(undisturbed):
    before = contents(undisturbed[0])
    with alone_in(undisturbed[0], "training"), pytest.raises(BlockingIOError, match="Another training is at work"):
        train(undisturbed[0], resume=True)
    assert contents(undisturbed[0]) == before


def test_a_full_disk_loses_nothing(undisturbed, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(trainer.RunDirectory, "save_checkpoint", full)
        with pytest.raises(OSError, match="No space"):
            train(tmp_path, CONFIG)
    train(tmp_path, resume=True)
    assert contents(tmp_path) == contents(undisturbed[0])


def test_validation_on_another_optimizee(tmp_path):
    config = recipe(
        "rnnprop", "cl", on=("mlp-digits",), validate_on=("bowl",), validate_after=60, num_validation=2, max_epochs=1
    )
    optimizer = train(tmp_path, config)
    assert TrainingConfig.load(tmp_path / "config.toml") == config
    rows = [row for row in contents(tmp_path)[0] if "validation_loss" in row]
    assert [row["validation_steps"] for row in rows] == [60, 60]
    bowl = make_validation([optimizee("bowl")], 2, final_point=False)
    seen = next(row["validation_loss"] for row in reversed(rows) if row["best"])
    assert seen == bowl(optimizer, trainer._Keys(0).validation, 60)
    assert "training split, bowl)" in (tmp_path / "card.md").read_text()


@pytest.mark.parametrize("by", [100.0, 3.0])
def test_where_logarithms_are_taken_losses_below_0_are_refused(by):
    class Lowered(Quadratic):
        def loss(self, params, batch):
            return super().loss(params, batch) - by

    rule, key, lowered = Linear(jnp.float32(-0.1)), jax.random.key(0), Lowered(jnp.linspace(-1, 1, 7))
    assert make_validation([lowered], 2, final_point=False)(rule, key, 100) == pytest.approx(-by, abs=0.5)
    for validate in (
        make_validation([lowered], 2, final_point=False, log_objective=True),
        make_validation([Quadratic(jnp.zeros(7)), lowered], 2, final_point=False),
    ):
        with pytest.raises(ValueError, match="below 0, and the log objective and validation on several take logar"):
            validate(rule, key, 100)


def test_no_optimizee_to_validate_on_is_refused():
    with pytest.raises(ValueError, match="validate_on is a tuple of at least one optimizee"):
        replace(CONFIG, validate_on=())


@pytest.mark.parametrize(
    "settings",
    [
        {"num_tasks": 0},
        {"num_validation": 0},
        {"perturbation": -1.0},
        {"gradient_clip": 0.0},
        {"segment_length": 0},
        {"log_epsilon": 0.0},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match="greater than 0"):
        replace(CONFIG, **settings)


def test_unrolls_that_are_no_whole_number_of_segments_are_refused():
    with pytest.raises(ValueError, match="An unroll is a whole number of segments: 20 steps are none of 40"):
        replace(CONFIG, segment_length=40)
    with pytest.raises(ValueError, match="draws the lengths of its segments: leave segment_length out"):
        recipe(technique_name="random-lengths", segment_length=10)


@pytest.mark.parametrize("imitation", [None, ImitationSettings((1.0,))])
def test_longer_segments_are_fewer_steps_of_the_meta_optimizer(tmp_path, imitation):
    schedule = Schedule((120,), (20,), period=1, min_periods=1, max_periods=1)
    config = TrainingConfig(Technique(schedule, imitation), on=("bowl",), num_validation=2)
    counts = {}
    for length in (None, 20, 60):
        settings, folder = replace(config, segment_length=length), tmp_path / str(length)
        train(folder, settings)
        counts[length] = meta_steps(folder, settings)
    assert counts == {None: 6, 20: 6, 60: 2}


def test_an_imitation_epoch_of_drawn_length_has_as_many_steps(tmp_path):
    schedule = Schedule((100,), (20,), period=1, min_periods=1, max_periods=1)
    config = TrainingConfig(
        Technique(schedule, ImitationSettings((1.0,)), random_lengths=RandomLengths()), on=("bowl",), num_validation=2
    )
    train(tmp_path / "run", config)
    drawn = next(row["unroll"] for row in contents(tmp_path / "run")[0] if "unroll" in row)
    assert meta_steps(tmp_path / "run", config) == drawn // RandomLengths().longest > 1


def test_validations_on_several_tell_how_far_below_epsilon_they_end():
    bowl, rule, key = optimizee("bowl"), Linear(jnp.float32(-0.03)), jax.random.key(0)
    loss = make_validation([bowl], 1, final_point=False)(rule, key, 400)
    start = start_rollout(rule, bowl, jax.random.split(key, 1)[0])
    initial = float(bowl.loss(start.params, bowl.sample(key)))
    assert 1e-12 < loss / initial < 1e-7
    for epsilon, expected in ((1e-6, np.log(1e-6)), (1e-20, np.log(loss / initial))):
        validate = make_validation([bowl, bowl], 2, final_point=False, log_epsilon=epsilon)
        assert validate(rule, key, 400) == pytest.approx(expected, rel=1e-4)


def test_an_epoch_of_any_length_is_compiled_once_and_equals_its_segments():
    problem, rule = Quadratic(jnp.linspace(-1, 1, 7)), Linear(jnp.float32(-0.05))
    meta = optax.adam(1e-3)
    epoch = make_epoch(meta, 1, MESH)
    key, state = jax.random.key(3), meta.init(rule)
    once, _, metrics = epoch(rule, state, BlockwiseUnroll(problem), key, 3)
    longer, _, _ = epoch(rule, state, BlockwiseUnroll(problem), key, 5)
    assert epoch._cache_size() == 1
    assert once.rate != longer.rate
    assert metrics.diverged_tasks == 0
    assert np.isfinite(metrics.mean_loss)


@pytest.mark.parametrize("rate", [-10.0, -1e30])
def test_a_diverged_epoch_leaves_weights_and_meta_state_alone(rate):
    problem, rule = Quadratic(jnp.linspace(-1, 1, 7)), Linear(jnp.float32(rate))
    meta = optax.adam(1e-3)
    state = meta.init(rule)
    after, next_state, metrics = make_epoch(meta, 1, MESH)(rule, state, BlockwiseUnroll(problem), jax.random.key(0), 10)
    assert metrics.diverged_tasks == 1
    assert 0 < metrics.skipped_steps <= 10
    assert np.isfinite(after.rate)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(next_state))
    if rate == -1e30:  # not finite from the first segment on
        assert metrics.skipped_steps == 10
        assert after.rate == rule.rate
        assert next_state[0].count == 0


def test_a_diverging_teacher_is_skipped_too():
    teachers = Teachers((HandDesigned("sgd", learning_rate=1e30),))
    problem, rule = Quadratic(jnp.linspace(-1, 1, 7)), Linear(jnp.float32(-0.05))
    meta = optax.adam(1e-3)
    imitation = BlockwiseImitation(problem, teachers=teachers, chosen=jnp.asarray(0))
    after, _, metrics = make_epoch(meta, 1, MESH)(rule, meta.init(rule), imitation, jax.random.key(0), 2)
    assert metrics.skipped_steps == 2
    assert after.rate == rule.rate


def test_presets_are_the_papers():
    assert technique("plain").schedule.unroll_lengths == (100,)
    assert technique("plain").schedule.min_periods * technique("plain").schedule.period == 5_000
    assert technique("augmented").schedule.unroll_lengths == (1000,)
    assert technique("augmented", "as-released").schedule.unroll_lengths == (500,)
    curriculum = technique("cl").schedule
    assert curriculum.unroll_lengths[:7] == (100, 200, 500, 1000, 1500, 2000, 2500)
    assert curriculum.validation_lengths[:6] == curriculum.unroll_lengths[1:7]
    assert (curriculum.min_periods, curriculum.period) == (3, 100)
    taught = technique("cl-il")
    assert taught.imitation.ratio(0) == taught.imitation.ratio(9) == 0.3
    assert [t.partition(":")[0] for t in taught.imitation.teachers] == ["adam", "sgd", "adagrad"]
    released = technique("cl-il", "as-released").imitation
    assert [released.ratio(stage) for stage in range(4)] == [0.0, 0.1, 0.3, 0.3]
    assert released.own_meta_optimizer
    assert released.mean_over_coordinates
    with pytest.raises(ValueError, match="one of plain, augmented"):
        technique("cl-li")
