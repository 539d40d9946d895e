"""Shuffled batches of a prepared split: deterministic, resumable, the same on any number of hosts.

Rows were shuffled when they were prepared. Each epoch the reader shuffles the order of the blocks
anew, takes a window of them at a time into memory, and shuffles the rows of the window. Epoch and
batch number are the whole state: `epoch(e, start=b)` goes on exactly where a run stopped.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from optembed_jax.data import blocks
from optembed_jax.data.parallel import ordered_map
from optembed_jax.data.prepared import PreparedData
from optembed_jax.data.splits import check_split
from optembed_jax.errors import InputError

WINDOW_BLOCKS = 32  # 32,768 rows: what is shuffled at once should stay near the cache

Remainder = Literal["drop", "pad", "keep"]


class Batch(NamedTuple):
    """Some rows of a split.

    Attributes:
      ids: int32 ``[B, F]``, of fields with several values ``[B, S]``, with the weights of values
        ``[B, S + W]`` (`fields.Fields`).
      labels: float32 ``[B]``, 0 or 1.
      weights: float32 ``[B]``, how much a row counts, 1 where all count alike; 0 for padding.
    """

    ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """The order of one epoch: blocks in windows, and where each window starts in the epoch."""

    windows: list[np.ndarray]
    starts: np.ndarray


class Reader:
    """Batches of one split.

    With several processes each gives its own consecutive part of every batch, ``batch_size /
    process_count`` rows, so that together they see the batches that one process would see, in the
    same order; every process reads the whole split for that, which costs little beside training.

    Attributes:
      num_rows: rows of the split.
      num_batches: batches of one epoch.
      batch_size: rows of a batch over all processes.
      is_weighted: whether some rows count more than others.
    """

    def __init__(
        self,
        prepared: PreparedData,
        split: str,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        remainder: Remainder = "drop",
        process_index: int = 0,
        process_count: int = 1,
        first_rows: int | None = None,
    ) -> None:
        """Opens a split.

        Args:
          prepared: the data set.
          split: "train", "validation" or "test".
          batch_size: rows of a batch over all processes; divisible by `process_count`.
          seed: of the shuffling.
          shuffle: whether to shuffle; otherwise the rows come in stored order.
          remainder: what happens to the last rows where they fill no batch: "drop" leaves them
            out, "pad" fills up with OOV ids of weight 0, "keep" gives a smaller batch.
          process_index: which process this is.
          process_count: how many processes there are.
          first_rows: read only so many rows of the split, and what fills the last block of them,
            in every epoch the same. They are a sample: rows were shuffled when they were prepared.
            None reads all.

        Raises:
          InputError: an argument is out of range, or a dropped remainder would leave no batch.
        """
        shards = prepared.shards[check_split(split)]
        shard_of, number_in, lengths = _blocks_of([s.rows for s in shards])
        if first_rows is not None:
            whole = int(np.searchsorted(np.cumsum(lengths), first_rows)) + 1
            shard_of, number_in, lengths = shard_of[:whole], number_in[:whole], lengths[:whole]
        self._shard_of, self._number_in, self._lengths = shard_of, number_in, lengths
        self.num_rows = int(lengths.sum())
        _check(self.num_rows, split, batch_size, remainder, process_index, process_count)
        self.batch_size = batch_size
        self.num_batches = (
            self.num_rows // batch_size if remainder == "drop" else -(-self.num_rows // batch_size)
        )
        self._seed, self._shuffle, self._remainder = seed, shuffle, remainder
        self._process, self._local = process_index, batch_size // process_count
        self.is_weighted = prepared.is_weighted
        self._padding = prepared.fields.oov_example
        self._shards = [
            blocks.ShardReader(prepared.path / shard.file, prepared.fields.num_columns)
            for shard in shards
        ]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on.

        Args:
          epoch: 0 or more; with the seed it decides the order.
          start: the first batch to give, 0 to `num_batches`.

        Raises:
          InputError: `epoch` or `start` is out of range, or a shard became unreadable meanwhile.
        """
        if epoch < 0 or not 0 <= start <= self.num_batches:
            raise InputError(
                f"epoch {epoch}, batch {start}: epochs start at 0, and an epoch has "
                f"{self.num_batches} batches"
            )
        return self._batches(epoch, start)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        if start == self.num_batches:
            return
        plan = self._plan(epoch)
        position = start * self.batch_size
        end = min(self.num_batches * self.batch_size, self.num_rows)
        first = int(np.searchsorted(plan.starts, position, side="right")) - 1
        last = int(np.searchsorted(plan.starts, end, side="left"))

        def load(window: int) -> Batch:
            return self._load(epoch, plan, window, position, end)

        none = np.empty(0, np.float32)
        rest = Batch(np.empty((0, len(self._padding)), np.int32), none, none)
        for more in ordered_map(load, range(first, last), threads=1):
            if len(rest.ids):
                more = Batch(*map(np.concatenate, zip(rest, more, strict=True)))
            full = len(more.ids) - len(more.ids) % self._local
            for at in range(0, full, self._local):
                rows = slice(at, at + self._local)
                yield Batch(*(array[rows] for array in more))
            rest = Batch(*(array[full:] for array in more))
        # This process's part of a last, short batch may be empty; padding makes it a whole one.
        if end % self.batch_size and (len(rest.ids) or end > position - position % self.batch_size):
            yield from self._last(rest, end)

    def _last(self, rest: Batch, end: int) -> Iterator[Batch]:
        rows = end % self.batch_size
        mine = int(np.clip(rows - self._process * self._local, 0, self._local))
        if mine == self._local:
            return  # it was whole, and has been given
        ids, labels, weights = rest
        if self._remainder == "pad":
            missing = self._local - len(ids)
            ids = np.concatenate([ids, np.tile(self._padding, (missing, 1))])
            labels = np.concatenate([labels, np.zeros(missing, np.float32)])
            weights = np.concatenate([weights, np.zeros(missing, np.float32)])
        yield Batch(ids, labels, weights)

    def _plan(self, epoch: int) -> _Plan:
        order = np.arange(len(self._lengths))
        if self._shuffle:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(order))
        windows = np.split(order, np.arange(WINDOW_BLOCKS, len(order), WINDOW_BLOCKS))
        sizes = [int(self._lengths[window].sum()) for window in windows]
        return _Plan(windows, np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64))

    def _load(self, epoch: int, plan: _Plan, window: int, position: int, end: int) -> Batch:
        """The rows of a window that are this process's and lie between `position` and `end`."""
        chosen = plan.windows[window]
        parts: dict[int, blocks.Part] = {}
        for shard in np.unique(self._shard_of[chosen]).tolist():
            places = np.flatnonzero(self._shard_of[chosen] == shard).tolist()
            found = self._shards[shard].read(self._number_in[chosen[places]].tolist())
            parts |= zip(places, found, strict=True)
        in_order = [parts[place] for place in range(len(chosen))]
        ids = np.concatenate([part.ids for part in in_order])
        labels = np.concatenate([part.labels for part in in_order])
        order = np.arange(len(ids))
        if self._shuffle:
            draw = np.random.default_rng([self._seed, epoch, window + 1])
            order = draw.permutation(len(ids))
        at = plan.starts[window] + np.arange(len(ids))
        mine = (at >= position) & (at < end)
        mine &= at % self.batch_size // self._local == self._process
        if not mine.all():
            order = order[mine]
        weights = np.ones(len(order), np.float32)
        if self.is_weighted:
            weights = np.concatenate([blocks.weights_of(part) for part in in_order])[order]
        return Batch(ids[order], labels[order].astype(np.float32), weights)


