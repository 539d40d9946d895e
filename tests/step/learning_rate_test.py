import math

import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optembed_jax.errors import InputError
from optembed_jax.step.learning_rate import SCHEDULES, Plateau, Schedule, lr_scale
from optembed_jax.step.optimisers import TrainConfig


def test_a_plateau_is_read_from_text():
    assert Plateau.parse("0.1") == Plateau(0.1, 1)
    assert Plateau.parse("0.5:3") == Plateau(0.5, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("half", "lr_plateau is a factor and epochs to wait, such as 0.1:2, not 'half'"),
        ("0.1:x", "lr_plateau is a factor and epochs to wait"),
        ("0.1:1:1", "lr_plateau is a factor and epochs to wait"),
        ("", "lr_plateau is a factor"),
        ("1", "a factor above 0 and below 1 after at least 1 epoch, not by 1.0 after 1"),
        ("0", "a factor above 0"),
        ("nan", "a factor above 0"),
        ("0.1:0", "after at least 1 epoch, not by 0.1 after 0"),
    ],
)
def test_other_texts_are_no_plateau(text, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(lr_plateau=text)


@pytest.mark.parametrize(
    ("best", "patience", "cuts", "since"),
    [
        ("", 1, (), 0),
        ("1", 1, (), 0),
        ("110", 1, (3,), 0),
        ("1100", 1, (3, 4), 1),
        ("11011", 1, (3,), 0),  # The cut found a new best: the wait begins anew.
        ("110110", 1, (3, 6), 0),
        ("1101100", 1, (3, 6, 7), 1),
        ("1100", 2, (4,), 0),
        ("110100", 2, (6,), 0),
        ("1000000", 2, (3, 5, 7), 4),
    ],
)
def test_the_rate_is_cut_where_nothing_better_came_and_the_wait_begins_there(
    best, patience, cuts, since
):
    flags = [letter == "1" for letter in best]
    plateau = Plateau(0.1, patience)
    assert plateau.cuts(flags) == cuts
    assert plateau.since_cut(flags) == since
    assert lr_scale(plateau, None, flags) == pytest.approx(0.1 ** len(cuts))


@pytest.mark.parametrize(
    ("told", "patience", "cuts", "since"),
    [
        ("1???", 1, (), 0),
        ("1??0", 1, (4,), 0),
        ("1?0?", 1, (3, 4), 1),  # After a cut every epoch counts.
        ("10?1?0", 1, (2, 3, 6), 0),  # A new best begins anew.
        ("1?0?0", 2, (5,), 0),
        ("1?0?00", 2, (5,), 1),
    ],
)
def test_no_cut_is_made_where_the_validation_cannot_tell(told, patience, cuts, since):
    best, undecided = ([letter == kind for letter in told] for kind in "1?")
    plateau = Plateau(0.1, patience)
    assert plateau.cuts(best, undecided) == cuts
    assert plateau.since_cut(best, undecided) == since
    assert lr_scale(plateau, None, best, undecided) == pytest.approx(0.1 ** len(cuts))


@given(best=st.lists(st.booleans(), max_size=12), patience=st.integers(1, 4))
def test_what_was_cut_stays_cut(best, patience):
    plateau = Plateau(0.5, patience)
    cuts = plateau.cuts(best)
    for number in range(len(best)):
        assert plateau.cuts(best[:number]) == tuple(cut for cut in cuts if cut <= number)
    runs = "".join(".x"[not is_best] for is_best in best).split(".")
    assert len(cuts) == sum(len(run) // patience for run in runs)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("cosine_decay_schedule:decay_steps=5", optax.cosine_decay_schedule(1.0, 5)),
        (
            "exponential_decay:transition_steps=2,decay_rate=.5,staircase=true",
            optax.exponential_decay(1.0, 2, 0.5, staircase=True),
        ),
        (
            "warmup_cosine_decay_schedule:init_value=.1, warmup_steps=2, decay_steps=9",
            optax.warmup_cosine_decay_schedule(0.1, 1.0, 2, 9),
        ),
        (
            "linear_onecycle_schedule:transition_steps=8,peak_value=2",
            optax.linear_onecycle_schedule(8, 2.0),
        ),
    ],
)
def test_schedules_are_optax_s_by_whole_epochs(text, schedule):
    found = [TrainConfig(lr_schedule=text).schedule.factor(epoch) for epoch in range(1, 12)]
    np.testing.assert_allclose(found, [float(schedule(count)) for count in range(11)], rtol=1e-6)
    assert len(set(found)) > 3


def test_every_schedule_on_the_list_is_there_and_can_be_asked_for():
    values = {"decay_rate": "0.5", "decay_steps": "9", "end_value": "0.1", "power": "2"}
    for name in SCHEDULES:
        with pytest.raises(
            InputError, match=f"lr_schedule {name} needs [a-z_, ]+; it takes"
        ) as told:
            Schedule(name)
        keys = str(told.value).split("needs ")[1].split(";")[0].split(", ")
        schedule = Schedule(name, tuple((key, values.get(key, "4")) for key in keys))
        assert all(math.isfinite(schedule.factor(epoch)) for epoch in (1, 3, 100))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosine", "must be one of Optax's cosine_decay_schedule, .*, not 'cosine'"),
        ("join_schedules:boundaries=3", "must be one of Optax's"),
        ("", "must be one of Optax's"),
        (
            "linear_schedule",
            "needs end_value, transition_steps; it takes init_value, end_value, tra",
        ),
        ("cosine_decay_schedule:steps=3", "has no steps; it takes init_value, decay_steps, alpha"),
        ("cosine_decay_schedule:decay_steps", "such as cosine_decay_schedule:decay_steps=10, not"),
        ("cosine_decay_schedule:decay_steps=2.5", "decay_steps must be a whole number of epochs"),
        ("cosine_decay_schedule:decay_steps=4,alpha=x", "alpha must be a number, not 'x'"),
        ("cosine_decay_schedule:decay_steps=0", "cosine_decay_schedule: The cosine_decay_schedule"),
        ("cosine_decay_schedule:decay_steps=3,decay_steps=4", "is given a parameter twice"),
        ("cosine_decay_schedule:decay_steps=3,init_value=-1", "-1.0 times itself in epoch 1"),
    ],
)
def test_other_schedules_are_refused_and_the_message_says_what_there_is(text, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(lr_schedule=text)


def test_a_schedule_that_falls_below_zero_is_refused_in_its_epoch():
    schedule = Schedule.parse("linear_schedule:end_value=-1,transition_steps=4")
    assert schedule.factor(3) == 0
    with pytest.raises(InputError, match=r"-0\.5 times itself in epoch 4; it must be at least 0"):
        schedule.factor(4)


def test_a_plateau_cuts_what_a_schedule_sets():
    schedule = Schedule.parse("exponential_decay:transition_steps=1,decay_rate=0.5")
    assert lr_scale(Plateau(0.1), schedule, [True, False]) == pytest.approx(0.25 * 0.1)
    assert lr_scale(None, schedule, [True, False]) == 0.25
    assert lr_scale(None, None, [True, False]) == 1


@pytest.mark.parametrize(
    "how", [{"lr_plateau": "0.1"}, {"lr_schedule": "cosine_decay_schedule:decay_steps=3"}]
)
def test_a_decay_that_tabulates_its_rate_keeps_it(how):
    with pytest.raises(InputError, match=r"row_decay=decoupled tabulates .* use another row_decay"):
        TrainConfig(row_decay="decoupled", **how)
