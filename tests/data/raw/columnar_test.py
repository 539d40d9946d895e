import datetime
import decimal
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optembed_jax.data.raw import columnar, columns
from optembed_jax.data.raw.sources import RawFile
from optembed_jax.data.raw.writing import forms_of_values
from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells, cell_text
from optembed_jax.values.rows import column_texts
from optembed_jax.values.rule import Rule, rule_of
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
    assert columnar.as_strings(column).to_pylist() == expected


MONEY = [decimal.Decimal("1.50"), None, decimal.Decimal("-20.00"), decimal.Decimal("1.50")]
KEYS = [uuid.UUID(int=number) for number in (1, 2**127 + 5)]


@pytest.mark.parametrize("kind", ["decimal32", "decimal64", "decimal128", "decimal256"])
def test_decimals_of_every_width(kind):
    if not hasattr(pa, kind):
        pytest.skip(f"this pyarrow has no {kind}")
    column = pa.array(MONEY, getattr(pa, kind)(6, 2))
    for array in (column, column.dictionary_encode() if kind == "decimal128" else column):
        assert columnar.as_strings(array).to_pylist() == ["1.5", None, "-20", "1.5"]


def test_a_type_that_is_another_one_underneath_has_the_texts_of_its_values(tmp_path):
    stored = pa.array([key.bytes for key in KEYS] + [None], pa.binary(16))
    of_uuid = pa.ExtensionArray.from_storage(pa.uuid(), stored)
    of_bool = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, None], pa.int8()))
    table = pa.table({"key": of_uuid, "flag": of_bool})
    pq.write_table(table, tmp_path / "a.parquet")
    read = pq.read_table(tmp_path / "a.parquet")
    for own in (table, read):
        texts = columnar.as_strings(own["key"].combine_chunks()).to_pylist()
        assert texts == [str(KEYS[0]), str(KEYS[1]), None] == column_texts("key", own["key"], 0)
        flags = columnar.as_strings(own["flag"].combine_chunks()).to_pylist()
        assert flags == ["true", "false", None] == column_texts("flag", own["flag"], 0)
    vectors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 3)))
    with pytest.raises(InputError, match="cannot be read as text"):
        columnar.as_strings(vectors)


def test_a_column_is_not_taken_for_one_whose_name_goes_on_with_a_point(tmp_path):
    """By ``user`` Parquet finds ``user.since`` too, of a type that would be refused."""
    path = tmp_path / "a.parquet"
    since = pa.array([7], pa.duration("s"))
    pq.write_table(pa.table({"user.since": since, "user": ["u1"]}), path)
    source = columnar.ParquetSource((RawFile(path),), ("user",))
    (block,) = source.blocks()
    assert {k: v.to_pylist() for k, v in source.read(block).columns.items()} == {"user": ["u1"]}


def test_as_array_of_anything():
    assert columnar.as_array([1, 2]).type == pa.int64()
    assert columnar.as_array([10**30, None, "x"]).to_pylist() == [str(10**30), None, "x"]
    assert columnar.as_array([1, "x"]).to_pylist() == ["1", "x"]
    for truth in (True, np.True_):  # Of the second, beside a number, pyarrow makes 1.
        assert columnar.as_array([3, truth, None]).to_pylist() == ["3", "true", None]


@pytest.fixture
def files(tmp_path):
    paths = []
    for number, rows in enumerate((5, 3)):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"a": np.arange(rows), "b": [str(number)] * rows}), path)
        paths.append(RawFile(path))
    return tuple(paths)


def test_parquet_files_are_read_as_one(files, monkeypatch):
    monkeypatch.setattr(columnar, "BLOCK_ROWS", 2)
    source = columnar.ParquetSource(files, ("b", "a"))
    blocks = list(source.blocks())
    raw = [source.read(block) for block in blocks]
    assert [v for r in raw for v in r.columns["a"].to_pylist()] == [*"01234", *"012"]
    assert [int(v) for r in raw for v in r.lines] == [1, 2, 3, 4, 5, 1, 2, 3]
    assert [int(v) for r in raw for v in r.rows] == list(range(8))
    assert blocks[-1].position == source.size
    assert "'a': 1" in raw[0].text(1)


@pytest.mark.parametrize("rows", [1, 7, 300])
def test_texts_are_taken_as_the_dictionaries_that_files_hold(tmp_path, rows):
    """What was read without them, whatever the row groups and blocks; empty texts are missing."""
    draw = np.random.default_rng(0)
    texts = [[None, "", "Rome", "\u20ac", "x" * 40][number] for number in draw.integers(0, 5, 300)]
    many = [f"u{number}" for number in draw.zipf(1.3, 300) % 90]
    table = pa.table({"city": texts, "user": pa.array(many, pa.large_string())})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=rows, dictionary_pagesize_limit=64)
    source = columnar.ParquetSource((RawFile(tmp_path / "a.parquet"),), ("user", "city"))
    found = {"city": [], "user": []}
    for block in source.blocks():
        read = source.read(block)
        for name, values in found.items():
            assert pa.types.is_dictionary(read.columns[name].type)
            coded = columns.code(read.columns[name])
            listed = coded.values.to_pylist()
            assert len(set(listed)) == len(listed) and set(coded.codes) == set(range(len(listed)))
            values += [listed[code] for code in coded.codes]
            assert (
                columns.uncoded(read.columns[name]).values.to_pylist() == values[-len(read.lines) :]
            )
    assert found == {"city": [text or None for text in texts], "user": many}


