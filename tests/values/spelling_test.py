import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optembed_jax import data
from optembed_jax.data import request_columns
from optembed_jax.data.prepared import encoder_of
from optembed_jax.errors import InputError
from optembed_jax.values.lookup import lookup_of
from optembed_jax.values.rule import Rule
from optembed_jax.values.spelling import check_spellings
from optembed_jax.values.table import texts_of

TEXTS = ["12", "12.0", "1.10", "1.1", "7", "8.0", "true", "True", "FALSE", "2024-03-02",
         "2024-03-02T00:00:00", "2024-03-03 00:00:00", "x0", "", "06:00", "06:00:00", "1e-05",
         "0.00001", "1e+100", "1e-1", "e", "2.5e-7", "0.00000025", "0abe1234",
         "0abce123"]  # fmt: skip
TWINS = {"12": "12.0", "1.1": "1.10", "true": "True", "2024-03-02": "2024-03-02T00:00:00",
         "06:00:00": "06:00", "0.00001": "1e-05", "0.00000025": "2.5e-7"}  # fmt: skip


@pytest.fixture
def lookup():
    fields = [texts_of(["12", "0"]), texts_of(TEXTS), texts_of([])]
    sizes = [len(field) + 1 for field in fields]
    return lookup_of(fields, sizes, [Rule("number"), Rule(), Rule()])


def test_twins_are_the_texts_with_another_spelling(lookup):
    assert lookup.twins(1) == TWINS
    assert lookup.twins(0) == {} and lookup.twins(2) == {}


@pytest.mark.parametrize(
    "values",
    [
        ["x", 12.0], [7, np.float32(12)], ["x", decimal.Decimal("1.10")], ["True", True],
        ["x", datetime.datetime(2024, 3, 2)], ["x", datetime.date(2024, 3, 2)],
        np.array([7.0, 12.0]), np.array(["2024-03-01", "2024-03-02"], "M8[s]"),
        pa.array([7.0, 12.0]), pa.chunked_array([[7.0, 12.0]]),
        ["x", datetime.time(6)], [7.5, 1e-5], pa.array([7.5, 1e-5], pa.float32()),
        pa.array([7.0, 12.0]).dictionary_encode(), np.ma.array([12.0, 12.0], mask=[True, False]),
    ],
)  # fmt: skip
def test_what_could_be_two_values_is_refused(lookup, values):
    with pytest.raises(
        InputError, match=r"row 6: column 'b' is .* as a typed value, which .* text"
    ):
        check_spellings([(0, "a"), (1, "b")], lookup, {"a": [12.0], "b": values}, 5)


@pytest.mark.parametrize(
    "values",
    [
        ["12", "12.0"], [12, 7.0], [8.0, 3.5], [float("nan"), None], [False], [b"12"], [],
        np.array([12, 7]), np.array(["12", "12.0"]), pa.array([12]), pa.array(["12", "1.1"]),
        [np.int64(12), np.str_("1.1")],
    ],
)  # fmt: skip
def test_texts_integers_and_what_has_one_spelling_pass(lookup, values):
    check_spellings([(0, "a"), (1, "b"), (2, "c")], lookup, {"a": [12.0], "b": values}, 0)


@pytest.mark.parametrize(
    "values",
    [
        [["x"], ["y", 12.0]], [None, [12.0]], [[], np.array([12.0])], ["x", {12.0}],
        [["x"], [("y", 0.5), (12.0, 0.5)]], [["x"], [{"value": 12.0, "weight": 1.0}]],
        [["x"], {12.0: 0.5}], pa.array([[1.5], [7.0, 12.0]]), pa.array([[7.0], None, [12.0]])[1:],
        pa.array([[7.0], [12.0]], pa.list_(pa.float32(), 1)), pa.chunked_array([[[1.5]], [[12.0]]]),
        pa.array([[], [{"value": 12.0, "weight": 2.0}]]), ["x", 12.0],
        ["x", pd.Series([12.0])], ["x", pd.Series([7, 12], dtype="Int64").astype("Float32")],
        ["x", pd.Index([decimal.Decimal(12)])], ["x", pd.Series([12.0]).astype("category")],
    ],
)  # fmt: skip
def test_so_is_an_item_of_a_list(lookup, values):
    with pytest.raises(InputError, match=r"row 6: column 'b' is 12 as a typed value"):
        check_spellings([(1, "b")], lookup, {"b": values}, 5, {"b"})


