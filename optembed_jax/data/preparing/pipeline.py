"""From raw rows to shards, out of core: read, merge vocabularies, encode, shuffle and write.

1. *Reading.* Blocks of raw text are decoded and coded in worker threads and spilled, small.
2. *Vocabulary.* The blocks' dictionaries are merged, field by field (`merge.py`).
3. *Encoding.* Every spilled block becomes rows of ids, scattered at random over bucket files.
4. *Writing.* Every bucket is shuffled in memory and written as one shard.

Memory holds a few blocks, or the vocabulary of two fields, or a few buckets: never all rows, nor
the whole vocabulary. The result depends on data, options and seed alone, not on timing.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from optembed_jax.data import bins, blocks, prepared, splits
from optembed_jax.data.options import DataOptions
from optembed_jax.data.parallel import ordered_map, workers
from optembed_jax.data.preparing import merge
from optembed_jax.data.preparing.free_memory import give_back
from optembed_jax.data.preparing.reading import RowsRead, read_rows
from optembed_jax.data.preparing.spill import Spill, SpilledRows
from optembed_jax.data.progress import Callback, Stage
from optembed_jax.data.raw.columns import BUCKET
from optembed_jax.data.raw.sources import RawData, Reject
from optembed_jax.data.splits import SPLITS
from optembed_jax.data.vocabulary import FieldVocabulary, layout_of, write_vocabulary
from optembed_jax.fields import Fields
from optembed_jax.values.cells import in_weighted_slots
from optembed_jax.values.rule import Rule, rule_of

BUCKET_BYTES = 64 * 2**20
_MOST_BUCKETS = 500  # they are open at the same time
_SCATTER, _ORDER = 1, 2  # set apart the draws that share the data's seed


@dataclasses.dataclass(frozen=True)
class Built:
    """A prepared data set, as it came to be in a folder.

    Attributes:
      layout: names and sizes of the fields; their values are in the vocabulary's file.
      edges: the inner edges of the bins of each numeric field, by its position.
      rules: which values of each plain field mean the same, by its position.
      unseen: rows of each split whose value of each field has no row, int64 ``[3, F]``.
      shards: the shards of each split.
      labels: rows of each split with label 0 and 1, int64 ``[3, 2]``.
      rejects: the rows that were set aside.
      cut: values of cells of each field that were left out, int64 ``[F]``.
      weights: as of `RowsRead`; None where all rows count alike.
      weightless: rows left out because they count nothing.
      negatives: as of `RowsRead`.
    """

    layout: Fields
    edges: dict[int, np.ndarray]
    rules: dict[int, Rule]
    unseen: np.ndarray
    shards: dict[str, list[prepared.Shard]]
    labels: np.ndarray
    rejects: list[Reject]
    cut: np.ndarray
    weights: np.ndarray | None
    weightless: int
    negatives: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Beside:
    """What a row has beside its label and its ids, and where it stands in a bucket's rows.

    The label first, the ids (with the weights of values, `Fields.num_columns`), the weight's bits,
    and the group's hash, which is two numbers.
    """

    num_columns: int
    weighted: bool
    grouped: bool

    @property
    def width(self) -> int:
        """Numbers of four bytes that a row is."""
        return 1 + self.num_columns + self.weighted + 2 * self.grouped

    def fill(self, table: np.ndarray, block: SpilledRows, order: np.ndarray) -> None:
        """Puts what rows have beside the ids into a table int32 ``[width, N]``."""
        table[0] = block.column("label")[order]
        if self.weighted:
            table[1 + self.num_columns] = block.column("weight")[order].view(np.int32)
        if self.grouped:
            table[-2:] = block.column("group")[order].view(np.int32).reshape(-1, 2).T

    def part(self, rows: np.ndarray) -> blocks.Part:
        """Rows int32 ``[N, width]`` as they are stored."""
        end = 1 + self.num_columns
        weights = groups = None
        if self.weighted:
            weights = np.ascontiguousarray(rows[:, end]).view(np.float32)
        if self.grouped:
            groups = np.ascontiguousarray(rows[:, -2:]).view(np.int64)[:, 0]
        return blocks.Part(rows[:, 1:end], rows[:, 0].astype(np.uint8), groups, weights)


def build(
    data: RawData,
    options: DataOptions,
    folder: pathlib.Path,
    shard_name: Callable[[str, int, int], str],
    progress: Callback | None,
) -> Built:
    """Prepares a data set in a folder.

    Args:
      data: the rows and their meaning.
      options: seed, split, vocabulary rules.
      folder: an existing folder, which gets the shards.
      shard_name: called with split, number and count, gives the file name of a shard.
      progress: told about the progress; may be None.

    Raises:
      InputError: the data cannot be used; the message says why.
      OSError: the disk is full, or fails.
    """
    scratch = folder / "spill"
    scratch.mkdir()
    with contextlib.closing(Spill(scratch)) as spill:
        return _build(data, options, folder, spill, shard_name, progress)


def _build(
    data: RawData,
    options: DataOptions,
    folder: pathlib.Path,
    spill: Spill,
    shard_name: Callable[[str, int, int], str],
    progress: Callback | None,
) -> Built:
    threads = workers()
    read = read_rows(data, options, spill, threads, progress)
    spill.finish()
    give_back()  # what reading needed is of no use to what follows
    numeric = {
        field: _numeric_vocabulary(data.columns[field].name, sample, options.numeric_bins)
        for field, sample in read.samples.items()
    }
    rules = {
        field: column.rule or rule_of(read.forms[field])
        for field, column in enumerate(data.columns)
        if column.is_plain
    }
    spill.read_by(rules)
    sizes = _merge(data, options, spill, numeric, threads, progress)
    give_back()
    layout = layout_of(
        [column.name for column in data.columns],
        sizes,
        read.slots,
        [column.is_weighted for column in data.columns],
    )
    beside = _Beside(layout.num_columns, data.weight is not None, data.group is not None)
    buckets = _bucket_numbers(read.labels.sum(axis=1), beside.width)
    binned, unseen = _scatter(
        options, spill, read, numeric, layout, buckets, beside, threads, progress
    )
    give_back()
    write_vocabulary(folder / prepared.VOCABULARY, _vocabulary(spill, layout, numeric, binned))
    spill.clear()
    give_back()
    shards = _write(options, folder, spill.folder, shard_name, beside, buckets, progress)
    spill.folder.rmdir()
    edges = {field: found.edges for field, found in numeric.items() if found.edges is not None}
    weights = read.weights if beside.weighted else None
    counted = (read.labels, read.rejects, read.cut, weights, read.weightless, read.negatives)
    return Built(layout, edges, rules, unseen, shards, *counted)


def _merge(
    data: RawData,
    options: DataOptions,
    spill: Spill,
    numeric: dict[int, FieldVocabulary],
    threads: int,
    progress: Callback | None,
) -> list[int]:
    """Merges the fields, each into its vocabulary in the spill; returns their sizes."""

    def work(field: int) -> int:
        if field in numeric:
            return numeric[field].size
        least = 1 if data.columns[field].kind == BUCKET else options.min_count
        merged = merge.merge_field(spill, field, least)
        spill.write_merged(field, merged.values, merged.counts)
        return len(merged.counts)

    stage = Stage(progress, "vocabulary", len(data.columns), "fields")
    # The longest first, so that no thread is left with one of them at the end.
    fields = np.argsort([-spill.sizes(f).sum() for f in range(len(data.columns))], kind="stable")
    sizes = [0] * len(fields)
    found = ordered_map(work, fields.tolist(), threads)
    for done, (field, size) in enumerate(zip(fields.tolist(), found, strict=True)):
        sizes[field] = size
        stage.report(done + 1)
    return sizes


def _numeric_vocabulary(name: str, sample: bins.NumericSample, most: int) -> FieldVocabulary:
    edges = bins.quantile_edges(sample.values(), most)
    names: list[str | None] = [*bins.bin_names(edges)]
    names += [None] if sample.missing else []
    return FieldVocabulary(name, pa.array(names, pa.string()), edges)


def _vocabulary(
    spill: Spill,
    layout: Fields,
    numeric: dict[int, FieldVocabulary],
    binned: dict[int, np.ndarray],
) -> Iterator[tuple[FieldVocabulary, np.ndarray]]:
    """Each field and the training counts of its rows."""
    for field, name in enumerate(layout.names):
        if field in numeric:
            yield numeric[field], binned[field]
        else:
            values, counts = spill.read_merged(field)
            yield FieldVocabulary(name, values), counts


def _bucket_numbers(rows: np.ndarray, width: int) -> list[int]:
    """Buckets of each split: of `BUCKET_BYTES`, or of more where there would be too many files.

    A row is `width` numbers of four bytes.
    """
    sizes = rows * width * 4
    bucket = max(BUCKET_BYTES, int(sizes.sum()) // _MOST_BUCKETS)
    return [max(1, int(-(-size // bucket))) for size in sizes]


def _scatter(
    options: DataOptions,
    spill: Spill,
    read: RowsRead,
    numeric: dict[int, FieldVocabulary],
    layout: Fields,
    buckets: list[int],
    beside: _Beside,
    threads: int,
    progress: Callback | None,
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Writes every row into one of its split's buckets.

    Returns:
      The training counts of each numeric field's rows, int64, by the field's position; and the rows
      of each split that read each field's OOV row, int64 ``[3, F]``.
    """
    firsts = np.concatenate([[0], np.cumsum(buckets)]).astype(np.int64)
    offsets, num_fields = layout.offsets, layout.num_fields
    numeric_bins = {f: found.bins for f, found in numeric.items()}
    # Where the slots of each field begin, behind the label.
    columns, nothing = 1 + np.cumsum(layout.slots) - layout.slots, layout.num_features
    of_weights = np.where(layout.weighted, layout.slots, 0)
    weight_columns = 1 + layout.num_slots + np.cumsum(of_weights) - of_weights
    sizes = np.stack([spill.sizes(f) for f in range(num_fields)], axis=1)
    starts = np.cumsum(sizes, axis=0) - sizes

    def work(number: int) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray], np.ndarray]:
        block = spill.read_rows(number)
        split = (
            block.column("split")
            if read.time_limits is None
            else splits.time_split(block.column("time"), read.time_limits)
        )
        draws = splits.mix(options.data_seed * 3 + _SCATTER, block.column("row"))
        bucket = firsts[split] + (draws % np.array(buckets, np.uint64)[split]).astype(np.int64)
        order = np.argsort(bucket.astype(np.uint16), kind="stable")
        stays = splits.drawn(
            split,
            block.column("label"),
            block.column("row"),
            options.draw_negatives,
            options.data_seed,
        )
        if not stays.all():
            order = order[stays[order]]
        training = order[split[order] == splits.TRAIN] if numeric else None
        table = np.empty((beside.width, len(order)), np.int32)
        beside.fill(table, block, order)
        binned = {}
        for f in range(num_fields):
            field, own = block.field(f), slice(columns[f], columns[f] + layout.slots[f])
            if f in numeric:
                found = numeric_bins[f].find(field)
                binned[f] = np.bincount(found[training], minlength=layout.sizes[f])
                table[columns[f]] = found[order] + offsets[f]
                continue
            ids = spill.places(f, int(starts[number, f]), int(sizes[number, f])) + offsets[f]
            if field.ndim == 1:
                np.take(ids, field[order], out=table[columns[f]], mode="clip")
            else:
                cells = np.append(ids, np.int32(nothing))[field[order]]
                weights = block.weights(f)
                in_place, weighs = in_weighted_slots(
                    cells,
                    None if weights is None else weights[order],
                    layout.slots[f],
                    int(offsets[f]),
                    nothing,
                )
                table[own] = in_place.T
                if weights is not None:
                    first = weight_columns[f]
                    table[first : first + layout.slots[f]] = weighs.view(np.int32).T
        ends = np.searchsorted(bucket[order], np.arange(firsts[-1]), side="right")
        ordered = split[order]
        unseen = [
            np.bincount(
                ordered[(table[start : start + slots] == offset).any(axis=0)],
                minlength=len(SPLITS),
            )
            for start, slots, offset in zip(columns, layout.slots, offsets, strict=True)
        ]
        return np.ascontiguousarray(table.T), ends, binned, np.stack(unseen, axis=1)

    counts = {f: np.zeros(layout.sizes[f], np.int64) for f in numeric}
    unseen = np.zeros((len(SPLITS), num_fields), np.int64)
    files: list[BinaryIO] = []
    stage = Stage(progress, "encoding", spill.num_blocks, "blocks")
    try:
        for number in range(int(firsts[-1])):
            files.append((spill.folder / f"bucket-{number}").open("wb"))
        for number, (rows, ends, binned, without) in enumerate(
            ordered_map(work, range(spill.num_blocks), threads)
        ):
            start = 0
            for file, end in zip(files, ends.tolist(), strict=True):
                file.write(rows[start:end].data if end > start else b"")
                start = end
            for f, found in binned.items():
                counts[f] += found
            unseen += without
            spill.remove_rows(number)
            stage.report(number + 1, len(rows))
    finally:
        for file in files:
            file.close()
    return counts, unseen


