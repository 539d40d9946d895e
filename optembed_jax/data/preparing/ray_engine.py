"""Preparation by the processes of a Ray cluster: blocks wait in its object stores.

Ray brings objects in shared memory, which are read there without copying and go to disk when there
are too many, tasks that are run again when their process dies, and clusters of several machines.
This process walks through the raw files, hands out their blocks, and sums tallies; the rest is
tasks. The functions that they call are those of the local engine.
"""

import collections
import contextlib
import os
import pathlib
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import ray

from optembed_jax.data import manifest
from optembed_jax.data.preparing import merge, ray_cluster
from optembed_jax.data.preparing.encoding import EncodedTally, Encoding, encode_block
from optembed_jax.data.preparing.reading import Reading, code_block, split_block
from optembed_jax.data.preparing.shards import Bucket, write_bucket
from optembed_jax.data.preparing.spill import Spill, SpilledRows, spilled
from optembed_jax.data.preparing.tally import SplitTally, Tally
from optembed_jax.data.raw.columns import Coded
from optembed_jax.data.raw.sources import Block
from optembed_jax.values.rule import Rule

_ATTEMPTS = 4
"""How often a task is begun whose process dies."""

_PIECE_BYTES = 2**20  # of a bucket: smaller objects cost more than they hold
_GROUP_BYTES = 2**28  # of blocks that a task encodes together, at most

_TO_CANCEL = 10  # seconds

_Item = TypeVar("_Item")
_Ref = Any  # ray.ObjectRef, which is generic in some versions only