@pytest.mark.parametrize(
    "values",
    [
        [["12", "12.0"], [12]], [None, []], pa.array([["12"], None]), pa.array([[12]]),
        [[("12", 12.0)], {"12": 1.5}], pa.array([[{"value": "12", "weight": 12.0}]]), ["12|12.0"],
        [pd.Series(["12", "12.0"]), pd.Series([12])],
        pa.array([[("12", 12.0)]], pa.map_(pa.string_view(), pa.float32())),
    ],
)  # fmt: skip
def test_items_that_are_texts_or_integers_pass(lookup, values):
    check_spellings([(1, "b")], lookup, {"b": values}, 0, {"b"})


def test_items_of_narrow_floats_are_known_by_their_own_texts():
    fields = [texts_of(["0.1", "0.10"])]
    lookup = lookup_of(fields, [3], [Rule()])
    pairs = pa.list_(pa.struct({"value": pa.float32(), "weight": pa.float32()}))
    for column in (
        pa.array([[0.5], [0.1]], pa.list_(pa.float32())),
        pa.array([[], [{"value": 0.1, "weight": 1.0}]], pairs),
        pa.array([[(0.5, 1.0)], [(0.1, 1.0)]], pa.map_(pa.float32(), pa.float32())),
    ):
        for values in (column, pa.chunked_array([column[:1], column[1:]])):
            with pytest.raises(InputError, match=r"row 6: column 'b' is 0\.1 as a typed"):
                check_spellings([(0, "b")], lookup, {"b": values}, 5, {"b"})


def test_lists_are_refused_so_on_every_way(tmp_path, monkeypatch):
    cells = [["12"], ["12.0", "7"], ["7"]] * 30
    table = pa.table({"a": cells, "click": [number % 2 for number in range(90)]})
    pq.write_table(table, tmp_path / "rows.parquet")
    options = data.DataOptions(
        table_file=str(tmp_path / "rows.parquet"), label="click", categorical=("a",), min_count=1,
        multi=("a",),
    )  # fmt: skip
    encoder = encoder_of(data.prepare("table", options, tmp_path / "data"))
    for few in (64, -1):
        monkeypatch.setattr(request_columns, "_FEW_ROWS", few)
        with pytest.raises(InputError, match="row 1: column 'a' is 12 as a typed value"):
            encoder.encode({"a": [["12"], [12.0]]})
        found = encoder.encode({"a": [["12"], [12], ["12.0"]]})[:, 0].tolist()
        assert found == [encoder.vocabulary.id("a", text) for text in ("12", "12", "12.0")]


def test_an_encoder_refuses_them_on_both_ways(tmp_path, monkeypatch):
    cells = ["12", "12.0", "7"] * 30
    lines = [f"{cell},{number % 2}" for number, cell in enumerate(cells)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,click", *lines]) + "\n")
    options = data.DataOptions(
        table_file=str(tmp_path / "rows.csv"), label="click", categorical=("a",), min_count=1
    )
    encoder = encoder_of(data.prepare("table", options, tmp_path / "data"))
    for few in (64, -1):
        monkeypatch.setattr(request_columns, "_FEW_ROWS", few)
        monkeypatch.setattr(request_columns, "_SOME_TEXTS", few)
        with pytest.raises(InputError, match="row 1: column 'a' is 12 as a typed value"):
            encoder.encode({"a": [7.0, 12.0]})
        found = encoder.encode({"a": ["12", "12.0", 12, 7.0, 7]})[:, 0].tolist()
        wanted = [encoder.vocabulary.id("a", text) for text in ("12", "12.0", "12", "7", "7")]
        assert found == wanted and len(set(found)) == 3
