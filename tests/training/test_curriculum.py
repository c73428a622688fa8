import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.training import Curriculum, Decision, Schedule

PAPER = Schedule((100, 200, 500), (200, 500, 1000), period=2)


def run(schedule, losses):
    """Feed validation losses; return what followed each, as (decision, stage, best)."""
    curriculum, history = Curriculum(schedule), []
    for loss in losses:
        while not curriculum.expects_validation:
            curriculum.end_epoch()
        decision, best = curriculum.report(float(loss))
        history.append((decision, curriculum.stage, best))
        if decision is Decision.STOP:
            break
    return curriculum, history


def decisions(schedule, losses):
    return [decision for decision, _, _ in run(schedule, losses)[1]]


CONTINUE, ADVANCE, STOP = Decision.CONTINUE, Decision.ADVANCE, Decision.STOP


def test_a_stage_runs_at_least_three_periods_then_while_the_last_was_best():
    # baseline 5, then 4 3 2 1 are each the best; 1.5 is not
    assert decisions(PAPER, [5, 4, 3, 2, 1, 1.5]) == [CONTINUE] * 5 + [ADVANCE]
    # 3 is the best but not the last of the minimum
    assert decisions(PAPER, [5, 4, 3, 4]) == [CONTINUE] * 3 + [ADVANCE]


def test_a_stage_that_improves_on_nothing_stops_training():
    assert decisions(PAPER, [5, 6, 7, 5]) == [CONTINUE] * 3 + [STOP]


def test_as_released_such_a_stage_goes_on_until_it_improves():
    released = Schedule((100, 200), (200, 500), period=2, stop_when_stage_fails=False)
    assert decisions(released, [5, 6, 7, 6, 8, 4, 5]) == [CONTINUE] * 6 + [ADVANCE]


def test_the_next_stage_has_its_own_baseline_and_lengths():
    curriculum, history = run(PAPER, [5, 4, 3, 4, 0.5])
    assert history[-1] == (CONTINUE, 1, True)
    assert curriculum.best_loss == 0.5
    assert (curriculum.unroll_length, curriculum.validation_length) == (200, 500)
    assert not curriculum.improved


def test_a_baseline_that_is_known_is_not_validated_again():
    fixed = PAPER.validated_after(1000)
    curriculum, history = run(fixed, [5, 4, 3, 4, 2])
    assert history[3:] == [(ADVANCE, 1, False), (CONTINUE, 1, True)]
    assert (curriculum.periods, curriculum.best_loss, curriculum.improved) == (1, 2, True)
    # the weights restored had 3, so that 3.5, 4 and 5 improve on nothing
    assert decisions(fixed, [5, 4, 3, 4, 3.5, 4, 5])[3:] == [ADVANCE, CONTINUE, CONTINUE, STOP]


def test_more_validations_change_no_fixed_length_of_training():
    plain = Schedule((100,), (100,), period=100, min_periods=50, max_periods=50)
    assert plain.validated_every(20) == Schedule((100,), (100,), period=20, min_periods=250, max_periods=250)
    often = plain.validated_every(300)  # 17 periods, the first whole number that is as long
    assert (often.period, often.min_periods, often.max_periods) == (300, 17, 17)
    assert PAPER.validated_every(7) == replace(PAPER, period=7)
    for epochs in (0, -1):
        with pytest.raises(ValueError, match="period and its least number of periods are 1 or more"):
            plain.validated_every(epochs)


def test_the_last_stage_ends_training():
    stage = [5, 4, 3, 4]
    assert decisions(PAPER, stage * 3)[-1] is STOP


def test_one_stage_of_fixed_length_is_plain_training():
    plain = Schedule((100,), (100,), period=1, min_periods=4, max_periods=4)
    assert decisions(plain, [5, 6, 4, 3, 2]) == [CONTINUE] * 4 + [STOP]
    assert decisions(plain, [5, 6, 7, 8, 9]) == [CONTINUE] * 4 + [STOP]


def test_nan_is_the_worst_loss():
    _, history = run(PAPER, [math.nan, 3, math.nan, math.inf])
    assert [best for _, _, best in history] == [True, True, False, False]
    assert history[-1][0] is ADVANCE


losses = st.lists(st.floats(0, 10) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=60)


@given(losses)
def test_best_is_the_lowest_of_the_stage_and_stages_only_grow(losses):
    curriculum, schedule = Curriculum(PAPER), PAPER
    in_stage, stage = [], 0
    for loss in losses:
        while not curriculum.expects_validation:
            curriculum.end_epoch()
        in_stage.append(math.inf if math.isnan(loss) else loss)
        decision, best = curriculum.report(loss)
        assert best == (len(in_stage) == 1 or in_stage[-1] < min(in_stage[:-1]))
        if decision is not CONTINUE:
            assert len(in_stage) > schedule.min_periods
        if decision is ADVANCE:
            assert curriculum.stage == stage + 1
            stage, in_stage = curriculum.stage, []
        if decision is STOP:
            assert curriculum.finished
            return


@given(losses)
def test_its_state_survives_as_plain_numbers(losses):
    whole, _ = run(PAPER, losses)
    half, _ = run(PAPER, losses[: len(losses) // 2])
    restored = Curriculum.from_dict(PAPER, half.to_dict())
    for loss in losses[len(losses) // 2 :]:
        if restored.finished:
            break
        while not restored.expects_validation:
            restored.end_epoch()
        restored.report(loss)
    assert restored == whole


@pytest.mark.parametrize(
    "settings",
    [
        {"unroll_lengths": (), "validation_lengths": ()},
        {"unroll_lengths": (100, 200), "validation_lengths": (100,)},
        {"unroll_lengths": (90,), "validation_lengths": (100,)},
        {"unroll_lengths": (100,), "validation_lengths": (0,)},
        {"unroll_lengths": (100,), "validation_lengths": (100,), "period": 0},
    ],
)
def test_impossible_schedules_are_refused(settings):
    with pytest.raises(ValueError, match=r"schedule|Unroll"):
        Schedule(**settings)
