import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tutelage import cli
from tutelage.experiments.experiment_file import load_experiment
from tutelage.experiments.parts import Place
from tutelage.experiments.plan import make_plan
from tutelage.experiments.scale import SCALES
from tutelage.optimizees import expand
from tutelage.training import ImitationSettings, TrainingConfig, recipe, technique
from tutelage.weights import find_weights

EXAMPLE = Path(__file__).parents[2] / "examples" / "comparison.toml"
HEAD = 'title = "t"\non = "mlp-digits"\n'
TAUGHT = '[taught]\na = { optimizer = "rnnprop", technique = "plain" }\n'
CLAIM = '[[claims]]\nsays = "s"\nbetter = "a"\nworse = "adam"\n'


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_the_least_that_an_experiment_needs(tmp_path):
    experiment = load_experiment(write(tmp_path, HEAD + TAUGHT))
    assert (experiment.name, experiment.heading, experiment.on) == ("mine", "t", ("mlp-digits",))
    assert experiment.taught == {"a": recipe("rnnprop", "plain")}


def test_names_stand_alone_or_in_lists(tmp_path):
    text = HEAD.replace('"mlp-digits"', '["mlp-digits", "bowl"]') + TAUGHT + '[tuned]\nadam = "adam"\n' + CLAIM
    experiment = load_experiment(write(tmp_path, text + 'on = "bowl"\n'))
    assert (experiment.claims[0].worse, experiment.claims[0].on) == (("adam",), ("bowl",))


def test_a_group_of_optimizees_stands_for_all_of_it(tmp_path):
    experiment = load_experiment(write(tmp_path, HEAD.replace("mlp-digits", "small-problems") + TAUGHT))
    assert experiment.on == expand(["small-problems"])


def test_an_unroll_leaves_the_validation_that_was_set(tmp_path):
    for setting, expected in (("", 60), (", validate_after = 200", 200)):
        text = HEAD + TAUGHT.replace(" }", f", unroll = 60{setting} }}")
        schedule = load_experiment(write(tmp_path, text)).taught["a"].technique.schedule
        assert (schedule.unroll_lengths, schedule.validation_lengths) == ((60,), (expected,))


def test_stages_of_a_curriculum_may_be_ones_own(tmp_path):
    text = HEAD + TAUGHT.replace('"plain"', '"cl", unroll = [60, 100, 400]')
    schedule = load_experiment(write(tmp_path, text)).taught["a"].technique.schedule
    assert schedule == replace(
        technique("cl", optimizer="rnnprop").schedule,
        unroll_lengths=(60, 100, 400),
        validation_lengths=(100, 400, 400),
    )


def test_teachers_are_one_or_several(tmp_path):
    for given, expected in (('"rnnprop"', ("rnnprop",)), ('["rnnprop", "l2o-dm"]', ("rnnprop", "l2o-dm"))):
        text = HEAD + TAUGHT.replace('"plain"', f'"il", teachers = {given}, imitation_ratio = 1.0')
        imitation = load_experiment(write(tmp_path, text)).taught["a"].technique.imitation
        assert imitation == ImitationSettings((1.0,), expected)


