"""From raw rows to shards, out of core: read, merge vocabularies, encode, shuffle and write.

1. *Reading.* Blocks of raw text are decoded and coded by workers (`reading.py`) and kept, small.
2. *Vocabulary.* The blocks' dictionaries are merged, field by field (`merge.py`).
3. *Encoding.* Every block becomes rows of ids, scattered at random over buckets (`encoding.py`).
4. *Writing.* Every bucket is shuffled in memory and written as one shard (`shards.py`), and the
   vocabulary beside them.

An engine (`engine.py`) says where blocks are kept and which processes work. Of this process, memory
holds a few blocks, or the vocabulary of two fields, or a few buckets with that of one: never all
rows, nor the whole vocabulary. The result depends on data, options and seed alone, not on timing,
nor on the engine.
"""

import contextlib
import dataclasses
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from optembed_jax.data import bins, manifest, splits
from optembed_jax.data.options import DataOptions
from optembed_jax.data.preparing.encoding import Encoding
from optembed_jax.data.preparing.engine import Engine, OpenEngine
from optembed_jax.data.preparing.free_memory import give_back
from optembed_jax.data.preparing.reading import Reading, reading_of
from optembed_jax.data.preparing.shards import Bucket, RowForm, firsts
from optembed_jax.data.preparing.tally import (
    RowsRead,
    check_labels,
    check_rejects,
    check_times,
    nothing_read,
)
from optembed_jax.data.progress import Callback, Stage
from optembed_jax.data.raw.columns import BUCKET
from optembed_jax.data.raw.sources import RawData, Reject
from optembed_jax.data.splits import SPLITS
from optembed_jax.data.vocabulary import FieldVocabulary, layout_of, write_vocabulary
from optembed_jax.fields import Fields
from optembed_jax.values.forms import rule_of_files
from optembed_jax.values.rule import Rule

BUCKET_BYTES = 64 * 2**20
_MOST_BUCKETS = 500  # they are open at the same time


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
    shards: dict[str, list[manifest.Shard]]
    labels: np.ndarray
    rejects: list[Reject]
    cut: np.ndarray
    weights: np.ndarray | None
    weightless: int
    negatives: np.ndarray


def build(
    data: RawData,
    options: DataOptions,
    folder: pathlib.Path,
    shard_name: Callable[[str, int, int], str],
    open_engine: OpenEngine,
    progress: Callback | None,
) -> Built:
    """Prepares a data set in a folder.

    Args:
      data: the rows and their meaning.
      options: seed, split, vocabulary rules.
      folder: an existing folder, which gets the shards.
      shard_name: called with split, number and count, gives the file name of a shard.
      open_engine: opens the engine that does the work.
      progress: told about the progress; may be None.

    Raises:
      InputError: the data cannot be used; the message says why.
      OSError: the disk is full, or fails.
    """
    how = reading_of(data, options)
    scratch = folder / "spill"
    scratch.mkdir()
    try:
        with open_engine(folder, scratch) as engine:
            return _build(how, engine, folder, shard_name, progress)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _build(
    how: Reading,
    engine: Engine,
    folder: pathlib.Path,
    shard_name: Callable[[str, int, int], str],
    progress: Callback | None,
) -> Built:
    data, options = how.data, how.options
    read = _read(how, engine, progress)
    give_back()  # what reading needed is of no use to what follows
    numeric = {
        field: _numeric_vocabulary(data.columns[field].name, sample, options.numeric_bins)
        for field, sample in read.samples.items()
    }
    rules = _rules(data, read)
    sizes = _merge(data, options, engine, numeric, rules, progress)
    give_back()
    layout = layout_of(
        [column.name for column in data.columns],
        sizes,
        read.slots.tolist(),
        [column.is_weighted for column in data.columns],
    )
    form = RowForm(layout.num_columns, data.weight is not None, data.group is not None)
    buckets = _bucket_numbers(read.labels.sum(axis=1), form.width)
    edges = {field: found.edges for field, found in numeric.items() if found.edges is not None}
    encoding = Encoding(
        options,
        layout,
        form,
        tuple(buckets),
        {field: found.bins for field, found in numeric.items()},
        read.time_limits,
    )
    binned, unseen = _encode(encoding, engine, len(read.sizes), progress)
    give_back()
    vocabulary = _vocabulary(engine, layout, numeric, binned)
    with _written_beside(folder / manifest.VOCABULARY, vocabulary) as check:
        shards = _write(encoding, engine, shard_name, progress, check)
    weights = read.weights if form.weighted else None
    counted = (read.labels, read.rejects, read.cut, weights, read.weightless, read.negatives)
    return Built(layout, edges, rules, unseen, shards, *counted)


def _rules(data: RawData, read: RowsRead) -> dict[int, Rule]:
    """How the values of each plain field are read."""
    of_folders = {name for file in data.source.files for name, _ in file.partition}
    rules = {}
    for field, column in enumerate(data.columns):
        if not column.is_plain:
            continue
        ways = [forms[field] for forms in read.forms.values()]
        if column.source in of_folders:  # A value for each file, all by who named the folders.
            ways = [frozenset[str]().union(*ways)]
        rules[field] = column.rule or rule_of_files(ways)
    return rules


