"""Columns of data frames, in the types that they are stored in; the frames are real ones."""

import array
import datetime
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from optembed_jax.data.request_columns import raw_columns
from optembed_jax.errors import InputError
from optembed_jax.values.cells import MARK, WEIGHT_MARK, Cells, cell_text
from optembed_jax.values.columns import cell_column_texts, column_texts
from optembed_jax.values.stored import as_stored

NARROW = [0.1, 0.7, 16777216.0]
NARROW_TEXTS = ["0.1", "0.7", "16777216"]
NANOSECOND = np.array(["2024-03-02T14:30:00.000000001"], "M8[ns]")
DAY, MOMENT = datetime.date(2024, 3, 1), datetime.datetime(2024, 3, 1, 6)

COLUMNS = {
    "pandas float32": (pd.Series(NARROW, dtype="float32"), NARROW_TEXTS),
    "pandas float16": (pd.Series([0.1, 2], dtype="float16"), ["0.1", "2"]),
    "pandas Float32": (pd.Series([0.1, None], dtype="Float32"), ["0.1", None]),
    "pandas float32 of Arrow": (
        pd.Series([0.1, None], dtype=pd.ArrowDtype(pa.float32())),
        ["0.1", None],
    ),
    "pandas index": (pd.Index(NARROW, dtype="float32"), NARROW_TEXTS),
    "pandas category of float32": (
        pd.Series(pd.Categorical(np.array([0.1, 0.7, 0.1], np.float32))),
        ["0.1", "0.7", "0.1"],
    ),
    "pandas category of integers, one missing": (
        pd.Series([2**60 + 1, None, 2**60 + 1], dtype="Int64").astype("category"),
        [str(2**60 + 1), None, str(2**60 + 1)],
    ),
    "pandas objects, a day first": (
        pd.Series([DAY, MOMENT, None], dtype=object),
        ["2024-03-01", "2024-03-01 06:00:00", None],
    ),
    "pandas objects, floats of two widths": (
        pd.Series([np.float32(0.1), 0.5], dtype=object),
        ["0.1", "0.5"],
    ),
    "pandas nanoseconds": (pd.Series(NANOSECOND), ["2024-03-02 14:30:00.000000001"]),
    "pandas times of a zone": (
        pd.Series(pd.to_datetime(["2024-03-02 14:30", None])).dt.tz_localize("America/New_York"),
        ["2024-03-02 19:30:00Z", None],
    ),
    "pandas integers": (pd.Series([1, None], dtype="Int64"), ["1", None]),
    "pandas truths": (pd.Series([True, None], dtype="boolean"), ["true", None]),
    "pandas texts": (pd.Series(["a", None, ""]), ["a", None, None]),
    "polars Float32": (pl.Series([*NARROW, None], dtype=pl.Float32), [*NARROW_TEXTS, None]),
    "polars Float64": (pl.Series([0.1, None, 2.0]), ["0.1", None, "2"]),
    "polars nanoseconds": (pl.Series(NANOSECOND), ["2024-03-02 14:30:00.000000001"]),
    "polars times": (pl.Series([MOMENT, None]), ["2024-03-01 06:00:00", None]),
    "polars times of a zone": (
        pl.Series([MOMENT]).dt.replace_time_zone("America/New_York"),
        ["2024-03-01 11:00:00Z"],
    ),
    "polars nanoseconds of a zone": (
        pl.Series(NANOSECOND).dt.replace_time_zone("UTC"),
        ["2024-03-02 14:30:00.000000001Z"],
    ),
    "polars times of day": (
        pl.Series([1_000_000_001, None]).cast(pl.Time),
        ["00:00:01.000000001", None],
    ),
    "polars integers": (pl.Series([2**64 - 1, None], dtype=pl.UInt64), [str(2**64 - 1), None]),
    "polars decimals": (pl.Series([decimal.Decimal("1.50")]), ["1.5"]),
    "polars categories": (pl.Series(["a", None], dtype=pl.Categorical), ["a", None]),
    "array of floats": (array.array("f", NARROW), NARROW_TEXTS),
    "buffer of floats": (memoryview(array.array("f", NARROW)), NARROW_TEXTS),
    "array of integers": (array.array("b", [1, -2]), ["1", "-2"]),
    "no rows": (pd.Series([], dtype="float32"), []),
}


