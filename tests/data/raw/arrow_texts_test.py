import datetime
import decimal
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optembed_jax.data.raw.arrow_texts import as_array, as_strings
from optembed_jax.data.raw.writing import forms_of_values
from optembed_jax.data.request_columns import raw_columns
from optembed_jax.errors import InputError
from optembed_jax.values.forms import rule_of
from optembed_jax.values.rows import column_texts
from optembed_jax.values.rule import Rule
from optembed_jax.values.text import text_of


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, -2, None]), ["1", "-2", None]),
        (pa.array([1.0, 2.5, None, float("nan"), 1e300]), ["1", "2.5", None, None, "1e+300"]),
        (pa.array([1.0, None], pa.float32()), ["1", None]),
        (pa.array([5e-5, 1e-4, -1e-5, 0.5]), ["0.00005", "0.0001", "-0.00001", "0.5"]),
        (pa.array([5e-5, 0.00025], pa.float32()), ["0.00005", "0.00025"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array(["a", "", None]), ["a", None, None]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pa.array([datetime.date(2024, 2, 29)]), ["2024-02-29"]),
        (pa.array([], pa.int64()), []),
    ],
)
def test_as_strings(column, expected):
    assert as_strings(column).to_pylist() == expected


MONEY = [decimal.Decimal("1.50"), None, decimal.Decimal("-20.00"), decimal.Decimal("1.50")]
KEYS = [uuid.UUID(int=number) for number in (1, 2**127 + 5)]


@pytest.mark.parametrize("kind", ["decimal32", "decimal64", "decimal128", "decimal256"])
def test_decimals_of_every_width(kind):
    if not hasattr(pa, kind):
        pytest.skip(f"this pyarrow has no {kind}")
    column = pa.array(MONEY, getattr(pa, kind)(6, 2))
    for array in (column, column.dictionary_encode() if kind == "decimal128" else column):
        assert as_strings(array).to_pylist() == ["1.5", None, "-20", "1.5"]


def test_a_type_that_is_another_one_underneath_has_the_texts_of_its_values(tmp_path):
    stored = pa.array([key.bytes for key in KEYS] + [None], pa.binary(16))
    of_uuid = pa.ExtensionArray.from_storage(pa.uuid(), stored)
    of_bool = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, None], pa.int8()))
    table = pa.table({"key": of_uuid, "flag": of_bool})
    pq.write_table(table, tmp_path / "a.parquet")
    read = pq.read_table(tmp_path / "a.parquet")
    for own in (table, read):
        texts = as_strings(own["key"].combine_chunks()).to_pylist()
        assert texts == [str(KEYS[0]), str(KEYS[1]), None] == column_texts("key", own["key"], 0)
        flags = as_strings(own["flag"].combine_chunks()).to_pylist()
        assert flags == ["true", "false", None] == column_texts("flag", own["flag"], 0)
    vectors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 3)))
    with pytest.raises(InputError, match="cannot be read as text"):
        as_strings(vectors)


def test_dictionaries_of_views_and_of_other_types_underneath():
    places = pa.array([1, 0, None, 1], pa.int8())
    for values, texts in (
        (pa.array(["a", "b"], pa.string_view()), ["b", "a", None, "b"]),
        (pa.array([b"a", b"b"], pa.binary_view()), ["b", "a", None, "b"]),
        (pa.array(["a", None]), [None, "a", None, None]),
    ):
        column = pa.DictionaryArray.from_arrays(places, values)
        assert as_strings(column).to_pylist() == texts == column_texts("a", column, 0)


def test_chunks_with_dictionaries_of_their_own_keep_their_values():
    parts = [np.array(part, np.float16) for part in ([0.1, 0.2], [0.7, 0.1])]
    column = pa.chunked_array([pa.array(part).dictionary_encode() for part in parts])
    texts = ["0.1", "0.2", "0.7", "0.1"]
    assert raw_columns({"a": column}, ["a"])["a"].to_pylist() == texts
    assert column_texts("a", column, 0) == texts
    assert raw_columns({"a": column.slice(0, 0)}, ["a"])["a"].to_pylist() == []


def test_as_array_of_anything():
    assert as_array([1, 2]).type == pa.int64()
    assert as_array([10**30, None, "x"]).to_pylist() == [str(10**30), None, "x"]
    assert as_array([1, "x"]).to_pylist() == ["1", "x"]
    for truth in (True, np.True_):  # Of the second, beside a number, pyarrow makes 1.
        assert as_array([3, truth, None]).to_pylist() == ["3", "true", None]


FLOATS = st.one_of(st.floats(), st.floats(-1e-3, 1e-3), st.decimals(-1, 1, places=7).map(float))


@given(st.lists(FLOATS, min_size=1, max_size=9))
def test_floats_have_one_text_on_every_path(numbers):
    texts = [text_of(number) for number in numbers]
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": pa.array(numbers, pa.float64())}), buffer)
    stored = pq.read_table(pa.BufferReader(buffer.getvalue()))["a"].combine_chunks()
    assert as_strings(stored).to_pylist() == texts
    assert as_strings(as_array(numbers)).to_pylist() == texts
    assert as_strings(as_array(np.array(numbers))).to_pylist() == texts
    for values in (numbers, np.array(numbers), pa.array(numbers, pa.float64())):
        assert column_texts("a", values, 0) == texts
    with np.errstate(over="ignore"):
        narrow = np.array(numbers, np.float32)
    texts = [text_of(number) for number in narrow]
    assert as_strings(pa.array(narrow)).to_pylist() == texts
    assert column_texts("a", pa.array(narrow), 0) == texts


def test_small_floats_of_a_file_are_numbers_as_they_are_in_text():
    column = as_strings(pa.array([5e-5, 1e-4, 3.0, 0.25]))
    assert column.to_pylist() == ["0.00005", "0.0001", "3", "0.25"]
    assert rule_of(forms_of_values(column)) == Rule("number", words=True)
