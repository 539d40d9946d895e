import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.values.lookup import all_bins, lookup_of
from optembed_jax.values.matching import rows_before
from optembed_jax.values.rule import NUMBER, Rule
from optembed_jax.values.table import texts_of


def lookup(*fields, rules=None):
    """Of lists of texts, and of bins given by ``(edges, has missing)``."""
    found = [
        texts_of(field) if isinstance(field, list) else all_bins(np.array(field[0]), field[1])
        for field in fields
    ]
    sizes = [
        1 + len(field) if isinstance(field, list) else 2 + len(field[0]) + field[1]
        for field in fields
    ]
    return lookup_of(found, sizes, rules or [Rule()] * len(fields))


def test_values_are_matched_by_field_and_text():
    now = lookup(["b", "", "c"], ["a", "b"])
    before = lookup(["a", "b"], ["", "b", "x"])
    # Rows before: 0 OOV, 1 a, 2 b; 3 OOV, 4 missing, 5 b, 6 x.
    assert rows_before(now, before, ("f", "g")).tolist() == [0, 2, -1, -1, 3, -1, 5]


def test_the_missing_value_is_a_value_like_any_other():
    assert rows_before(lookup([""]), lookup(["a", ""]), ("f",)).tolist() == [0, 2]


def test_texts_are_read_by_the_earlier_rule():
    now, before = lookup(["1.0"]), lookup(["1"], rules=[Rule(NUMBER)])
    assert rows_before(now, before, ("f",)).tolist() == [0, 1]


def test_a_bin_is_matched_with_the_one_that_held_its_middle():
    now = lookup(([0.0, 2.0, 10.0], True))
    before = lookup(([1.5, 4.0], True))
    # Before: 0 OOV, 1 below 1.5, 2 below 4, 3 above, 4 missing. Middles now: below 0, 1, 6, 10.
    assert rows_before(now, before, ("f",)).tolist() == [0, 1, 1, 3, 3, 4]


def test_equal_bins_are_matched_one_to_one_and_a_new_missing_value_is_new():
    edges = [-1.0, 0.0, 1e300]
    now, before = lookup((edges, True)), lookup((edges, False))
    assert rows_before(now, before, ("f",)).tolist() == [0, 1, 2, 3, 4, -1]
    assert rows_before(before, now, ("f",)).tolist() == [0, 1, 2, 3, 4]


def test_a_field_without_values_has_its_oov_row():
    assert rows_before(lookup([], ["a"]), lookup(["a"], []), ("f", "g")).tolist() == [0, 2, -1]


def test_a_field_of_another_kind_is_refused_by_name():
    with pytest.raises(InputError, match="'price' is numeric now and was categorical before"):
        rows_before(lookup(([0.0], False)), lookup(["a"]), ("price",))
    with pytest.raises(InputError, match="1 fields cannot be matched with 2"):
        rows_before(lookup(["a"]), lookup(["a"], ["b"]), ("f",))
