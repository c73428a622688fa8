import pytest

from tutelage.experiments.estimate import Estimate, pace
from tutelage.experiments.parts import Baseline

PARTS = [Baseline(name, name, "mlp-digits", 100, 1, 1) for name in ("adam", "sgd", "rmsprop", "adamw")]


def estimate() -> Estimate:
    """Of four parts that are expected to take an hour each."""
    return Estimate(dict.fromkeys(PARTS, 3600.0))


def test_the_time_left_trusts_what_was_expected_until_there_is_more_to_go_by():
    hours = 3 * 3600.0
    assert pace(60.0, 1.0, hours) < 1.2  # a minute of compiling
    assert pace(hours, hours / 2, hours) > 1.8  # half of it, twice as slow as expected
    assert pace(0.0, 0.0, hours) == 1


def test_time_left_follows_the_pace_of_what_is_at_work():
    left = estimate()
    assert left.seconds_left(1, 0.0) is None
    left.come(PARTS[0], 0.0, 0.0)
    left.come(PARTS[0], 0.5, 900.0)  # half an hour's work in a quarter of one
    assert left.share == pytest.approx(1 / 8)
    expected = 3.5 * 3600 * pace(900.0, 1800.0, 4 * 3600.0)
    assert left.seconds_left(1, 900.0) == pytest.approx(expected)
    assert left.seconds_left(2, 900.0) == pytest.approx(expected / 2)
    left.end(PARTS[0], 1800.0)
    assert left.share == pytest.approx(1 / 4)
    assert left.seconds_left(1, 1800.0) == pytest.approx(3 * 3600 * pace(1800.0, 3600.0, 4 * 3600.0))


def test_what_was_done_before_is_done_but_says_nothing_of_the_pace():
    left = estimate()
    left.end(PARTS[0], 1.0)  # finished before: read at once
    assert left.share == pytest.approx(1 / 4)
    assert left.seconds_left(1, 1.0) is None
    left.come(PARTS[1], 0.8, 10.0)  # goes on where it was interrupted
    left.come(PARTS[1], 0.9, 10.0 + 360.0)  # at just the expected pace
    assert left.seconds_left(1, 370.0) == pytest.approx((0.1 + 2) * 3600)


def test_nothing_is_left_when_all_has_ended():
    left = estimate()
    left.come(PARTS[0], 0.5, 0.0)
    for part in PARTS:
        left.end(part, 10.0)
    assert left.share == 1
    assert left.seconds_left(1, 10.0) == 0
