import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.values.lookup import Bins, Lookup, all_bins, lookup_of
from optembed_jax.values.rule import Rule
from optembed_jax.values.table import texts_of


@pytest.fixture
def lookup():
    fields = [
        texts_of(["12", "", "7"]),
        all_bins(np.array([1.0, 2.0]), True),
        texts_of(["true", "false"]),
        texts_of(["rome", "NULL", ""]),
        texts_of(["2024-03-02"]),
    ]
    rules = [Rule("number", True), Rule(), Rule("boolean", True), Rule(), Rule("time", True)]
    return lookup_of(fields, [4, 5, 3, 4, 2], rules)


def places(lookup, field, texts):
    return lookup.places(texts_of(texts), np.full(len(texts), field)).tolist()


def test_values_are_found_as_their_field_reads_them(lookup):
    asked = ["12", "12.0", "12.00", "7", "8", "8.0", "", "NULL", "nan", "x", "07"]
    assert places(lookup, 0, asked) == [1, 1, 1, 3, 0, 0, 2, 2, 2, 0, 0]
    assert places(lookup, 2, ["True", "1", "1.0", "FALSE", "0", "2", ""]) == [1, 1, 1, 2, 2, 0, 0]
    assert places(lookup, 3, ["NULL", "", "nan", "rome", "12.0"]) == [2, 3, 0, 1, 0]
    assert places(lookup, 4, ["2024-03-02T00:00", "2024-03-02 00:00:00Z", "NaT"]) == [1, 0, 0]
    mixed = lookup.places(texts_of(["12.0", "TRUE", "NULL"]), np.array([0, 2, 3]))
    assert mixed.tolist() == [1, 1, 2]


def test_values_of_places(lookup):
    assert [lookup.value(0, place) for place in (1, 2, 3)] == ["12", None, "7"]
    assert lookup.field_texts(3).strings(np.arange(3)) == ["rome", "NULL", ""]


def test_fewer_values(lookup):
    rows = [
        np.array([False, True, False, True]),
        np.array([True, False, True, False, True]),
        np.array([True, False, False]),
        np.array([True, True, True, True]),
        np.array([True, False]),
    ]
    small = lookup.keep(rows)
    assert small.sizes == (3, 3, 1, 4, 1)
    assert places(small, 0, ["12.0", "", "7"]) == [1, 0, 2]
    assert places(small, 2, ["true"]) == [0]
    assert places(small, 3, ["rome", "NULL", ""]) == [1, 2, 3]
    assert small.bins[1].find(np.array([0.0, 1.5, 9.0, np.nan])).tolist() == [0, 1, 0, 2]


def test_bins_that_do_not_fit_are_refused(lookup):
    texts = texts_of([])
    for places_, edges, size in (
        ([1, 2, 3], [1.0, 2.0], 4),  # one too few
        ([1, 2, 2], [1.0], 4),  # not all rows
        ([1, 5, 0], [1.0], 3),  # out of range
        ([-1, 1, 2], [1.0], 3),
        ([1, 2, 3, 0], [2.0, 1.0], 4),  # edges that fall
    ):
        bins = Bins(np.array(edges), np.array(places_, np.int32))
        with pytest.raises(InputError, match=r"edges that do not rise|the places of bins"):
            Lookup(texts, (size,), (Rule(),), (bins,))
    with pytest.raises(InputError, match="0 values, not the 3 of the fields"):
        Lookup(texts, (4,), (Rule(),), (None,))
