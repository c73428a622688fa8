import math

import numpy as np
import polars as pl
import pytest

from tests.tables import table
from tutelage.evaluation import compare, confidence_interval


def test_one_with_each_of_the_others_on_each_optimizee():
    results = pl.concat(
        [
            table("mlp-orig", a=[-3.0, -3.1, -3.2], b=[-1.0, -1.1, -1.3], c=[-4.0, -4.1, -4.3]),
            table("mlp-relu", b=[-1.0, -1.1], a=[-1.2, -1.0]),
            table("mlp-deeper", b=[-1.0]),
        ]
    )
    rows = compare(results, "a")
    pairs = rows.select("optimizer", "than", "optimizee", "ends_lower").rows()
    assert pairs == [
        ("a", "b", "mlp-orig", "yes"),
        ("a", "c", "mlp-orig", "no"),
        ("a", "b", "mlp-relu", "undecided"),
    ]
    np.testing.assert_allclose(rows["difference"], [-5.9 / 3, 3.1 / 3, -0.05], rtol=1e-12)
    # Student's t with two degrees of freedom: 4.3027 times 0.057735 / sqrt(3) on either side of -1.9667
    assert rows["measured"][0] == "difference -1.97, from -2.11 to -1.82 (3 seeds)"
    assert compare(results.filter(optimizer="a"), "a").is_empty()


def test_runs_of_another_length_or_split_are_not_compared():
    results = table("mlp-orig", a=[-1.0, -1.1, -1.2], b=[-0.5, -0.5, -0.5])
    longer = results.filter(optimizer="b").with_columns(step=pl.lit(200, pl.Int64))
    (row,) = compare(pl.concat([results.filter(optimizer="a"), longer]), "a").to_dicts()
    assert (row["ends_lower"], row["measured"]) == ("undecided", "no runs of the same seed and length")
    train = results.with_columns(split=pl.lit("train"), loss=pl.when(optimizer="b").then("loss").otherwise(1.0))
    rows = compare(pl.concat([results, train]), "a")
    assert rows.select("split", "ends_lower").rows() == [("test", "yes"), ("train", "no")]


def test_seeds_that_only_one_has_do_not_count():
    results = table("mlp-orig", a=[-1.0, -1.1, -1.2, -90.0], b=[-0.5, -0.5, -0.5])
    (row,) = compare(results, "a").to_dicts()
    assert row["difference"] == pytest.approx(-0.6)
    assert row["measured"].endswith("(3 seeds)")
    apart = pl.concat([results.filter(optimizer="b"), results.filter(optimizer="a", seed=3)])
    (row,) = compare(apart, "a").to_dicts()
    assert (row["ends_lower"], row["measured"]) == ("undecided", "no runs of the same seed and length")


def test_a_run_that_diverged_loses_and_leaves_no_difference():
    results = table("mlp-orig", a=[-1.0] * 5, b=[math.inf] * 4 + [-2.0])
    (row,) = compare(results, "a").to_dicts()
    assert row["ends_lower"] == "undecided"
    assert row["measured"] == "better in 4 of 5 seeds, worse in 1 (diverged: 0 of the former and 4 of the latter)"
    assert row["difference"] is None


@pytest.mark.parametrize("low", [0.0, -3.0])
def test_losses_without_a_logarithm_are_compared_seed_by_seed(low):
    results = table("mlp-orig", a=[-1.0] * 5, b=[-1.0, -2.0, -1.5, -1.0, -1.2])
    is_a = pl.col("optimizer") == "a"
    results = results.with_columns(loss=pl.when(is_a).then(low - 0.1 * pl.col("seed")).otherwise("loss"))
    for optimizer, verdict, counts in (("a", "yes", (5, 0)), ("b", "no", (0, 5))):
        (row,) = compare(results, optimizer).to_dicts()
        assert (row["ends_lower"], row["difference"]) == (verdict, None)
        better, worse = counts
        assert row["measured"] == f"better in {better} of 5 seeds, worse in {worse} (not all losses are above 0)"
    equal = results.with_columns(loss=pl.lit(low))
    assert compare(equal, "a")["ends_lower"].to_list() == ["undecided"]


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match=r"The table has no c: compare one of "):
        compare(table("mlp-orig", a=[-1.0], b=[-2.0]), "c")


def test_interval_covers_as_often_as_it_says():
    means = np.random.default_rng(0).normal(size=(2000, 5))
    inside = [low <= 0 <= high for low, high in map(confidence_interval, means)]
    assert abs(np.mean(inside) - 0.95) < 0.02
