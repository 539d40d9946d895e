import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optembed_jax.data.raw import columns, parquet
from optembed_jax.data.raw.files import RawFile
from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells, cell_text


def test_a_column_is_not_taken_for_one_whose_name_goes_on_with_a_point(tmp_path):
    """By ``user`` Parquet finds ``user.since`` too, of a type that would be refused."""
    path = tmp_path / "a.parquet"
    since = pa.array([7], pa.duration("s"))
    pq.write_table(pa.table({"user.since": since, "user": ["u1"]}), path)
    source = parquet.ParquetSource((RawFile(path),), ("user",))
    (block,) = source.blocks()
    assert {k: v.to_pylist() for k, v in source.read(block).columns.items()} == {"user": ["u1"]}


@pytest.fixture
def files(tmp_path):
    paths = []
    for number, rows in enumerate((5, 3)):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"a": np.arange(rows), "b": [str(number)] * rows}), path)
        paths.append(RawFile(path))
    return tuple(paths)


def test_parquet_files_are_read_as_one(files, monkeypatch):
    monkeypatch.setattr(parquet, "BLOCK_ROWS", 2)
    source = parquet.ParquetSource(files, ("b", "a"))
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
    source = parquet.ParquetSource((RawFile(tmp_path / "a.parquet"),), ("user", "city"))
    found = {"city": [], "user": []}
    for block in source.blocks():
        read = source.read(block)
        for name, values in found.items():
            assert pa.types.is_dictionary(read.columns[name].type)
            coded = columns.code(read.columns[name])
            listed = coded.values.to_pylist()
            texts_only = [text for text in listed if text is not None]
            assert len(set(texts_only)) == len(texts_only)
            assert set(coded.codes) == set(range(len(listed)))
            values += [listed[code] for code in coded.codes]
            assert (
                columns.uncoded(read.columns[name]).values.to_pylist() == values[-len(read.lines) :]
            )
    assert found == {"city": [text or None for text in texts], "user": many}


@pytest.mark.parametrize(("rows", "block"), [(7, 100), (40, 6)])
def test_lists_of_dictionary_values_are_read_across_row_groups(tmp_path, monkeypatch, rows, block):
    monkeypatch.setattr(parquet, "BLOCK_ROWS", block)
    cells = [[f"v{number % 5}"] * (number % 3) for number in range(40)]
    column = pa.array(cells, pa.list_(pa.dictionary(pa.int32(), pa.string())))
    values = column.flatten()
    ones = pa.array(np.ones(len(values)))
    pairs = pa.StructArray.from_arrays([values, ones], ["value", "weight"])
    table = pa.table({"tags": column, "pairs": pa.ListArray.from_arrays(column.offsets, pairs)})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=rows)
    own = {"tags": Cells(None, 9), "pairs": Cells(None, 9, weighted=True)}
    source = parquet.ParquetSource((RawFile(path),), tuple(own), cells=own)
    read = [source.read(block).columns for block in source.blocks()]
    expected = [cell_text(cell) for cell in cells]
    assert [text for part in read for text in part["tags"].to_pylist()] == expected
    expected = [cell_text([(value, 1) for value in cell], weighted=True) for cell in cells]
    assert [text for part in read for text in part["pairs"].to_pylist()] == expected


def test_values_without_a_text_are_told_by_file_and_column(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"user": [b"u1", b"\xff"]}), path)
    source = parquet.ParquetSource((RawFile(path),), ("user",))
    with pytest.raises(InputError, match=r"a\.parquet: column 'user': a value is b'\\xff'"):
        source.read(next(source.blocks()))


def test_a_dictionary_may_have_a_value_twice_and_null_among_them():
    indices = pa.array([0, 2, None, 1, 3], pa.int8())
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["a", None, "a", "b", "unread"]))
    coded = columns.code(column)
    assert coded.values.take(pa.array(coded.codes)).to_pylist() == ["a", "a", None, None, "b"]
    assert "unread" not in coded.values.to_pylist()
    assert columns.code(column.slice(3, 0)).codes.size == 0
    all_read = pa.DictionaryArray.from_arrays(indices.slice(0, 4), pa.array(["a", None, "a"]))
    every = columns.code(all_read)
    assert every.values.take(pa.array(every.codes)).to_pylist() == ["a", "a", None, None]