def test_settings_of_training(tmp_path):
    line = 'b = { optimizer = "l2o-dm", technique = "plain", on = "mlp-digits", num_tasks = 4, until = [10, 20] }\n'
    like = 'c = { like = "tutelage-1" }\nd = { like = "tutelage-1", seed = 5, on = "mlp-digits" }\n'
    experiment = load_experiment(write(tmp_path, HEAD + TAUGHT + line + like))
    whole = recipe("l2o-dm", "plain", on=("mlp-digits",), num_tasks=4, max_epochs=20)
    assert experiment.taught["b-20"] == whole
    assert experiment.continues == {"b-20": "b-10"}
    assert experiment.taught["c"] == TrainingConfig.of_weights(find_weights("tutelage-1"))
    assert experiment.taught["d"] == replace(experiment.taught["c"], seed=5, on=("mlp-digits",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + TAUGHT + "[[", r"mine.toml is not valid TOML: .*end of document"),
        ('on = "mlp-digits"\n' + TAUGHT, "an experiment needs title"),
        (HEAD, "an experiment needs taught"),
        (HEAD.replace('"mlp-digits"', "[]") + TAUGHT, "needs an optimizee"),
        (HEAD + "[taught]\n", "needs an optimizee in `on` and an optimizer in .taught."),
        (HEAD + 'claim = "a"\n' + TAUGHT, 'no setting of an experiment called "claim"; did you mean claims'),
        (HEAD.replace("digits", "digit") + TAUGHT, 'no optimizee "mlp-digit"; did you mean mlp-digits'),
        (HEAD + TAUGHT.replace("rnnprop", "rnnpro"), 'no learned optimizer "rnnpro"; did you mean rnnprop'),
        (HEAD + TAUGHT.replace("rnnprop", "nowhere:create"), "cannot be imported"),
        (HEAD + TAUGHT.replace("a =", '"../a" ='), r'"\.\./a" is to be part of a folder'),
        (HEAD + TAUGHT.replace("plain", "plane"), 'no technique "plane"'),
        (HEAD + TAUGHT.replace("technique", "techniq"), 'no setting of the training of a called "techniq"'),
        (HEAD + TAUGHT.replace(', technique = "plain"', ""), "the training of a needs technique"),
        (HEAD + TAUGHT.replace(" }", ", num_tasks = 0 }"), "num_tasks must be greater than 0"),
        (HEAD + TAUGHT.replace(" }", ', on = "mlp-orgi" }'), 'no optimizee "mlp-orgi"'),
        (
            HEAD + '[taught]\na = { like = "tutelage-1", technique = "cl" }\n',
            'no setting of the training of a called "technique"',
        ),
        (HEAD + '[taught]\na = { like = "tutelage-0" }\n', 'no optimizer in the zoo "tutelage-0"'),
        (HEAD + TAUGHT + '[tuned]\nadma = "adma"\n', 'no hand-designed optimizer "adma"'),
        (HEAD + TAUGHT + '[tuned]\nx = "adam:learning_rate=0.1"\n', "leave it out of adam:learning_rate=0.1"),
        (HEAD + TAUGHT + '[tuned]\na = "adam"\n', 'two optimizers called "a"'),
        (HEAD + TAUGHT + CLAIM, 'no optimizer in this experiment "adam"'),
        (HEAD + TAUGHT + CLAIM.replace("says", "said"), 'no setting of a claim called "said"'),
        (HEAD + TAUGHT + CLAIM.replace('"adam"', '"a"\non = "bowl"'), 'no optimizee in this experiment "bowl"'),
        (
            HEAD + TAUGHT + CLAIM.replace('"adam"', '"a"\nmeasure = "loss"'),
            "measure of a claim is one of final loss, training steps, not",
        ),
        (HEAD + "taught = 3\n", r"mine.toml: taught of an experiment is of type dict, not 3\."),
        (HEAD + '[taught]\na = "rnnprop"\n', "the training of a is a table of settings, not 'rnnprop'"),
        ("claims = [3]\n" + HEAD + TAUGHT, r"a claim is a table of settings, not 3\."),
        (HEAD.replace('"t"', "3") + TAUGHT, r"title of an experiment is of type str, not 3\."),
        (HEAD.replace('"mlp-digits"', '["bowl", 3]') + TAUGHT, r"on of an experiment is of type str \| list"),
        (HEAD + TAUGHT.replace('"rnnprop"', "1.5"), r"optimizer of the training of a is of type str, not 1\.5"),
        (
            HEAD + TAUGHT.replace(" }", ", num_tasks = 1.5 }"),
            "num_tasks of the training of a is of type int",
        ),
        (
            HEAD + TAUGHT.replace(" }", ", unroll = '100' }"),
            "unroll of the training of a is of type int | list[int], not '100'",
        ),
        (
            HEAD + TAUGHT.replace(" }", ", until = [20, 10] }"),
            "until of a is rising numbers of epochs, at least",
        ),
        (HEAD + TAUGHT + "[tuned]\nadam = 0.1\n", "tuned of an experiment is of type dict.str, str., not"),
        (HEAD + TAUGHT + "[published.a]\nmlp-digits = '-3'\n", "published of an experiment is of type dict"),
        (HEAD + TAUGHT + CLAIM.replace('"adam"', '"a"\nfactor = "2"'), "factor of a claim is of type float, not '2'"),
        (HEAD + TAUGHT + CLAIM.replace('"adam"', "[]"), 'The claim "s" needs an optimizer in `worse`'),
        (HEAD + TAUGHT + "[published.a]\nbowl = 1.0\n", 'no optimizee in this experiment "bowl"'),
        (
            HEAD + TAUGHT + '[tuned]\nadam = "adam"\n' + CLAIM + 'measure = "training steps"\n',
            'no taught optimizer in this experiment "adam"',
        ),
    ],
)
def test_what_describes_no_experiment_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_experiment(write(tmp_path, text))


def test_files_that_cannot_be_taken(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*other.toml"):
        load_experiment(str(tmp_path / "other.toml"))
    for taken in ("fig2", "all"):
        (tmp_path / f"{taken}.toml").write_text(HEAD + TAUGHT)
        with pytest.raises(ValueError, match=f"{taken} is a name of ours"):
            load_experiment(str(tmp_path / f"{taken}.toml"))
    with pytest.raises(ValueError, match='no experiment "beyon"; did you mean beyond'):
        load_experiment("beyon")


def test_another_text_of_ones_own_module_is_another_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    folders = set()
    for text in ("from tutelage.optimizers import L2ODM\ncreate = L2ODM.create\n", "create = None\n"):
        (tmp_path / "mine_of_one_day.py").write_text(text)
        folders.add(Place(tmp_path).run_directory("x", recipe("mine_of_one_day:create", "plain")))
        sys.modules.pop("mine_of_one_day")
    assert len(folders) == 2


def test_the_example_from_file_to_report(tmp_path, monkeypatch):
    monkeypatch.chdir(EXAMPLE.parents[1])
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.setitem(SCALES, "smoke", replace(SCALES["smoke"], num_steps=100, seeds=2))
    assert len(make_plan(load_experiment(str(EXAMPLE)), SCALES["small"]).parts) == 10
    asked = ["reproduce", "examples/comparison.toml", "--scale", "smoke", "--folder", str(tmp_path)]
    assert cli.main(asked) == 0
    report = tmp_path / "reports" / "comparison-smoke"
    page = (report / "index.html").read_text()
    assert "<h2>A learned optimizer of one&#x27;s own, with imitation and without, beside Adam</h2>" in page
    assert page.count("Imitation helps it.") == 2  # on our optimizee and on their own
    about = json.loads((report / "record.json").read_text())
    assert about["command"] == "tutelage reproduce examples/comparison.toml --scale smoke"
    assert set(about["training"]) == {"mine", "mine-without"}
    assert not about["unfinished"]
    (report / "index.html").unlink()
    assert cli.main([*asked, "--report-only"]) == 0
    assert (report / "index.html").read_text() == page
