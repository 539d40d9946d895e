import shutil
import threading
import tracemalloc

import numpy as np
import pytest

from optembed_jax import data
from optembed_jax.data import reader
from optembed_jax.data.preparing import pipeline
from optembed_jax.data.reader import Reader
from optembed_jax.errors import InputError

OPTIONS = data.DataOptions(synthetic_rows=13_337, synthetic_field_size=400)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Several shards, each with a short last block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "BUCKET_BYTES", 120_000)
        made = data.prepare("synthetic", OPTIONS, tmp_path_factory.mktemp("reader"))
    assert len(made.shards["train"]) > 3
    return made


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(reader, "WINDOW_BLOCKS", 3)


def rows_of(batches):
    return np.concatenate([np.column_stack([b.ids, b.labels])[b.weights > 0] for b in batches])


def as_set(rows):
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 100, 1_024, 5_000])
def test_an_epoch_holds_every_row_once(prepared, shuffle, batch_size):
    split = "validation" if batch_size == 1 else "train"
    ids, labels = prepared.arrays(split)
    made = Reader(prepared, split, batch_size, shuffle=shuffle, remainder="pad")
    batches = list(made.epoch(0))
    assert len(batches) == made.num_batches == -(-len(ids) // batch_size)
    for batch in batches:
        assert batch.ids.shape == (batch_size, 8) and batch.ids.dtype == np.int32
        assert batch.labels.dtype == batch.weights.dtype == np.float32
        assert batch.labels.shape == batch.weights.shape == (batch_size,)
    found = rows_of(batches)
    whole = np.column_stack([ids, labels])
    np.testing.assert_array_equal(as_set(found), as_set(whole))
    assert (found == whole).all() == (not shuffle)


@pytest.mark.parametrize("first_rows", [1, 1_024, 1_025, 5_000, 10**9])
def test_a_part_of_the_split_is_the_same_rows_in_every_epoch(prepared, first_rows):
    ids, labels = prepared.arrays("train")
    whole = np.column_stack([ids, labels])
    made = Reader(prepared, "train", 512, remainder="pad", first_rows=first_rows)
    assert min(first_rows, len(whole)) <= made.num_rows < first_rows + 1_024
    assert made.num_batches == -(-made.num_rows // 512)
    first, second = (rows_of(made.epoch(epoch)) for epoch in (0, 1))
    np.testing.assert_array_equal(as_set(first), as_set(whole[: made.num_rows]))
    np.testing.assert_array_equal(as_set(second), as_set(first))
    assert (first != second).any()


def test_a_part_too_small_for_a_batch_is_refused(prepared):
    with pytest.raises(InputError, match="too few for one batch of 2000"):
        Reader(prepared, "train", 2_000, first_rows=10)


def test_shuffling_mixes_blocks_and_rows(prepared):
    ids, labels = prepared.arrays("train")
    # Rows are told apart by a number written in the place of their first id.
    position = {tuple(row): i for i, row in enumerate(np.column_stack([ids, labels]).tolist())}
    made = Reader(prepared, "train", 512)
    order = np.array([position[tuple(row)] for row in rows_of(made.epoch(0)).tolist()])
    assert abs(np.corrcoef(np.arange(len(order)), order)[0, 1]) < 0.35
    assert (np.abs(np.diff(order)) <= 1).mean() < 0.02
    # One batch takes rows from several blocks.
    assert len(np.unique(order[:512] // 1024)) >= 3


def test_the_order_depends_on_seed_and_epoch_alone(prepared):
    def order(seed, epoch):
        return rows_of(Reader(prepared, "train", 512, seed=seed).epoch(epoch))

    reference = order(1, 2)
    np.testing.assert_array_equal(order(1, 2), reference)
    assert (order(1, 3) != reference).any() and (order(2, 2) != reference).any()
    made = Reader(prepared, "train", 512, seed=1)
    list(made.epoch(0))
    np.testing.assert_array_equal(rows_of(made.epoch(2)), reference)


@pytest.mark.parametrize("remainder", ["drop", "pad", "keep"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_resumed_at_any_batch_the_rest_is_the_same(prepared, remainder, shuffle):
    def batches(start):
        made = Reader(prepared, "train", 700, seed=3, shuffle=shuffle, remainder=remainder)
        return list(made.epoch(1, start))

    whole = batches(0)
    for start in range(len(whole) + 1):
        rest = batches(start)
        assert len(rest) == len(whole) - start
        for expected, found in zip(whole[start:], rest, strict=True):
            for a, b in zip(expected, found, strict=True):
                np.testing.assert_array_equal(a, b)


def test_what_becomes_of_the_last_rows(prepared):
    rows = prepared.num_rows["train"]
    last = rows % 1_000
    assert last
    dropped = list(Reader(prepared, "train", 1_000, remainder="drop").epoch(0))
    assert len(dropped) == rows // 1_000 and all(b.weights.all() for b in dropped)
    kept = list(Reader(prepared, "train", 1_000, remainder="keep").epoch(0))
    assert len(kept[-1].ids) == last and len(kept) == len(dropped) + 1
    padded = list(Reader(prepared, "train", 1_000, remainder="pad").epoch(0))
    assert padded[-1].weights.sum() == last
    np.testing.assert_array_equal(padded[-1].ids[last:], [prepared.fields.oov_ids] * (1_000 - last))
    np.testing.assert_array_equal(padded[-1].ids[:last], kept[-1].ids)
    assert not padded[-1].labels[last:].any()


@pytest.mark.parametrize("remainder", ["drop", "pad"])
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("start", [0, 3])
def test_processes_see_together_what_one_sees(prepared, remainder, processes, start):
    options = {"seed": 5, "remainder": remainder}
    alone = list(Reader(prepared, "train", 1_000, **options).epoch(2, start))
    parts = [
        list(
            Reader(
                prepared, "train", 1_000, process_index=p, process_count=processes, **options
            ).epoch(2, start)
        )
        for p in range(processes)
    ]
    assert {len(part) for part in parts} == {len(alone)}
    for number, batch in enumerate(alone):
        for field in range(3):
            together = np.concatenate([part[number][field] for part in parts])
            np.testing.assert_array_equal(together, batch[field])


def test_a_batch_larger_than_the_split(prepared):
    rows = prepared.num_rows["test"]
    (batch,) = Reader(prepared, "test", 2 * rows, remainder="pad").epoch(0)
    assert batch.weights.sum() == rows
    (batch,) = Reader(prepared, "test", 2 * rows, remainder="keep").epoch(0)
    assert len(batch.ids) == rows
    with pytest.raises(InputError, match=f"has {rows} rows, too few for one batch"):
        Reader(prepared, "test", 2 * rows)


def test_batches_that_fill_the_split_exactly(prepared):
    rows = prepared.num_rows["test"]
    for remainder in ("drop", "pad", "keep"):
        (batch,) = Reader(prepared, "test", rows, remainder=remainder).epoch(0)
        assert len(batch.ids) == rows and batch.weights.all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "validate"}, "no split 'validate'; there are: train, validation, test"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"remainder": "fill"}, "remainder must be drop, pad or keep"),
        ({"process_index": 2, "process_count": 2}, "process_index 2 is not one of 2"),
        ({"batch_size": 9, "process_count": 2}, "batch_size 9 does not divide among 2"),
        ({"remainder": "keep", "process_count": 2}, "remainder=keep gives processes unequal"),
    ],
)
def test_bad_arguments(prepared, changes, message):
    arguments = {"split": "train", "batch_size": 10} | changes
    with pytest.raises(InputError, match=message):
        Reader(prepared, **arguments)


def test_positions_outside_an_epoch(prepared):
    made = Reader(prepared, "train", 1_000)
    for epoch, start in ((-1, 0), (0, -1), (0, made.num_batches + 1)):
        with pytest.raises(InputError, match="epochs start at 0"):
            made.epoch(epoch, start)
    assert list(made.epoch(0, made.num_batches)) == []


def test_an_epoch_may_be_left_early(prepared, monkeypatch):
    """Its thread ends, windows that nobody came to are not read, and it can be begun anew."""
    made, read, load = Reader(prepared, "train", 100), [], Reader._load
    whole = rows_of(made.epoch(0))

    def counted(self, epoch, plan, window, position, end):
        read.append(window)
        return load(self, epoch, plan, window, position, end)

    monkeypatch.setattr(Reader, "_load", counted)
    before = threading.active_count()
    batches = made.epoch(0)
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before
    assert 1 <= len(read) <= 2  # The one that was asked for, and perhaps the one after it.
    read.clear()
    np.testing.assert_array_equal(rows_of(made.epoch(0)), whole)
    assert len(read) > 3


def test_a_shard_that_becomes_unreadable_is_named(prepared, tmp_path):
    path = tmp_path / "copy"
    shutil.copytree(prepared.path, path)
    copy = data.load(path)
    shard = path / copy.shards["train"][0].file
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(InputError, match=f"{shard.name} cannot be read"):
        list(Reader(copy, "train", 100, shuffle=False).epoch(0))


def test_memory_holds_some_windows_whatever_the_size_of_the_split(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "WINDOW_BLOCKS", 1)
    big = data.DataOptions(synthetic_rows=120_000, synthetic_field_size=20)
    made = Reader(data.prepare("synthetic", big, tmp_path), "train", 256)
    list(made.epoch(0, made.num_batches - 2))  # what is loaded once, is
    tracemalloc.start()
    rows = sum(len(batch.ids) for batch in made.epoch(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A window is 1,024 rows, and there are 94; about three at once are loaded and shuffled.
    assert peak < 12 * 1_024 * 8 * 4 < rows * 8 * 4 / 7
