"""The blocks' dictionaries of a field merged into its vocabulary, in bounded memory.

A field with more values than fit is merged in parts: the values are divided by their last two
bytes, in files, and each part is counted on its own. What stays in memory to the end is only what
gets rows.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optembed_jax.data.preparing.spill import Spill
from optembed_jax.data.raw import packing
from optembed_jax.data.raw.columns import Coded, code

VALUES_AT_ONCE = 2**19


@dataclasses.dataclass(frozen=True)
class MergedField:
    """A field's values that get rows.

    Attributes:
      values: string, by count (descending), then value; missing (null) after its equals.
      counts: training occurrences of the OOV row and of each value, int64 ``[1 + values]``.
    """

    values: pa.StringArray
    counts: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Part:
    values: pa.Array
    vocabulary_counts: np.ndarray
    training_counts: np.ndarray
    # For each block: which of its values these are, and their places in `values`.
    pieces: list[tuple[np.ndarray | slice, np.ndarray]]


def merge_field(spill: Spill, field: int, min_count: int) -> MergedField:
    """Merges one field, and keeps the place of every block's values in the spill.

    Each block's counts, int32 ``[K, values]``, are the occurrences that decide about rows, and the
    occurrences in the training split; K is 1 where these are the same.

    Args:
      spill: the blocks.
      field: the field's position.
      min_count: values seen less often share the OOV row.
    """
    starts = np.concatenate([[0], np.cumsum(spill.sizes(field))]).astype(np.int64)
    spill.make_places(field)
    parts = max(1, -(-int(starts[-1]) // VALUES_AT_ONCE))
    # The file is mapped some blocks at a time, so that it never is in memory as a whole.
    at_once = max(1, VALUES_AT_ONCE // max(1, int(np.diff(starts).max(initial=1))))
    ends = [*range(at_once, spill.num_blocks, at_once), spill.num_blocks]
    windows = list(zip([0, *ends], ends, strict=False))
    kept_values, kept_counts, kept_training = [], [], []
    kept, oov = 0, 0
    for part in _parts(spill, field, parts):
        keep = part.vocabulary_counts >= min_count
        order = np.full(len(keep), -1, np.int32)
        order[keep] = kept + np.arange(keep.sum(), dtype=np.int32)
        kept += int(keep.sum())
        kept_values.append(part.values.filter(pa.array(keep)))
        kept_counts.append(part.vocabulary_counts[keep])
        kept_training.append(part.training_counts[keep])
        oov += int(part.training_counts[~keep].sum())
        _write_places(spill, field, starts, windows, part, order)
        del part  # before the next one is made
    values, counts = pa.concat_arrays(kept_values), np.concatenate(kept_counts)
    by_count = _by_count(counts, values)
    rank = np.zeros(kept + 1, np.int32)  # the last stands for -1: no row
    rank[by_count] = 1 + np.arange(kept, dtype=np.int32)
    for first, last in windows:
        places = spill.map_places(field, int(starts[first]), int(starts[last] - starts[first]))
        places[:] = rank[places]
    training = np.concatenate(kept_training)[by_count]
    return MergedField(values.take(pa.array(by_count)), np.concatenate([[oov], training]))


def _write_places(
    spill: Spill,
    field: int,
    starts: np.ndarray,
    windows: list[tuple[int, int]],
    part: _Part,
    order: np.ndarray,
) -> None:
    """Writes, for each block's values of a part, their numbers in `order`."""
    for first, last in windows:
        places = spill.map_places(field, int(starts[first]), int(starts[last] - starts[first]))
        for block in range(first, last):
            positions, found = part.pieces[block]
            begin, end = starts[block : block + 2] - starts[first]
            places[begin:end][positions] = order[found]


def _by_count(counts: np.ndarray, values: pa.Array) -> np.ndarray:
    """Positions by count, descending, then by value, missing last."""
    keys = packing.sortable(values)
    by_value = pc.sort_indices(values).to_numpy() if keys is None else np.argsort(keys)
    return by_value[np.argsort(-counts[by_value], kind="stable")]


def _parts(spill: Spill, field: int, parts: int) -> Iterator[_Part]:
    if parts == 1:
        blocks = zip(spill.values(field), spill.counts(field), strict=True)
        yield _count((values, count, slice(None)) for values, count in blocks)
        return
    spill.divide(field, parts, _part_of)
    for number in range(parts):
        yield _count(spill.part(field, number))


def _count(blocks: Iterable[tuple[pa.Array, np.ndarray, np.ndarray | slice]]) -> _Part:
    chunks, counts, positions = [], [], []
    for values, count, chosen in blocks:
        chunks.append(packing.pack(values) or values)
        counts.append(count)
        positions.append(chosen)
    unified = _code(chunks)
    every = np.concatenate(counts, axis=1) if counts else np.zeros((1, 0), np.int32)
    # Values that mean the same have one place. Sums of integers below 2^53 are exact in float64.
    sums = [np.bincount(unified.codes, count, len(unified.values)) for count in every]
    totals = np.stack(sums).astype(np.int64)
    ends = np.cumsum([len(chunk) for chunk in chunks])
    found = np.split(unified.codes, ends[:-1])
    return _Part(unified.values, totals[0], totals[-1], list(zip(positions, found, strict=True)))


def _code(chunks: list[pa.Array]) -> Coded:
    """Codes columns of strings, packed or not, one after another."""
    if all(chunk.type == pa.uint64() for chunk in chunks):
        packed = code(pa.chunked_array(chunks, pa.uint64()))
        return Coded(packed.codes, packing.unpack(packed.values))
    strings = [packing.unpack(c) if c.type == pa.uint64() else c for c in chunks]
    return code(pa.chunked_array(strings, pa.string()))


def _part_of(values: pa.Array, parts: int) -> np.ndarray:
    """Which part each value belongs to, from its last two bytes: int64 ``[N]``."""
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int32)[values.offset + 1 : values.offset + len(values) + 1]
    starts = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values)]
    content = np.frombuffer(data or b"\0", np.uint8)
    last = np.where(ends > starts, content[np.maximum(ends - 1, 0)], 0).astype(np.int64)
    before = np.where(ends > starts + 1, content[np.maximum(ends - 2, 0)], 0).astype(np.int64)
    return (last * 31 + before) % parts