def _read(how: Reading, engine: Engine, progress: Callback | None) -> RowsRead:
    """Has all rows read, and sums what is counted of them."""
    read, times = nothing_read(how.data, how.options), splits.TimeCounts()
    stage = Stage(progress, "reading", how.data.source.size, "bytes")
    with contextlib.closing(engine.code(how)) as tallies:  # ends its workers after a bad row
        for tally in tallies:
            read.add(tally)
            check_rejects(read.rejects, how.options.max_bad_rows)
            check_times(read, how.data)
            if tally.times is not None:
                times.take(*tally.times)
            stage.report(tally.position, tally.rows)
    if how.index is not None:
        splits.check_split_index(str(how.options.split_index), how.index, read.rows_in_all)
    if how.by_time:
        read.time_limits = splits.time_limits(*times.counts())
        for of_split in engine.split(how, read.time_limits):
            read.add_split(of_split)
    check_labels(read, how.data, how.options.label_positive)
    return read


def _merge(
    data: RawData,
    options: DataOptions,
    engine: Engine,
    numeric: Mapping[int, FieldVocabulary],
    rules: Mapping[int, Rule],
    progress: Callback | None,
) -> list[int]:
    """Has the fields merged; the rows that each has."""
    least = {
        field: 1 if column.kind == BUCKET else options.min_count
        for field, column in enumerate(data.columns)
        if field not in numeric
    }
    sizes = {field: found.size for field, found in numeric.items()}
    stage = Stage(progress, "vocabulary", len(data.columns), "fields")
    if sizes:
        stage.report(len(sizes))
    for field, size in engine.merge(least, rules):
        sizes[field] = size
        stage.report(len(sizes))
    return [sizes[field] for field in range(len(data.columns))]


def _numeric_vocabulary(name: str, sample: bins.NumericSample, most: int) -> FieldVocabulary:
    edges = bins.quantile_edges(sample.values(), most)
    names: list[str | None] = [*bins.bin_names(edges)]
    names += [None] if sample.missing else []
    return FieldVocabulary(name, pa.array(names, pa.string()), edges)


def _vocabulary(
    engine: Engine,
    layout: Fields,
    numeric: Mapping[int, FieldVocabulary],
    binned: Mapping[int, np.ndarray],
) -> Iterator[tuple[FieldVocabulary, np.ndarray]]:
    """Each field and the training counts of its rows."""
    for field, name in enumerate(layout.names):
        if field in numeric:
            yield numeric[field], binned[field]
        else:
            values, counts = engine.merged(field)
            yield FieldVocabulary(name, values), counts


@contextlib.contextmanager
def _written_beside(
    path: pathlib.Path, fields: Iterator[tuple[FieldVocabulary, np.ndarray]]
) -> Iterator[Callable[[], None]]:
    """Writes a vocabulary meanwhile: of many values it takes half as long as all shards.

    Gives a function that raises what has kept it from being written by then. Where anything else is
    raised meanwhile, no further field is written.
    """
    stopped = threading.Event()

    def until_stopped() -> Iterator[tuple[FieldVocabulary, np.ndarray]]:
        for field in fields:
            if stopped.is_set():
                return
            yield field

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write_vocabulary, path, until_stopped())

        def check() -> None:
            if written.done():
                written.result()

        try:
            yield check
            written.result()
        except BaseException:
            stopped.set()
            raise


def _bucket_numbers(rows: np.ndarray, width: int) -> list[int]:
    """Buckets of each split: of `BUCKET_BYTES`, or of more where there would be too many files.

    A row is `width` numbers of four bytes.
    """
    sizes = rows * width * 4
    bucket = max(BUCKET_BYTES, int(sizes.sum()) // _MOST_BUCKETS)
    return [max(1, int(-(-size // bucket))) for size in sizes]


def _encode(
    how: Encoding, engine: Engine, blocks: int, progress: Callback | None
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Has every row written into one of its split's buckets.

    Returns:
      The training counts of each numeric field's rows, int64, by the field's position; and the rows
      of each split that read each field's OOV row, int64 ``[3, F]``.
    """
    counts = {field: np.zeros(how.layout.sizes[field], np.int64) for field in how.bins}
    unseen = np.zeros((len(SPLITS), how.layout.num_fields), np.int64)
    stage = Stage(progress, "encoding", blocks, "blocks")
    for number, tally in enumerate(engine.encode(how)):
        for field, found in tally.binned.items():
            counts[field] += found
        unseen += tally.unseen
        stage.report(number + 1, tally.rows)
    return counts, unseen


def _write(
    how: Encoding,
    engine: Engine,
    shard_name: Callable[[str, int, int], str],
    progress: Callback | None,
    check: Callable[[], None],
) -> dict[str, list[manifest.Shard]]:
    """Has every bucket written as a shard; ``check`` is called after each."""
    first = firsts(how.buckets).tolist()
    buckets = [
        Bucket(first[split] + number, split, number, shard_name(SPLITS[split], number, count))
        for split, count in enumerate(how.buckets)
        for number in range(count)
    ]
    stage = Stage(progress, "writing", len(buckets), "shards")
    shards: dict[str, list[manifest.Shard]] = {split: [] for split in SPLITS}
    for bucket, shard in zip(buckets, engine.write(how, buckets), strict=True):
        if shard.rows:
            shards[SPLITS[bucket.split]].append(shard)
        stage.report(bucket.place + 1, shard.rows)
        check()
    return shards
