import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optembed_jax.data.raw import columnar
from optembed_jax.data.raw.sources import RawFile
from optembed_jax.errors import InputError


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


def test_as_array_of_anything():
    assert columnar.as_array([1, 2]).type == pa.int64()
    assert columnar.as_array([10**30, None, "x"]).to_pylist() == [str(10**30), None, "x"]
    assert columnar.as_array([1, "x"]).to_pylist() == ["1", "x"]


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
