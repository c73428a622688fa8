import math

import numpy as np
import pytest

from tests.tables import table
from tutelage.experiments.claims import judge_claims
from tutelage.experiments.experiment import Claim, Experiment
from tutelage.training import recipe


def verdict(claim, results, steps=None):
    taught = {name: recipe("l2o-dm", "plain") for name in ("a", "b", "c")}
    experiment = Experiment("x", "x", ("mlp-orig",), taught, claims=(claim,))
    (found,) = judge_claims(experiment, results, steps or {})
    return found


@pytest.mark.parametrize(
    ("better", "outcome"),
    [
        ([-5.0, -4.0, -6.0, -5.5], "holds"),
        ([-1.0, -0.5, -2.0, -1.2], "does not hold"),
        ([-3.0, -2.0, -4.5, -3.0], "undecided"),
        ([-3.0, -2.2, -4.0, -3.4], "does not hold"),  # the same losses, as of the same weights
    ],
)
def test_paired_by_seed(better, outcome):
    found = verdict(Claim("s", "a", ("b",)), table(a=better, b=[-3.0, -2.2, -4.0, -3.4]))
    assert (found.outcome, found.on) == (outcome, "mlp-orig")


def test_pairs_decide_what_spread_between_seeds_would_hide():
    base = np.asarray([-1.0, -5.0, -9.0])
    assert verdict(Claim("s", "a", ("b",)), table(a=base - 0.1 - 0.001 * base, b=base)).outcome == "holds"


def test_of_several_the_best_is_to_be_beaten():
    results = table(a=[-3.0, -3.1, -3.2], b=[-1.0, -1.1, -1.3], c=[-4.0, -4.1, -4.3])
    found = verdict(Claim("s", "a", ("b", "c")), results)
    assert found.outcome == "does not hold"
    assert found.measured.startswith("a against c")


def test_one_seed_decides_nothing():
    assert verdict(Claim("s", "a", ("b",)), table(a=[-3.0], b=[-1.0])).outcome == "undecided"


def test_diverged_runs_lose():
    diverging, steady = [math.inf] * 5, [-1.0] * 5
    results = table(a=diverging, b=steady)
    assert verdict(Claim("s", "a", ("b",)), results).outcome == "does not hold"
    assert verdict(Claim("s", "b", ("a",)), results).outcome == "holds"
    both = table(a=diverging, b=diverging)
    assert verdict(Claim("s", "a", ("b",)), both).outcome == "undecided"
    # one pair in five is not enough either way
    once = table(a=[-1.0] * 4 + [math.inf], b=[-1.0] * 5)
    assert verdict(Claim("s", "a", ("b",)), once).outcome == "undecided"


def test_training_steps():
    claim = Claim("s", "a", ("b",), measure="training steps", factor=14.0)
    assert verdict(claim, table(a=[0.0]), {"a": 100, "b": 1400}).outcome == "holds"
    assert verdict(claim, table(a=[0.0]), {"a": 101, "b": 1400}).outcome == "does not hold"


def test_what_is_not_there_yet_is_said():
    found = verdict(Claim("s", "a", ("b", "c")), table(a=[-3.0, -3.1], b=[-1.0, -1.2]))
    assert (found.outcome, found.measured) == ("unfinished", "without c so far")
    found = verdict(Claim("s", "a", ("b",), measure="training steps"), table(a=[0.0]), {"a": 100})
    assert (found.outcome, found.measured) == ("unfinished", "without b so far")


def test_claims_on_some_optimizees_are_not_judged_on_others():
    elsewhere = Claim("s", "a", ("b",), on=("mlp-relu",))
    taught = {name: recipe("l2o-dm", "plain") for name in ("a", "b")}
    results = table(a=[-3.0], b=[-1.0])
    for on, verdicts in ((("mlp-relu", "mlp-orig"), 0), (("mlp-relu",), 1)):
        experiment = Experiment("x", "x", on, taught, claims=(elsewhere,))
        assert len(judge_claims(experiment, results, {})) == verdicts