class RayEngine:
    """See `engine.Engine`."""

    def __init__(self, folder: pathlib.Path, cluster: ray_cluster.Cluster) -> None:
        self._folder, self._cluster = folder, cluster
        self._rows: list[_Ref] = []  # of each block its rows, dictionaries, and counts of these
        self._values: list[_Ref] = []
        self._counts: list[_Ref] = []
        self._sizes: list[np.ndarray] = []
        self._row_counts: list[int] = []
        self._merged: dict[int, _Ref] = {}
        self._places: dict[int, _Ref] = {}
        self._pieces: list[list[_Ref]] = []  # of each group of blocks, the rows of each bucket

    def code(self, how: Reading) -> Generator[Tally, None, None]:
        """Hands out all blocks, which become objects."""
        shared = ray.put(how)

        def begin(block: Block) -> _Ref:
            tally, rows, values, counts = _task(_code, 4).remote(shared, block)
            self._rows.append(rows)
            self._values.append(values)
            self._counts.append(counts)
            return tally

        for tally in self._in_order(begin, how.data.source.blocks()):
            self._sizes.append(tally.sizes)
            self._row_counts.append(tally.rows)
            yield tally

    def split(self, how: Reading, limits: tuple[int, int]) -> Iterator[SplitTally]:
        """Has the values of all blocks counted, where they are."""
        shared = ray.put(how)

        def begin(number: int) -> _Ref:
            sizes = self._sizes[number].tolist()
            tally, self._counts[number] = _task(_split, 2).remote(
                shared, self._rows[number], sizes, limits
            )
            return tally

        yield from self._in_order(begin, range(len(self._rows)))

    def merge(
        self, least: Mapping[int, int], rules: Mapping[int, Rule]
    ) -> Iterator[tuple[int, int]]:
        """Has each field merged by a task, the longest first."""

        def begin(field: int) -> _Ref:
            size, self._merged[field], self._places[field] = _task(_merge, 3).remote(
                (field, least[field], rules.get(field, Rule())),
                self._values,
                self._counts,
                self._cluster.scratch,
            )
            return size

        lengths = np.sum(self._sizes, axis=0)
        fields = sorted(least, key=lambda field: -int(lengths[field]))
        yield from zip(fields, self._in_order(begin, fields), strict=True)
        self._values, self._counts = [], []

    def merged(self, field: int) -> tuple[pa.Array, np.ndarray]:
        """A field's vocabulary, from the object store."""
        self._cluster.wait([self._merged[field]])
        values, counts = _told(self._merged[field])
        return values, counts

    def encode(self, how: Encoding) -> Iterator[EncodedTally]:
        """Has blocks encoded, a few of them by each task; each bucket's rows become an object."""
        shared, places = ray.put(how), ray.put(self._places)
        sizes = np.stack(self._sizes)
        starts = np.cumsum(sizes, axis=0) - sizes
        block_bytes = max(1, sum(self._row_counts) * how.form.width * 4 // len(self._rows))
        buckets = sum(how.buckets)
        most = max(1, _GROUP_BYTES // block_bytes)
        step = min(-(-buckets * _PIECE_BYTES // block_bytes), most)

        def begin(first: int) -> _Ref:
            chosen = slice(first, first + step)
            tallies, *pieces = _task(_encode, 1 + buckets).remote(
                shared, places, starts[chosen], sizes[chosen], *self._rows[chosen]
            )
            self._pieces.append(pieces)
            return tallies

        for number, tallies in enumerate(self._in_order(begin, range(0, len(self._rows), step))):
            for place in range(number * step, number * step + len(tallies)):
                self._rows[place] = None  # nothing else needs it: the store may forget it
            yield from tallies
        self._places = {}

    def write(self, how: Encoding, buckets: Sequence[Bucket]) -> Iterator[manifest.Shard]:
        """Has each bucket's pieces put together, shuffled, and written."""
        shared = ray.put(how)

        def begin(bucket: Bucket) -> _Ref:
            pieces = [of_group[bucket.place] for of_group in self._pieces]
            target = self._folder / bucket.name
            return _task(_write, 1).remote(shared, bucket, target, self._cluster.scratch, *pieces)

        for bucket, shard in zip(buckets, self._in_order(begin, buckets), strict=True):
            for of_group in self._pieces:
                of_group[bucket.place] = None
            yield shard

    def _in_order(
        self, begin: Callable[[_Item], _Ref], items: Iterable[_Item]
    ) -> Generator[Any, None, None]:
        """What tasks tell, in the order of the items; at most `workers` of them run at once."""
        waiting, running = collections.deque[_Ref](), set[_Ref]()
        try:
            for item in items:
                while len(running) >= self._cluster.workers:
                    running -= self._cluster.wait(list(running))
                    while waiting and waiting[0] not in running:
                        yield _told(waiting.popleft())
                task = begin(item)
                waiting.append(task)
                running.add(task)
            while waiting:
                self._cluster.wait([waiting[0]])
                yield _told(waiting.popleft())
        finally:
            with contextlib.suppress(Exception):  # the cluster may be gone by now
                for task in waiting:
                    ray.cancel(task)
                if waiting:  # what they write goes before the folder does
                    ray.wait(list(waiting), num_returns=len(waiting), timeout=_TO_CANCEL)


@contextlib.contextmanager
def open_ray(
    folder: pathlib.Path, scratch: pathlib.Path, address: str | None, workers: int | None
) -> Iterator[RayEngine]:
    """The engine of a Ray cluster.

    Args:
      folder: gets the shards; every machine of the cluster has to see it.
      scratch: an existing folder in it.
      address: of the cluster; None starts one on this machine, and ends it.
      workers: tasks that run at once; None: one for each core.

    Raises:
      InputError: the cluster cannot be used, or was lost; the message says why.
    """
    # Workers have working folders of their own.
    with ray_cluster.connected(scratch.resolve(), address, workers) as cluster:
        yield RayEngine(folder.resolve(), cluster)


def _task(function: Callable[..., Any], returns: int) -> Any:
    return ray.remote(num_returns=returns, max_retries=_ATTEMPTS - 1)(function)


def _told(task: _Ref) -> Any:
    """What a task tells; its own error, where it has one.

    Raises:
      InputError: of the task.
      OSError: likewise.
    """
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Exception) and not isinstance(
            error.cause, ray.exceptions.RayError
        ):
            raise error.cause from None
        raise


# What tasks do, in processes of their own: arguments are objects of the store, read-only.


def _code(
    how: Reading, block: Block
) -> tuple[Tally, pa.RecordBatch, list[pa.Array | None], list[np.ndarray] | None]:
    coded = code_block(how, block)
    values = [f.values if isinstance(f, Coded) else None for f in coded.rows.fields]
    return coded.tally, spilled(coded.rows, coded.split).batch, values, coded.counts


def _split(
    how: Reading, batch: pa.RecordBatch, sizes: list[int], limits: tuple[int, int]
) -> tuple[SplitTally, list[np.ndarray]]:
    counts, tally = split_block(how, SpilledRows(batch), sizes, limits)
    return tally, counts


def _merge(
    asked: tuple[int, int, Rule], values: list[_Ref], counts: list[_Ref], scratch: pathlib.Path
) -> tuple[int, tuple[pa.Array, np.ndarray], np.ndarray]:
    """A field's rows, its vocabulary, and the places of all blocks' values, one block's first."""
    field, least, rule = asked
    with (
        tempfile.TemporaryDirectory(dir=scratch) as folder,
        contextlib.closing(Spill(pathlib.Path(folder))) as spill,
    ):
        for of_values, of_counts in zip(values, counts, strict=True):
            found = ray.get(of_values)[field]
            spill.append_values([Coded(np.zeros(0, np.int32), found)])
            spill.append_counts([ray.get(of_counts)[field]])
        spill.finish()
        spill.read_by({0: rule})
        merged = merge.merge_field(spill, 0, least)
        places = spill.places(0, 0, int(spill.sizes(0).sum()))
    return len(merged.counts), (merged.values, merged.counts), places


def _encode(
    how: Encoding,
    places: Mapping[int, _Ref],
    starts: np.ndarray,
    sizes: np.ndarray,
    *batches: pa.RecordBatch,
) -> tuple[Any, ...]:
    """The tallies of the blocks, and the rows of each bucket."""
    of_fields = dict(zip(places, ray.get(list(places.values())), strict=True))
    blocks = []
    for batch, start, size in zip(batches, starts.tolist(), sizes.tolist(), strict=True):

        def find(field: int, start: list[int] = start, size: list[int] = size) -> np.ndarray:
            found: np.ndarray = of_fields[field][start[field] : start[field] + size[field]]
            return found

        blocks.append(encode_block(how, SpilledRows(batch), find))
    begins = [np.concatenate([[0], block.ends[:-1]]).astype(np.int64) for block in blocks]
    pieces = [
        np.concatenate(
            [
                block.rows[begin[bucket] : block.ends[bucket]]
                for block, begin in zip(blocks, begins, strict=True)
            ]
        )
        for bucket in range(sum(how.buckets))
    ]
    return ([block.tally for block in blocks], *pieces)


def _write(
    how: Encoding,
    bucket: Bucket,
    target: pathlib.Path,
    scratch: pathlib.Path,
    *pieces: np.ndarray,
) -> manifest.Shard:
    # Under a name of its own, since a process that is thought dead may still be writing.
    path = scratch / f"{bucket.name}.{uuid.uuid4().hex}"
    rows = np.concatenate(pieces)
    shard = write_bucket(path, bucket, rows, how.form, how.options.data_seed)
    os.replace(path, target)
    return shard