def _check(
    rows: int, split: str, batch_size: int, remainder: str, process_index: int, process_count: int
) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if remainder not in ("drop", "pad", "keep"):
        raise InputError(f"remainder must be drop, pad or keep, got {remainder!r}")
    if process_count < 1 or not 0 <= process_index < process_count:
        raise InputError(f"process_index {process_index} is not one of {process_count} processes")
    if batch_size % process_count:
        raise InputError(f"batch_size {batch_size} does not divide among {process_count} processes")
    if remainder == "keep" and process_count > 1:
        raise InputError("remainder=keep gives processes unequal batches; use drop or pad")
    if remainder == "drop" and rows < batch_size:
        raise InputError(
            f"the {split} split has {rows} rows, too few for one batch of {batch_size}; "
            "lower batch_size"
        )


def _blocks_of(rows: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each block of all shards: its shard, its number there, and its rows; int64 ``[K]``."""
    counts = [blocks.num_blocks(count) for count in rows]
    shard_of = np.repeat(np.arange(len(rows)), counts)
    number_in = np.concatenate([np.arange(count) for count in counts])
    lengths = np.full(len(shard_of), blocks.BLOCK_ROWS, np.int64)
    ends = np.cumsum(counts) - 1
    lengths[ends] = np.array(rows) - (np.array(counts) - 1) * blocks.BLOCK_ROWS
    return shard_of, number_in, lengths
