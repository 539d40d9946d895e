import importlib.util
import pickle
import threading

import numpy as np
import pytest

from optembed_jax import data
from optembed_jax.data import BlockSource, RowSource
from optembed_jax.data.preparing import pipeline
from optembed_jax.errors import InputError

needs_grain = pytest.mark.skipif(
    importlib.util.find_spec("grain") is None, reason="grain is not installed"
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Several shards, each with a short last block."""
    options = data.DataOptions(synthetic_rows=6_000, synthetic_field_size=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "BUCKET_BYTES", 60_000)
        made = data.prepare("synthetic", options, tmp_path_factory.mktemp("sources"))
    assert len(made.shards["train"]) > 2
    return made


def read(prepared, split="train"):
    """What the library's own reader gives, in stored order."""
    reader = data.Reader(prepared, split, 500, shuffle=False, remainder="keep")
    return [np.concatenate(parts) for parts in zip(*reader.epoch(0), strict=True)]


def assert_equal(found, expected):
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(own, other)
        assert own.dtype == other.dtype


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_rows_and_blocks_are_those_of_the_reader(prepared, split):
    expected = read(prepared, split)
    rows, parts = RowSource(prepared, split), BlockSource(prepared, split)
    assert len(rows) == len(expected[0]) == prepared.num_rows[split]
    assert_equal(
        [np.stack(own) for own in zip(*(rows[n] for n in range(len(rows))), strict=True)], expected
    )
    held = [parts[number] for number in range(len(parts))]
    assert max(len(part.labels) for part in held) <= 1024
    assert_equal([np.concatenate(own) for own in zip(*held, strict=True)], expected)


def test_weights_are_those_of_the_rows(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{rng.integers(2)},{rng.integers(9)},{rng.integers(1, 5)}" for _ in range(300)]
    (tmp_path / "rows.csv").write_text("\n".join(["click,user,seen", *lines]))
    options = data.DataOptions(
        table_file=str(tmp_path / "rows.csv"), label="click", categorical=["user"], weight="seen"
    )
    weighted = data.prepare("table", options, tmp_path / "data")
    rows, expected = RowSource(weighted, "train"), read(weighted)
    assert set(expected[2]) == {1, 2, 3, 4}
    every = map(rows.__getitem__, range(len(rows)))
    assert_equal([np.stack(own) for own in zip(*every, strict=True)], expected)


def test_there_is_no_row_before_the_first_or_behind_the_last(prepared):
    for source in (RowSource(prepared, "test"), BlockSource(prepared, "test")):
        for number in (-1, len(source)):
            with pytest.raises(IndexError, match=f"no number {number} of {len(source)}"):
                source[number]
    with pytest.raises(InputError, match="no split 'valid'"):
        RowSource(prepared, "valid")


def test_a_source_is_known_again_by_its_rows(prepared):
    train, test = RowSource(prepared, "train"), RowSource(prepared, "test")
    assert repr(train) == repr(RowSource(prepared, "train")) != repr(test)
    assert repr(BlockSource(prepared, "train")).startswith("BlockSource(synthetic, train, ")


def test_other_processes_and_threads_read_the_same(prepared):
    source, expected = RowSource(prepared, "train"), read(prepared)
    source[0]  # What is open and remembered stays here.
    sent = pickle.loads(pickle.dumps(source))  # noqa: S301
    found = {}

    def look(start):
        for number in range(start, len(sent), 4):
            found[number] = sent[number]

    threads = [threading.Thread(target=look, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    in_order = [found[number] for number in range(len(sent))]
    assert_equal([np.stack(own) for own in zip(*in_order, strict=True)], expected)


@needs_grain
def test_grain_shuffles_and_batches_them(prepared):
    import grain

    source, expected = RowSource(prepared, "train"), read(prepared)
    assert isinstance(source, grain.sources.RandomAccessDataSource)
    ordered = list(grain.MapDataset.source(source).batch(256))
    assert_equal([np.concatenate(own) for own in zip(*ordered, strict=True)], expected)
    shuffled = list(grain.MapDataset.source(source).shuffle(seed=1).batch(256))
    rows = [np.column_stack([b.ids, b.labels]) for b in shuffled]
    found, whole = np.concatenate(rows), np.column_stack(expected[:2])
    assert (found != whole).any()
    np.testing.assert_array_equal(found[np.lexsort(found.T)], whole[np.lexsort(whole.T)])


@needs_grain
def test_the_pipeline_of_the_documentation_gives_every_row_once(prepared):
    import grain

    source = BlockSource(prepared, "train")
    blocks = grain.MapDataset.source(source).shuffle(seed=1).repeat(1).to_iter_dataset()
    batches = grain.experimental.RebatchIterDataset(blocks, batch_size=100, drop_remainder=False)
    found = list(batches)
    assert {len(batch.ids) for batch in found[:-1]} == {100}
    whole = np.column_stack(read(prepared)[:2])
    got = np.concatenate([np.column_stack([b.ids, b.labels]) for b in found])
    assert (got != whole).any()
    np.testing.assert_array_equal(got[np.lexsort(got.T)], whole[np.lexsort(whole.T)])
