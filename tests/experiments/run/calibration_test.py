import pytest

from experiments.run.calibration import warnings_of


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
