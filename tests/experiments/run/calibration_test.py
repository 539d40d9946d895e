import numpy as np
import pytest

from experiments.run.calibration import nothing_learned, warnings_of
from optembed_jax.step.optimisers import TrainConfig


@pytest.mark.parametrize(
    ("calibration", "expected"), [(1.0, 0), (0.9, 0), (1.1, 0), (0.899, 1), (1.101, 1), (57.0, 1)]
)
def test_more_than_a_tenth_is_told(calibration, expected):
    assert len(warnings_of({"test": calibration}, {"test": 400})) == expected


def test_a_warning_says_where_how_much_and_what_chance_may_do():
    found = warnings_of({"validation": 1.0, "test": 1.234}, {"validation": 16, "test": 2500})
    assert found == [
        "over the test rows the mean prediction is 1.23 times the click rate (of 2,500 clicks, "
        "whose number varies by 2 % by chance)"
    ]
    (one,) = warnings_of({"test": 3.0}, {"test": 1})
    assert "(of 1 click, whose number varies by 100 % by chance)" in one


def test_a_model_that_scores_all_rows_alike_has_learned_nothing():
    lasso = TrainConfig(row_decay="group_lasso", group_lasso=1e-3)
    alike = np.full(3000, -4.5, np.float32)
    (line,) = nothing_learned(alike, lasso)
    assert line.startswith("all 3,000 validation rows are scored alike: nothing was learned. ")
    assert "--group_lasso=0.001 may hold every row at zero" in line and "--tune=rows" in line
    for train in (
        TrainConfig(row_decay="none"),
        TrainConfig(row_decay="group_lasso", group_lasso=0),
    ):
        (line,) = nothing_learned(alike, train)
        assert line.endswith("nothing was learned")
    alike[7] = np.nextafter(alike[7], np.float32(0))
    assert nothing_learned(alike, lasso) == []
    assert nothing_learned(alike[:1], lasso) == nothing_learned(alike[:0], lasso) == []
