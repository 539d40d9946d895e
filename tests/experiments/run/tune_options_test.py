import pytest

from experiments.run.tune_options import LADDERS, TuneOptions, strength_of
from optembed_jax.errors import InputError
from optembed_jax.step.optimisers import TrainConfig


@pytest.mark.parametrize(
    ("train", "strength"),
    [
        ({"row_decay": "group_lasso"}, "group_lasso"),
        ({"row_decay": "group_lasso", "table_l2": 0.1}, "group_lasso"),
        ({"row_decay": "group_lasso", "table_l2": 0.1, "group_lasso": 0}, "table_l2"),
        ({"row_decay": "l2_coupled"}, "table_l2"),
        ({"row_decay": "l2_visited"}, "table_l2"),
        ({"row_decay": "decoupled"}, "table_l2"),
    ],
)
def test_what_rows_pay_is_what_is_tuned(train, strength):
    assert strength_of(TrainConfig(**train)) == strength
    assert TuneOptions(strength, LADDERS[strength]).as_flags()["tune"] == "rows"


def test_the_flags_say_all_of_it_and_what_is_decided():
    options = TuneOptions("group_lasso", (0.0, 0.1), (0.3,), 7, 5)
    assert options.as_flags() == {
        "tune": "rows", "tune_ladder": [0.0, 0.1], "tune_l2_ladder": [0.3], "tune_rows": 7,
        "tune_epochs": 5,
    }  # fmt: skip
    assert options.strengths == ("group_lasso", "table_l2")
    assert TuneOptions("table_l2", (0.0, 0.1)).strengths == ("table_l2",)


def test_where_rows_pay_nothing_there_is_nothing_to_tune():
    with pytest.raises(InputError, match="with row_decay=none they pay nothing"):
        strength_of(TrainConfig(row_decay="none"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ladder": ()}, "tune_ladder must be two strengths or more"),
        ({"ladder": (0.1,)}, "two strengths or more, each above the one before, not 0.1"),
        ({"ladder": (0.1, 0.1)}, "each above the one before, not 0.1,0.1"),
        ({"ladder": (0.2, 0.1)}, "each above the one before, not 0.2,0.1"),
        ({"ladder": (-1.0, 0.1)}, "tune_ladder must not go below 0, as -1 does"),
        ({"ladder": (float("nan"), 0.1)}, "tune_ladder must"),
        ({"ladder": (0.1, float("nan"))}, "tune_ladder must"),
        ({"ladder": (0.1, float("inf"))}, "tune_ladder must"),
        ({"beside": (0.0, 0.1)}, "tune_l2_ladder must be strengths above 0, .* not 0,0.1"),
        ({"beside": (0.2, 0.1)}, "tune_l2_ladder must be strengths above 0, each above"),
        ({"beside": (float("nan"),)}, "tune_l2_ladder must"),
        ({"strength": "table_l2", "beside": (0.1,)}, "here they pay by table_l2 alone"),
        ({"rows": 0}, "tune_rows must be at least 1, not 0"),
        ({"epochs": 0}, "tune_epochs must be at least 1, not 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        TuneOptions(**{"strength": "group_lasso", "ladder": (0.0, 0.1), **options})
