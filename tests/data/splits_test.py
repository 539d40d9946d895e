import numpy as np
import pytest

from optembed_jax.data import splits
from optembed_jax.errors import InputError


def test_every_ten_rows_give_one_to_validation_and_one_to_test():
    split = splits.random_split(np.arange(10_000), seed=3).reshape(-1, 10)
    assert ((split == splits.VALIDATION).sum(axis=1) == 1).all()
    assert ((split == splits.TEST).sum(axis=1) == 1).all()
    # Each place in the ten is drawn about equally often, so nothing is systematic.
    for number in (splits.VALIDATION, splits.TEST):
        assert (split == number).sum(axis=0).min() > 60


def test_random_split_depends_on_the_row_and_the_seed_alone():
    whole = splits.random_split(np.arange(1_000), seed=1)
    parts = [splits.random_split(np.arange(a, a + 125), seed=1) for a in range(0, 1_000, 125)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert (splits.random_split(np.arange(1_000), seed=2) != whole).any()


def test_mix_spreads_neighbouring_numbers():
    mixed = splits.mix(0, np.arange(100_000))
    assert len(np.unique(mixed)) == 100_000
    share = np.bincount((mixed % np.uint64(16)).astype(int)) / 100_000
    np.testing.assert_allclose(share, 1 / 16, atol=0.005)
    assert abs(np.corrcoef(np.arange(100_000), mixed.astype(float))[0, 1]) < 0.02


def test_time_split_keeps_order_and_equal_times_together():
    times = np.repeat(np.arange(100), 10)
    np.random.default_rng(0).shuffle(times)
    distinct, counts = np.unique(times, return_counts=True)
    split = splits.time_split(times, splits.time_limits(distinct, counts))
    assert times[split == 0].max() < times[split == 1].min()
    assert times[split == 1].max() < times[split == 2].min()
    assert [int((split == s).sum()) for s in range(3)] == [800, 100, 100]


def test_time_split_of_three_times_gives_each_split_one():
    limits = splits.time_limits(np.array([5, 1, 3]), np.array([1, 1_000, 1]))
    np.testing.assert_array_equal(splits.time_split(np.array([1, 3, 5]), limits), [0, 1, 2])


def test_time_split_of_two_times_is_refused():
    with pytest.raises(InputError, match="at least 3 different times"):
        splits.time_limits(np.array([1, 2]), np.array([5, 5]))


def test_split_index_of_arrays_and_text(tmp_path):
    np.save(tmp_path / "train_index.npy", np.array([0, 2, 4, 7]))
    (tmp_path / "valid_index.txt").write_text("1\n6\n")
    (tmp_path / "test_index.csv").write_text("3\n")
    np.testing.assert_array_equal(
        splits.read_split_index(str(tmp_path)), [0, 1, 0, 2, 0, 255, 1, 0]
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": [0, 1], "valid": [1], "test": [2]}, "1 of the validation index is listed twice"),
        ({"train": [0, 0], "valid": [1], "test": [2]}, "listed twice"),
        ({"train": [0, -1], "valid": [1], "test": [2]}, "row numbers from 0"),
        ({"train": [0], "valid": [1]}, r"exactly one test\*"),
        (
            {"train": [0], "valid": [10**15], "test": [2]},
            r"valid\.npy names row 1000000000000000, but the files name 3 rows in all",
        ),
        ({"train": np.array([2**64 - 1], np.uint64), "valid": [1], "test": [2]}, "row numbers"),
        ({"train": [[0]], "valid": [1], "test": [2]}, "row numbers from 0"),
    ],
)
def test_bad_split_index_is_refused(tmp_path, files, message):
    for name, rows in files.items():
        np.save(tmp_path / f"{name}.npy", np.array(rows))
    with pytest.raises(InputError, match=message):
        splits.read_split_index(str(tmp_path))


@pytest.mark.parametrize("content", ["", "1\nx\n", "1" * 30 + "\n"])
def test_a_split_index_that_cannot_be_read_is_named(tmp_path, content):
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).write_text("0\n")
    path = tmp_path / ("test.txt" if content else "test.npy")
    path.write_text(content)
    with pytest.raises(InputError, match=rf"split_index file {path} cannot be read"):
        splits.read_split_index(str(tmp_path))


@pytest.mark.parametrize("rows", [5, 6, 10**6])
def test_a_split_index_of_no_more_rows_than_there_are(tmp_path, rows):
    assigned = np.array([0, 1, 255, 2, 0], np.uint8)
    splits.check_split_index(str(tmp_path), assigned, rows)
    splits.check_split_index(str(tmp_path), np.append(assigned, [255, 255]).astype(np.uint8), 5)


def test_rows_of_a_split_index_that_are_not_there_are_named(tmp_path):
    for name, rows in {"train": [0, 4], "valid": [1], "test": [3]}.items():
        np.save(tmp_path / f"{name}.npy", np.array(rows))
    assigned = splits.read_split_index(str(tmp_path))
    for there, row, name in ((4, 4, "train"), (3, 3, "test"), (1, 1, "valid"), (0, 0, "train")):
        message = rf"{name}\.npy names row {row} \(from 0\), but the raw files have {there} rows"
        with pytest.raises(InputError, match=message):
            splits.check_split_index(str(tmp_path), assigned, there)


def test_split_index_never_unpickles(tmp_path):
    np.save(tmp_path / "train.npy", np.array([{"a": 1}], dtype=object))
    for name in ("valid", "test"):
        np.save(tmp_path / f"{name}.npy", np.array([1]))
    with pytest.raises(InputError, match="cannot be read"):
        splits.read_split_index(str(tmp_path))


def test_time_counts_are_those_of_all_rows_together(monkeypatch):
    monkeypatch.setattr(splits.TimeCounts, "_PENDING", 50)
    times = np.random.default_rng(0).integers(-5, 300, 5_000)
    counted = splits.TimeCounts()
    for part in np.array_split(times, 40):
        counted.add(part)
    for found, expected in zip(counted.counts(), np.unique(times, return_counts=True), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_negatives_are_drawn_by_seed_and_row_number_in_training_alone(share):
    rng, rows = np.random.default_rng(0), np.arange(60_000)
    split, labels = rng.integers(0, 3, 60_000).astype(np.uint8), rng.random(60_000) < 0.3
    stays = splits.drawn(split, labels, rows, share, seed=4)
    negatives = (split == splits.TRAIN) & ~labels
    assert stays[~negatives].all()
    count = negatives.sum()
    assert abs(stays[negatives].sum() - share * count) < 4 * np.sqrt(count * share * (1 - share))
    # Of some rows as of all, and of another seed or split otherwise.
    part = rng.permutation(60_000)[:999]
    found = splits.drawn(split[part], labels[part], rows[part], share, seed=4)
    np.testing.assert_array_equal(found, stays[part])
    assert (splits.drawn(split, labels, rows, share, seed=5) != stays).any()
    in_train = splits.random_split(rows, 4) == splits.TRAIN
    drawn = splits.drawn(np.zeros(60_000), np.zeros(60_000), rows, share, seed=4)
    assert abs(drawn[in_train].mean() - drawn[~in_train].mean()) < 0.02, "draws are their own"
    assert splits.drawn(split, labels, rows, 1.0, seed=4).all()


def test_split_names():
    assert splits.check_split("train") == "train"
    with pytest.raises(InputError, match="no split 'valid'"):
        splits.check_split("valid")
