"""Which split a row belongs to: by a seeded draw, by time, or by index files.

Splits are numbered as in `SPLITS`. Every rule is a pure function of the row's number or time, so
that the answer depends neither on how a file is cut into blocks nor on the number of threads.
"""

import pathlib

import numpy as np

from optembed_jax.data.raw.files import RawFile
from optembed_jax.errors import InputError

SPLITS = ("train", "validation", "test")
"""The names of the splits; their positions are the split numbers used below."""

TRAIN, VALIDATION, TEST = range(3)
_GROUP = 10
_MOST_UNNAMED = 2**20  # rows that index files may leave out, such as unusable ones


def check_split(split: str) -> str:
    """Returns the name of a split unchanged.

    Raises:
      InputError: there is no such split.
    """
    if split not in SPLITS:
        raise InputError(f"no split {split!r}; there are: {', '.join(SPLITS)}")
    return split


def mix(seed: int, numbers: np.ndarray) -> np.ndarray:
    """A well-mixed uint64 for each number, different for each seed (the SplitMix64 finaliser).

    Args:
      seed: any integer of 0 or more.
      numbers: integers ``[N]``.

    Returns:
      uint64 ``[N]``.
    """
    start = np.uint64((seed * 0xD1342543DE82EF95 + 0x632BE59BD9B4E019) % 2**64)
    z = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def random_split(rows: np.ndarray, seed: int) -> np.ndarray:
    """Splits rows 8:1:1 by a seeded draw.

    Each ten neighbouring rows give exactly one row to validation and one to test, drawn
    independently for each ten: the proportions hold for a table of any size, and no permutation
    of all rows has to be kept in memory.

    Args:
      rows: row numbers ``[N]``, from 0.
      seed: of the draw.

    Returns:
      Split numbers, uint8 ``[N]``.
    """
    groups, places = rows // _GROUP, rows % _GROUP
    draws = mix(seed, groups)
    validation = (draws % np.uint64(_GROUP)).astype(np.int64)
    test = (draws // np.uint64(_GROUP) % np.uint64(_GROUP - 1)).astype(np.int64)
    test += test >= validation
    split = np.full(rows.shape, TRAIN, np.uint8)
    split[places == validation] = VALIDATION
    split[places == test] = TEST
    return split


def drawn(
    split: np.ndarray, labels: np.ndarray, rows: np.ndarray, share: float, seed: int
) -> np.ndarray:
    """Which rows stay where of the training rows without a click only a share is drawn.

    Args:
      split: split numbers ``[N]``.
      labels: 0/1 ``[N]``.
      rows: row numbers ``[N]``, from 0; with the seed they decide.
      share: in (0, 1], the chance of each of those rows.
      seed: of the draw.

    Returns:
      bool ``[N]``.
    """
    if share == 1:
        return np.ones(len(rows), bool)
    lucky = mix(seed * 3 + 2, rows) < np.uint64(share * 2**64)
    return np.asarray((split != TRAIN) | (labels != 0) | lucky)


class TimeCounts:
    """How many rows there are at each time, kept in as much memory as there are distinct times."""

    _PENDING = 2**22

    def __init__(self) -> None:
        self._times = [np.empty(0, np.int64)]
        self._counts = [np.empty(0, np.int64)]

    def add(self, times: np.ndarray) -> None:
        """Counts more rows, int64 ``[N]``."""
        self.take(*np.unique(times, return_counts=True))

    def take(self, found: np.ndarray, counts: np.ndarray) -> None:
        """Counts rows of distinct times, int64 ``[T]``, so many of each."""
        self._times.append(found)
        self._counts.append(counts)
        if sum(map(len, self._times[1:])) > max(self._PENDING, len(self._times[0])):
            self.counts()

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct times, increasing, and the rows at each of them, int64 ``[T]``."""
        times, places = np.unique(np.concatenate(self._times), return_inverse=True)
        counts = np.bincount(places, np.concatenate(self._counts), len(times)).astype(np.int64)
        self._times, self._counts = [times], [counts]
        return times, counts


def time_limits(times: np.ndarray, counts: np.ndarray) -> tuple[int, int]:
    """The times at which validation and test begin: about 80 % and 90 % of the rows are earlier.

    Rows of equal time stay together, so the shares are as near as the times allow.

    Args:
      times: distinct times ``[T]``, any order.
      counts: rows at each of them ``[T]``.

    Returns:
      The first time of the validation split and the first of the test split.

    Raises:
      InputError: fewer than three distinct times.
    """
    if len(times) < 3:
        raise InputError(
            f"split=time needs at least 3 different times, the data have {len(times)}; "
            "use split=random"
        )
    order = np.argsort(times)
    times, before = times[order], np.concatenate([[0], np.cumsum(counts[order])[:-1]])
    total = counts.sum()
    # Each split keeps at least one time.
    validation = int(np.clip(np.searchsorted(before, 0.8 * total), 1, len(times) - 2))
    test = int(np.clip(np.searchsorted(before, 0.9 * total), validation + 1, len(times) - 1))
    return int(times[validation]), int(times[test])


def time_split(times: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    """Splits rows at the two times of `time_limits`: uint8 ``[N]`` for int64 ``[N]``."""
    validation, test = limits
    return (times >= validation).astype(np.uint8) + (times >= test).astype(np.uint8)


def read_split_index(folder: str) -> np.ndarray:
    """Reads index files that assign rows to splits, such as those of Criteo_x4 and Avazu_x4.

    The folder holds one file for each split whose name begins with `train`, `valid` and `test`
    (for example `train_index.npy`): a NumPy array or a text file with one row number per line.
    Row numbers count the data rows of the raw file from 0.

    Returns:
      Split numbers by row number, uint8 ``[N]``; 255 marks a row that no file names.

    Raises:
      InputError: a file is missing, unreadable, names a row twice or one far beyond all others.
    """
    indices = {split: _read_index(folder, split) for split in SPLITS}
    last = {split: int(index.max(initial=-1)) for split, index in indices.items()}
    size, named = 1 + max(last.values()), sum(map(len, indices.values()))
    if size > 2 * named + _MOST_UNNAMED:  # before memory is taken for each of them
        far = max(last, key=lambda split: last[split])
        raise InputError(
            f"split_index file {_index_file(folder, far)} names row {last[far]}, but the files "
            f"name {named:,} rows in all; rows are numbered from 0, one after another"
        )
    assigned = np.full(size, 255, np.uint8)
    for number, split in enumerate(SPLITS):
        index = indices[split]
        taken = index[assigned[index] != 255]
        if len(taken) or len(np.unique(index)) != len(index):
            row = int(taken[0]) if len(taken) else "a row"
            raise InputError(f"split_index {folder}: {row} of the {split} index is listed twice")
        assigned[index] = number
    return assigned


def check_split_index(folder: str, assigned: np.ndarray, rows: int) -> None:
    """Refuses index files that name rows which the raw files do not have.

    Args:
      folder: of the index files.
      assigned: split numbers by row number, as of `read_split_index`.
      rows: of the raw files.

    Raises:
      InputError: naming the first of them and its file.
    """
    beyond = np.flatnonzero(assigned[rows:] != 255)
    if len(beyond):
        row = rows + int(beyond[0])
        file = _index_file(folder, SPLITS[assigned[row]])
        raise InputError(
            f"split_index file {file} names row {row} (from 0), but the raw files have {rows:,} "
            "rows; do they belong together?"
        )


def split_index_files(folder: str) -> list[RawFile]:
    """The index files of a folder, in the order of `SPLITS`.

    Raises:
      InputError: one of them is missing, or there are several for a split.
    """
    return [RawFile(_index_file(folder, split)) for split in SPLITS]


def _index_file(folder: str, split: str) -> pathlib.Path:
    stem = "valid" if split == "validation" else split
    found = sorted(
        path
        for path in pathlib.Path(folder).glob(f"{stem}*")
        if path.suffix in (".npy", ".txt", ".csv")
    )
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise InputError(
            f"split_index {folder}: exactly one {stem}*.npy, .txt or .csv file is needed, "
            f"found {names}"
        )
    return found[0]


def _read_index(folder: str, split: str) -> np.ndarray:
    path = _index_file(folder, split)
    try:
        if path.suffix == ".npy":
            index = np.load(path, allow_pickle=False)
        else:
            index = np.loadtxt(path, dtype=np.int64, ndmin=1)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"split_index file {path} cannot be read: {error}") from error
    most = np.iinfo(np.int64).max
    is_list = index.ndim == 1 and index.dtype.kind in "iu"
    if not is_list or (len(index) and (index.min() < 0 or index.max() > most)):
        raise InputError(f"split_index file {path} must be a list of row numbers from 0")
    return index.astype(np.int64)
