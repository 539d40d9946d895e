import dataclasses

import numpy as np
import pytest

from experiments.benchmarks import arrays
from experiments.benchmarks.arrays import Split, problem_of
from optembed_jax.errors import InputError


@pytest.fixture
def problem(draw_clicks, fields):
    rows = dict(zip(arrays.SPLITS, (40, 9, 7), strict=True))
    splits = {name: draw_clicks(fields, n, seed=n) for name, n in rows.items()}
    return problem_of("d", fields, splits)


def test_a_split_in_memory_gives_every_row_once():
    ids, labels = np.arange(10, dtype=np.int32)[:, None], np.ones(10, np.float32)
    shuffled = Split(ids, labels, 4, seed=0)
    seen = np.concatenate([batch.ids for batch in shuffled.epoch(1)])
    assert len(seen) == 8 == len(np.unique(seen))
    padded = list(dataclasses.replace(shuffled, seed=None).epoch(0))
    assert [int(batch.weights.sum()) for batch in padded] == [4, 4, 2]
    real = np.concatenate([batch.ids[batch.weights > 0] for batch in padded])
    np.testing.assert_array_equal(real, ids)


def test_what_is_written_is_read_again(problem, tmp_path):
    arrays.write(problem, tmp_path / "kept" / "d")
    read = arrays.read(tmp_path / "kept" / "d")
    assert read.name == "d" and read.fields == problem.fields
    np.testing.assert_array_equal(read.counts, problem.counts)
    for split, (ids, labels) in problem.arrays.items():
        assert isinstance(read.arrays[split][0], np.memmap)
        np.testing.assert_array_equal(read.arrays[split][0], ids)
        np.testing.assert_array_equal(read.arrays[split][1], labels)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["d"]


@pytest.mark.parametrize("damage", ["missing", "cut off", "no fields"])
def test_a_folder_that_is_not_whole_is_refused(problem, tmp_path, damage):
    folder = tmp_path / "d"
    arrays.write(problem, folder)
    if damage == "missing":
        (folder / "test_ids.npy").unlink()
    elif damage == "cut off":
        file = folder / "train_ids.npy"
        file.write_bytes(file.read_bytes()[:-8])
    else:
        (folder / "fields.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds no data set .*; delete it, and it is made again"):
        arrays.read(folder)