def _write(
    options: DataOptions,
    folder: pathlib.Path,
    scratch: pathlib.Path,
    shard_name: Callable[[str, int, int], str],
    beside: _Beside,
    buckets: list[int],
    progress: Callback | None,
) -> dict[str, list[prepared.Shard]]:
    """Shuffles every bucket and writes it as a shard."""
    jobs = [
        (split, number, sum(buckets[:split]) + number)
        for split in range(len(SPLITS))
        for number in range(buckets[split])
    ]

    def work(job: tuple[int, int, int]) -> tuple[str, prepared.Shard]:
        split, number, bucket = job
        path = scratch / f"bucket-{bucket}"
        rows = np.fromfile(path, np.int32).reshape(-1, beside.width)
        path.unlink()
        draw = np.random.default_rng([options.data_seed, _ORDER, split, number])
        order = draw.permutation(len(rows))
        target = folder / shard_name(SPLITS[split], number, buckets[split])
        blocks.write_shard(target, _shuffled(rows, order, beside))
        size = target.stat().st_size
        shard = prepared.Shard(target.name, len(rows), size, prepared.sha256(target))
        return SPLITS[split], shard

    stage = Stage(progress, "writing", len(jobs), "shards")
    shards: dict[str, list[prepared.Shard]] = {split: [] for split in SPLITS}
    for done, (split, shard) in enumerate(ordered_map(work, jobs, min(workers(), 4))):
        if shard.rows:
            shards[split].append(shard)
        stage.report(done + 1, shard.rows)
    return shards


def _shuffled(rows: np.ndarray, order: np.ndarray, beside: _Beside) -> Iterator[blocks.Part]:
    for start in range(0, len(order), blocks.BLOCK_ROWS):
        yield beside.part(rows[order[start : start + blocks.BLOCK_ROWS]])
