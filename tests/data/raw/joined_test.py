import numpy as np
import pyarrow as pa

from optembed_jax.data.raw.columnar import TableSource
from optembed_jax.data.raw.dialect import Dialect
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.joined import Joined, Partitioned
from optembed_jax.data.raw.text import TextSource


def test_sources_are_read_as_one(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("v,w\n1,x\n2,\n")
    text = TextSource((RawFile(path),), Dialect(("v", "w"), ",", quoted=True, header=True), ("v",))
    table = TableSource(pa.table({"v": np.arange(3, 6)}))
    joined = Joined((table, Partitioned(text, {"day": "d"}), text, table))
    blocks = list(joined.blocks())
    rows = [joined.read(block) for block in blocks]
    values = [v for raw in rows for v in raw.columns["v"].to_pylist()]
    assert values == ["3", "4", "5", "1", "2", "1", "2", "3", "4", "5"]
    assert [n for raw in rows for n in raw.rows.tolist()] == list(range(10))
    assert rows[1].columns["day"].to_pylist() == ["d", "d"]
    assert rows[1].lines.tolist() == [2, 3]
    assert [block.file for block in blocks] == [0, 0, 1, 2]
    assert joined.files == (RawFile(path), RawFile(path))
    assert blocks[-1].position == joined.size == 2 * table.size + 2 * path.stat().st_size


def test_nothing_joined_is_nothing():
    assert list(Joined(()).blocks()) == [] and Joined(()).size == 0
