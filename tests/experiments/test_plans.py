from dataclasses import replace

import pytest

from tutelage.experiments.experiment_file import experiment_names, load_experiment
from tutelage.experiments.parts import Place, Teach, needed
from tutelage.experiments.plan import make_plan
from tutelage.experiments.scale import SCALES, Scale
from tutelage.optimizees import expand
from tutelage.training import TrainingConfig, recipe
from tutelage.weights import find_weights

PAPERS = ("fig2", "fig3", "fig4", "fig5", "fig6", "fig7a", "fig7b", "fig7c", "fig7d", "cost")


def test_the_papers_experiments_are_there():
    assert set(PAPERS) <= set(experiment_names())


@pytest.mark.parametrize("scale", SCALES)
def test_equal_titles_are_equal_parts(scale):
    parts = {part for name in experiment_names() for part in make_plan(load_experiment(name), SCALES[scale]).parts}
    assert len({part.title for part in parts}) == len(parts)


@pytest.mark.parametrize("name", experiment_names())
def test_optimizees_exist_and_needs_come_first(name):
    experiment = load_experiment(name)
    assert expand(experiment.on) == experiment.on
    parts = make_plan(experiment, SCALES["paper"]).parts
    for position, part in enumerate(parts):
        before = needed(part)
        assert before is None or before in parts[:position]
        assert part.seconds > 0


@pytest.mark.parametrize(
    ("optimizer", "technique"),
    [("l2o-dm", "plain"), ("rnnprop", "cl-il"), ("l2o-scale", "il"), ("l2o-dm", "augmented")],
)
def test_the_papers_scale_changes_no_training(optimizer, technique):
    config = recipe(optimizer, technique)
    assert SCALES["paper"].training(config) == config


def test_small_scale_spares_what_is_short():
    small = SCALES["small"]
    assert small.training(recipe("rnnprop", "cl-il")) == recipe("rnnprop", "cl-il")
    schedule = small.training(recipe("l2o-dm", "plain")).technique.schedule
    assert (schedule.period, schedule.min_periods, schedule.max_periods) == (10, 50, 50)
    curriculum = small.training(recipe("l2o-dm", "cl")).technique.schedule
    assert (curriculum.period, curriculum.min_periods, curriculum.max_periods) == (10, 3, None)


def test_small_scale_limits_the_steps_of_long_unrolls():
    schedule = SCALES["small"].training(recipe("l2o-dm", "augmented")).technique.schedule
    assert (schedule.unroll_lengths, schedule.period, schedule.max_periods) == ((1000,), 10, 15)
    (*_, before, last) = make_plan(load_experiment("fig4"), SCALES["small"]).teach
    assert (last.name, before.config.max_epochs, last.config.max_epochs) == ("unroll-1000-5000", 120, 150)
    assert last.config.technique.schedule.max_periods == 15
    few = replace(recipe("l2o-dm", "augmented"), max_epochs=1)
    assert SCALES["small"].training(few).max_epochs == 1


def test_fewer_seeds_where_they_are_dear():
    scale = Scale(seeds=5, num_steps=100, tuning_seeds=4, fewer_seeds={"nas-cifar": 3})
    assert (scale.seeds_on("nas-cifar"), scale.seeds_on("lenet")) == (3, 5)
    assert (scale.tuning_seeds_on("nas-cifar"), scale.tuning_seeds_on("lenet")) == (3, 4)


def test_fewer_steps_where_they_are_dear():
    scale = Scale(seeds=5, num_steps=10_000, tuning_seeds=4, fewer_steps={"conv-mnist": 300})
    for figure, num_steps in (("fig7a", 10_000), ("fig7b", 300)):
        plan = make_plan(load_experiment(figure), scale)
        assert {part.num_steps for part in (*plan.judge, *plan.baselines)} == {num_steps}
        cosine = [part.optimizer for part in plan.baselines if "cosine_steps" in part.optimizer]
        assert cosine == [f"adam:cosine_steps={num_steps}"]


def test_an_optimizer_of_the_zoo_is_taught_again():
    teach = make_plan(load_experiment("beyond"), SCALES["small"]).teach
    for name, part in zip(("tutelage-1", "tutelage-2"), teach, strict=True):
        assert part.config == TrainingConfig.of_weights(find_weights(name))


def test_longer_training_goes_on_from_shorter():
    plan = make_plan(load_experiment("fig4"), SCALES["small"])
    chain = [part for part in plan.teach if part.name.startswith("unroll-200-")]
    assert [part.config.max_epochs for part in chain] == [100, 200, 300, 400, 500]
    assert [part.after for part in chain] == [None, *chain[:-1]]


def test_another_setting_is_another_folder(tmp_path):
    place, config = Place(tmp_path), recipe("l2o-dm", "plain")
    folders = {place.run_directory("x", config), place.run_directory("x", recipe("l2o-dm", "plain", seed=1))}
    assert len(folders) == 2
    assert place.run_directory("x", recipe("l2o-dm", "plain")) in folders


def test_a_continued_run_is_the_longer_run(tmp_path):
    """Bit for bit: the weights after 2 and then 2 more epochs are those of 4 at once."""
    config = SCALES["smoke"].training(recipe("l2o-dm", "plain", on=("mlp-digits",)))
    schedule = replace(config.technique.schedule, min_periods=9, max_periods=9)
    config = replace(config, technique=replace(config.technique, schedule=schedule))
    place = Place(tmp_path)
    first = Teach("first", replace(config, max_epochs=2))
    second = Teach("second", replace(config, max_epochs=4), after=first)
    whole = Teach("whole", replace(config, max_epochs=4))
    runs = [part.run(place, lambda share, where: None) for part in (first, second, whole)]
    weights = [(run.folder / "optimizer.safetensors").read_bytes() for run in runs]
    assert weights[1] == weights[2] != weights[0]
    assert [(run.log.epochs, run.log.inner_steps) for run in runs] == [(2, 40), (4, 80), (4, 80)]
