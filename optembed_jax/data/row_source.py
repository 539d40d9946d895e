"""The rows of a prepared split by number, as Grain's ``RandomAccessDataSource`` asks for them.

That is a protocol, so nothing of Grain is imported: ``grain.MapDataset.source(RowSource(...))``.
Training here reads by ``reader``, whose epochs are resumable and the same on any number of hosts;
this is for those whose pipeline is Grain's.
"""

import functools
from typing import Any

import numpy as np

from optembed_jax.data import blocks
from optembed_jax.data.prepared import PreparedData
from optembed_jax.data.reader import Batch
from optembed_jax.data.splits import check_split

_REMEMBERED = 64  # blocks: some 10 MB of 39 fields


class BlockSource:
    """The blocks of a split, in stored order: item ``n`` is a ``Batch`` of up to 1,024 rows.

    Rows were shuffled when they were prepared, so blocks in any order are what a pipeline that
    shuffles should read: of a row alone a whole block has to be read, too. Items are as threads and
    processes may ask for them; where they are sent to another process, files are opened there.
    """

    def __init__(self, prepared: PreparedData, split: str) -> None:
        """Opens a split.

        Raises:
          InputError: there is no such split.
        """
        shards = prepared.shards[check_split(split)]
        self._told = f"{prepared.name}, {split}, {prepared.fingerprint}"
        self._files = [(prepared.path / shard.file, shard.rows) for shard in shards]
        self._columns, self._is_weighted = prepared.fields.num_columns, prepared.is_weighted
        self._open()

    def _open(self) -> None:
        self._shards = [blocks.ShardReader(path, self._columns) for path, _ in self._files]
        counts = [blocks.num_blocks(rows) for _, rows in self._files]
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        """How many blocks there are."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Batch:
        """A block: ids int32 ``[rows, S]``, with weights of values ``[rows, S + W]``; labels and
        weights float32 ``[rows]``.

        Raises:
          IndexError: there is no such block.
          InputError: its file was damaged meanwhile.
        """
        _check(index, len(self))
        shard, before = _shard_of(self._ends, index)
        (part,) = self._shards[shard].read([index - before])
        ones = np.ones(len(part.labels), np.float32)
        weights = blocks.weights_of(part) if self._is_weighted else ones
        return Batch(part.ids, part.labels.astype(np.float32), weights)

    def __repr__(self) -> str:
        """Equal exactly for equal rows, by which Grain knows a source that it goes on with."""
        return f"{type(self).__name__}({self._told})"

    def __getstate__(self) -> dict[str, Any]:
        """All but the open files."""
        return {name: value for name, value in vars(self).items() if name != "_shards"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Opens the files again."""
        vars(self).update(state)
        self._open()


class RowSource:
    """The rows of a split, in stored order: item ``n`` is a ``Batch`` of one row, without an axis
    of rows.

    The blocks read last are remembered. Where rows are asked for at random in a large split each
    still costs the reading of a block: let a pipeline shuffle a :class:`BlockSource` instead, and
    then the rows within a window.
    """

    def __init__(self, prepared: PreparedData, split: str) -> None:
        """Opens a split.

        Raises:
          InputError: there is no such split.
        """
        self._blocks = BlockSource(prepared, split)
        self._rows = np.cumsum([shard.rows for shard in prepared.shards[split]])
        self._remember()

    def _remember(self) -> None:
        self._block = functools.lru_cache(_REMEMBERED)(self._blocks.__getitem__)

    def __len__(self) -> int:
        """How many rows there are."""
        return int(self._rows[-1]) if len(self._rows) else 0

    def __getitem__(self, index: int) -> Batch:
        """A row: ids int32 ``[S]``, label and weight float32.

        Raises:
          IndexError: there is no such row.
          InputError: its file was damaged meanwhile.
        """
        _check(index, len(self))
        shard, first = _shard_of(self._rows, index)
        # The last block of each shard may be short.
        blocks_before = int(self._blocks._ends[shard - 1]) if shard else 0
        block, row = divmod(index - first, blocks.BLOCK_ROWS)
        ids, labels, weights = self._block(blocks_before + block)
        return Batch(ids[row], labels[row], weights[row])

    def __repr__(self) -> str:
        """As of :class:`BlockSource`."""
        return f"{type(self).__name__}({self._blocks._told})"

    def __getstate__(self) -> dict[str, Any]:
        """All but what is remembered."""
        return {name: value for name, value in vars(self).items() if name != "_block"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Remembers nothing yet."""
        vars(self).update(state)
        self._remember()


def _shard_of(ends: np.ndarray, index: int) -> tuple[int, int]:
    """The shard that has a number, and how many are in those before it."""
    shard = int(np.searchsorted(ends, index, side="right"))
    return shard, int(ends[shard - 1]) if shard else 0


def _check(index: int, count: int) -> None:
    if not 0 <= index < count:
        raise IndexError(f"there is no number {index} of {count}")
