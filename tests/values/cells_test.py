import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.values.cells import MARK, Cells, cell_text, in_slots, with_slots


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("war|sci", ["war", "sci"]),
        ("sci|war|sci", ["sci", "war"]),
        ("war||sci|", ["war", "sci"]),
        (" war |\tsci", ["war", "sci"]),
        ("war", ["war"]),
        ("|", [None]),
        (" | ", [None]),
        ("war| \\N|sci", ["war", "sci"]),
        ("\\N", [None]),
        (f"{MARK}\\N", ["\\N"]),
        (None, [None]),
        (f"{MARK}a|b{MARK} c", ["a|b", " c"]),
        (f"{MARK}{MARK}", [None]),
    ],
)
def test_a_cell_is_the_set_of_its_values(cell, expected):
    assert Cells("|", 2).values(cell) == expected


def test_a_separator_may_be_longer_and_may_be_missing():
    assert Cells("::", 3).values("a:b::c") == ["a:b", "c"]
    assert Cells(None, 3).values("a|b ") == ["a|b "]
    assert Cells(None, 3).values(f"{MARK}a{MARK}b") == ["a", "b"]


@pytest.mark.parametrize(
    ("separator", "most"), [("", 1), ("\n", 1), (7, 1), ("|", 0), ("|", 1.5), ("|", True)]
)
def test_what_says_nothing_is_refused(separator, most):
    with pytest.raises(InputError, match="separator" if separator != "|" else "max_values"):
        Cells(separator, most)


@pytest.mark.parametrize("separator", [":", ".", "0", "::", " 1 "])
def test_a_separator_that_would_split_weights_is_refused(separator):
    assert Cells(separator, 3).separator == separator
    with pytest.raises(InputError, match=r"can be part of a value's weight, such as red:0\.5"):
        Cells(separator, 3, weighted=True)


@pytest.mark.parametrize(
    ("value", "items"),
    [
        (["war", "sci"], ["war", "sci"]),
        (("war", None, ""), ["war"]),
        ({"b", "a"}, ["a", "b"]),
        (np.array([3, 1]), ["3", "1"]),
        (np.array(["x", "y"]), ["x", "y"]),
        ([1.0, True], ["1", "true"]),
        ([], [None]),
        ([None], [None]),
    ],
)
def test_lists_of_any_kind_are_one_text(value, items):
    assert Cells(None, 9).values(cell_text(value)) == items


def test_a_text_and_nothing_stay_what_they_are():
    assert cell_text("war|sci") == "war|sci"
    assert cell_text(None) is None and cell_text("") is None


@pytest.mark.parametrize("value", [[["a"]], [{"a": 1}], ["a", "b" + MARK]])
def test_what_is_no_list_of_values_is_refused(value):
    with pytest.raises(InputError):
        cell_text(value)


def test_values_that_became_one_are_read_once_and_those_without_a_row_each():
    # 10 is the OOV row, 99 nothing.
    places = np.array([[11, 11, 12], [10, 10, 11], [12, 11, 12], [99, 99, 99], [11, 10, 99]])
    expected = [[11, 12, 99], [10, 10, 11], [12, 11, 99], [99, 99, 99], [11, 10, 99]]
    assert in_slots(places, 3, 10, 99).tolist() == expected
    assert in_slots(places, 2, 10, 99).tolist() == [row[:2] for row in expected]
    assert in_slots(places, 4, 10, 99).tolist() == [[*row, 99] for row in expected]
    assert in_slots(np.zeros((0, 3)), 2, 10, 99).shape == (0, 2)


def test_other_numbers_of_slots():
    ids = np.array([[1, 5, 6, 9], [2, 5, 9, 9]], np.int32)
    assert with_slots(ids, (1, 3), (1, 3), 9) is ids
    assert with_slots(ids, (1, 3), (2, 1), 9).tolist() == [[1, 9, 5], [2, 9, 5]]
    assert with_slots(ids, (1, 3), (1, 4), 9).tolist() == [[1, 5, 6, 9, 9], [2, 5, 9, 9, 9]]