@pytest.mark.parametrize("values, texts", COLUMNS.values(), ids=COLUMNS.keys())
def test_texts_are_those_of_the_stored_type_for_few_rows_and_for_many(values, texts):
    assert column_texts("a", values, 0) == texts
    assert raw_columns({"a": values}, ["a"])["a"].to_pylist() == texts


LISTS = {
    "pandas lists of Arrow": pd.Series(
        [[0.1, 0.7], None, [2.0]], dtype=pd.ArrowDtype(pa.list_(pa.float32()))
    ),
    "polars lists": pl.Series([[0.1, 0.7], None, [2.0]], dtype=pl.List(pl.Float32)),
    "lists of arrays": [np.array([0.1, 0.7], np.float32), None, array.array("f", [2.0])],
    "lists of series": [pd.Series([0.1, 0.7], dtype="float32"), None, [2.0]],
}


@pytest.mark.parametrize("values", LISTS.values(), ids=LISTS.keys())
def test_so_are_those_of_the_items_of_lists(values):
    texts = [f"{MARK}0.1{MARK}0.7", None, f"{MARK}2"]
    cells = Cells(None, 4)
    assert cell_column_texts("a", values, 0, cells) == texts
    assert raw_columns({"a": values}, ["a"], 0, {"a": cells})["a"].to_pylist() == texts


def test_times_and_weights_within_lists_keep_their_types():
    moments = pl.Series([NANOSECOND.tolist(), None]).cast(pl.List(pl.Datetime("ns")))
    pairs = pl.Series(
        [[{"value": 0.1, "weight": 0.5}]],
        dtype=pl.List(pl.Struct({"value": pl.Float32, "weight": pl.Float32})),
    )
    text = "2024-03-02 14:30:00.000000001"
    for values, weighted, texts in (
        (moments, False, [f"{MARK}{text}", None]),
        ([pl.Series(NANOSECOND), None], False, [f"{MARK}{text}", None]),
        ([pa.array([0.1], pa.float32()), None], False, [f"{MARK}0.1", None]),
        (pairs, True, [f"{MARK}0.1{WEIGHT_MARK}0.5"]),
    ):
        cells = Cells(None, 4, weighted)
        assert cell_column_texts("a", values, 0, cells) == texts
        assert raw_columns({"a": values}, ["a"], 0, {"a": cells})["a"].to_pylist() == texts


def test_a_view_of_bytes_is_one_text():
    assert as_stored(memoryview(b"ab")) == b"ab"
    assert cell_text(memoryview(b"ab")) == "ab"
    cells = Cells("|", 4)
    assert cell_column_texts("a", [memoryview(b"ab|c"), b"d"], 0, cells) == ["ab|c", "d"]


def test_periods_are_refused_by_column_and_not_read_as_their_codes():
    days = pd.Series(pd.period_range("2024-03-01", periods=3))
    with pytest.raises(InputError, match="row 4: column 'a': a value is Period"):
        column_texts("a", days, 4)
    with pytest.raises(InputError, match=r"column 'a': .*period cannot be read as text"):
        raw_columns({"a": days}, ["a"])
    with pytest.raises(InputError, match=r"column 'a': .*pandas\.period.* cannot be read as text"):
        column_texts("a", pa.array(days), 0)


def test_what_iterates_as_it_is_stored_stays():
    for values in (["a", 1], ("a",), np.zeros(3), pa.array([1.5]), pd.Series([1, 2]), range(3)):
        assert as_stored(values) is values
