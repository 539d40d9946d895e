import numpy as np
import pytest

from optembed_jax.data import blocks
from optembed_jax.errors import InputError


def parts(count, fields=3, seed=0, grouped=False, weighted=False):
    rng = np.random.default_rng(seed)
    for size in [blocks.BLOCK_ROWS] * (count - 1) + [7]:
        yield blocks.Part(
            rng.integers(-(2**31), 2**31 - 1, (size, fields)).astype(np.int32),
            rng.integers(0, 2, size).astype(np.uint8),
            rng.integers(-(2**63), 2**63 - 1, size) if grouped else None,
            rng.exponential(size=size).astype(np.float32) if weighted else None,
        )


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fields", [1, 39])
def test_what_is_written_is_read(tmp_path, fields, grouped, weighted):
    path = tmp_path / "shard"
    expected = list(parts(5, fields, grouped=grouped, weighted=weighted))
    assert blocks.write_shard(path, expected) == 5
    reader = blocks.ShardReader(path, fields)
    for numbers in ([0], [4, 0, 2], [1, 1]):
        for number, part in zip(numbers, reader.read(numbers), strict=True):
            assert part.ids.dtype == np.int32 and part.labels.dtype == np.uint8
            assert not weighted or part.weights.dtype == np.float32
            for found, wanted in zip(part, expected[number], strict=True):
                np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_records_are_those_of_tensorflow_datasets(grouped, weighted):
    part = next(parts(2, grouped=grouped, weighted=weighted))
    features = blocks.features(3, grouped, weighted)
    read = features.deserialize_example_np(blocks._serialize(part))
    held = {name: values for name, values in part._asdict().items() if values is not None}
    assert read.keys() == held.keys()
    for name, values in held.items():
        np.testing.assert_array_equal(read[name], values)
    theirs = features.serialize_example(held)
    for found, wanted in zip(blocks._parse(theirs, 3), part, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        blocks.write_shard(tmp_path / name, parts(3))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_num_blocks():
    rows = [1, 1023, 1024, 1025, 2048, 2049]
    assert [blocks.num_blocks(r) for r in rows] == [1, 1, 1, 2, 2, 3]


def test_a_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(OSError, match="could not be written"):
        blocks.write_shard(tmp_path / "nowhere" / "shard", parts(1))


def test_no_byte_that_flips_while_it_is_read_changes_rows_silently(tmp_path):
    path, fields = tmp_path / "shard", 39
    expected = list(parts(3, fields))
    blocks.write_shard(path, expected)
    reader = blocks.ShardReader(path, fields)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    noticed = 0
    for _ in range(200):
        place = int(rng.integers(len(whole)))
        with path.open("r+b") as stream:  # in place: the reader has the file open
            stream.seek(place)
            stream.write(bytes([whole[place] ^ (1 << int(rng.integers(8)))]))
        try:
            for (ids, labels, *_), (same, as_well, *_) in zip(
                reader.read([0, 1, 2]), expected, strict=True
            ):
                np.testing.assert_array_equal(ids, same)
                np.testing.assert_array_equal(labels, as_well)
        except InputError as error:
            assert "shard cannot be read: " in str(error)
            noticed += 1
        with path.open("r+b") as stream:
            stream.seek(place)
            stream.write(whole[place : place + 1])
    assert noticed > 100  # ArrayRecord has checksums of its own; some bytes only fill up
    reader.read([0, 1, 2])