@pytest.mark.parametrize(("rows", "block"), [(7, 100), (40, 6)])
def test_lists_of_dictionary_values_are_read_across_row_groups(tmp_path, monkeypatch, rows, block):
    monkeypatch.setattr(columnar, "BLOCK_ROWS", block)
    cells = [[f"v{number % 5}"] * (number % 3) for number in range(40)]
    column = pa.array(cells, pa.list_(pa.dictionary(pa.int32(), pa.string())))
    values = column.flatten()
    ones = pa.array(np.ones(len(values)))
    pairs = pa.StructArray.from_arrays([values, ones], ["value", "weight"])
    table = pa.table({"tags": column, "pairs": pa.ListArray.from_arrays(column.offsets, pairs)})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=rows)
    own = {"tags": Cells(None, 9), "pairs": Cells(None, 9, weighted=True)}
    source = columnar.ParquetSource((RawFile(path),), tuple(own), cells=own)
    read = [source.read(block).columns for block in source.blocks()]
    expected = [cell_text(cell) for cell in cells]
    assert [text for part in read for text in part["tags"].to_pylist()] == expected
    expected = [cell_text([(value, 1) for value in cell], weighted=True) for cell in cells]
    assert [text for part in read for text in part["pairs"].to_pylist()] == expected


def test_values_without_a_text_are_told_by_file_and_column(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"user": [b"u1", b"\xff"]}), path)
    source = columnar.ParquetSource((RawFile(path),), ("user",))
    with pytest.raises(InputError, match=r"a\.parquet: column 'user': a value is b'\\xff'"):
        source.read(next(source.blocks()))


def test_a_dictionary_may_have_a_value_twice_and_null_among_them():
    indices = pa.array([0, 2, None, 1, 3], pa.int8())
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["a", None, "a", "b", "unread"]))
    coded = columns.code(column)
    assert coded.codes.tolist() == [0, 0, 1, 1, 2] and coded.values.to_pylist() == ["a", None, "b"]
    assert columns.code(column.slice(3, 0)).codes.size == 0


def test_unusable_parquet(files, tmp_path):
    with pytest.raises(InputError, match="has no column 'c'; it has a, b"):
        list(columnar.ParquetSource(files, ("c",)).blocks())
    content = files[0].path.read_bytes()
    files[0].path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        list(columnar.ParquetSource(files, ("a",)).blocks())
    empty = tmp_path / "e.parquet"
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), empty)
    with pytest.raises(InputError, match="holds no rows"):
        list(columnar.ParquetSource((RawFile(empty),), ("a",)).blocks())


FLOATS = st.one_of(st.floats(), st.floats(-1e-3, 1e-3), st.decimals(-1, 1, places=7).map(float))


@given(st.lists(FLOATS, min_size=1, max_size=9))
def test_floats_have_one_text_on_every_path(numbers):
    texts = [text_of(number) for number in numbers]
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": pa.array(numbers, pa.float64())}), buffer)
    stored = pq.read_table(pa.BufferReader(buffer.getvalue()))["a"].combine_chunks()
    assert columnar.as_strings(stored).to_pylist() == texts
    assert columnar.as_strings(columnar.as_array(numbers)).to_pylist() == texts
    assert columnar.as_strings(columnar.as_array(np.array(numbers))).to_pylist() == texts
    for values in (numbers, np.array(numbers), pa.array(numbers, pa.float64())):
        assert column_texts("a", values, 0) == texts
    with np.errstate(over="ignore"):
        narrow = np.array(numbers, np.float32)
    texts = [text_of(number) for number in narrow]
    assert columnar.as_strings(pa.array(narrow)).to_pylist() == texts
    assert column_texts("a", pa.array(narrow), 0) == texts


def test_small_floats_of_a_file_are_numbers_as_they_are_in_text():
    column = columnar.as_strings(pa.array([5e-5, 1e-4, 3.0, 0.25]))
    assert column.to_pylist() == ["0.00005", "0.0001", "3", "0.25"]
    assert rule_of(forms_of_values(column)) == Rule("number", words=True)


def test_a_bad_row_is_shown_though_python_has_no_value_for_it(tmp_path):
    """Of nanoseconds, say: what was a reason to set a row aside ended in a traceback."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"at": pa.array([7, 8], pa.time64("ns"))}), path)
    source = columnar.ParquetSource((RawFile(path),), ("at",))
    (block,) = source.blocks()
    assert "00:00:00.000000008" in source.read(block).text(1)