def test_unusable_parquet(files, tmp_path):
    with pytest.raises(InputError, match="has no column 'c'; it has a, b"):
        list(parquet.ParquetSource(files, ("c",)).blocks())
    content = files[0].path.read_bytes()
    files[0].path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        list(parquet.ParquetSource(files, ("a",)).blocks())
    empty = tmp_path / "e.parquet"
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), empty)
    with pytest.raises(InputError, match="holds no rows"):
        list(parquet.ParquetSource((RawFile(empty),), ("a",)).blocks())


def test_a_bad_row_is_shown_though_python_has_no_value_for_it(tmp_path):
    """Of nanoseconds, say: what was a reason to set a row aside ended in a traceback."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"at": pa.array([7, 8], pa.time64("ns"))}), path)
    source = parquet.ParquetSource((RawFile(path),), ("at",))
    (block,) = source.blocks()
    assert "00:00:00.000000008" in source.read(block).text(1)


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [
        ([], 5, []),
        ([3], 5, [[0]]),
        ([9], 5, [[0]]),
        ([2, 3, 1], 5, [[0, 1], [2]]),
        ([0, 0, 7, 0, 5, 0], 5, [[0, 1, 2], [3, 4, 5]]),
        ([4, 9, 1, 4], 5, [[0], [1], [2, 3]]),
    ],
)
def test_row_groups_that_are_read_as_one(sizes, most, expected):
    assert [list(found) for found in parquet.together(sizes, most)] == expected


@pytest.fixture
def grouped(tmp_path):
    """A file of 12 row groups of 5 rows, with texts that differ from group to group."""
    path = tmp_path / "a.parquet"
    names = [f"u{number // 2}" for number in range(60)]
    pq.write_table(pa.table({"n": range(60), "name": names}), path, row_group_size=5)
    return RawFile(path)


@pytest.mark.parametrize("cells", [2, 30, 1000])  # a group is larger, three are read as one, all
def test_rows_come_in_order_however_many_row_groups_are_read_at_once(grouped, monkeypatch, cells):
    monkeypatch.setattr(parquet, "BLOCK_ROWS", 3)
    monkeypatch.setattr(parquet, "CELLS_AHEAD", cells)
    source = parquet.ParquetSource((grouped,), ("name", "n"))
    blocks = list(source.blocks())
    assert max(block.content.num_rows for block in blocks) <= 3
    read = [source.read(block) for block in blocks]
    assert [int(n) for part in read for n in part.columns["n"].to_pylist()] == list(range(60))
    names = [name for part in read for name in part.columns["name"].to_pylist()]
    assert names == [f"u{number // 2}" for number in range(60)]
    assert [int(row) for part in read for row in part.rows] == list(range(60))


def test_row_groups_are_read_in_parallel(grouped, monkeypatch):
    """Each waits for another one to be read: were there one thread, none would come."""
    both = threading.Barrier(2, timeout=60)

    class Meeting(pq.ParquetFile):
        def iter_batches(self, *args, **kwargs):
            both.wait()
            return super().iter_batches(*args, **kwargs)

    monkeypatch.setattr(parquet.pq, "ParquetFile", Meeting)
    monkeypatch.setattr(parquet, "workers", lambda: 2)
    monkeypatch.setattr(parquet, "BLOCK_ROWS", 10)
    monkeypatch.setattr(parquet, "CELLS_AHEAD", 1)
    blocks = list(parquet.ParquetSource((grouped,), ("n",)).blocks())
    assert [block.row for block in blocks] == [0, 10, 20, 30, 40, 50]


def test_rows_not_wanted_any_more_stop_the_reading(grouped, monkeypatch):
    monkeypatch.setattr(parquet, "BLOCK_ROWS", 5)
    monkeypatch.setattr(parquet, "CELLS_AHEAD", 5)
    blocks = parquet.ParquetSource((grouped,), ("n",)).blocks()
    assert next(blocks).content.num_rows == 5
    threads = threading.active_count()
    blocks.close()
    assert threading.active_count() < threads
