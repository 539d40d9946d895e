"""Preparation by the threads of this process: blocks wait in files, memory stays bounded."""

import contextlib
import pathlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from optembed_jax.data import manifest
from optembed_jax.data.parallel import ordered_map
from optembed_jax.data.preparing import merge
from optembed_jax.data.preparing.encoding import EncodedBlock, EncodedTally, Encoding, encode_block
from optembed_jax.data.preparing.free_memory import give_back
from optembed_jax.data.preparing.reading import CodedBlock, Reading, code_block, split_block
from optembed_jax.data.preparing.shards import Bucket, write_bucket
from optembed_jax.data.preparing.spill import Spill
from optembed_jax.data.preparing.tally import SplitTally, Tally
from optembed_jax.data.raw.sources import Block
from optembed_jax.values.rule import Rule

_BLOCKS_TO_TRIM = 8  # after so many blocks free memory is given back, lest it add up


class LocalEngine:
    """See `engine.Engine`."""

    def __init__(self, folder: pathlib.Path, spill: Spill, threads: int) -> None:
        self._folder, self._spill, self._threads = folder, spill, threads

    def code(self, how: Reading) -> Generator[Tally, None, None]:
        """Reads all blocks into the spill."""

        def work(item: tuple[int, Block]) -> CodedBlock:
            number, block = item
            coded = code_block(how, block)
            self._spill.write_rows(number, coded.rows, coded.split)
            return coded

        found = ordered_map(work, enumerate(how.data.source.blocks()), self._threads)
        for number, coded in enumerate(found):
            self._spill.append_values(coded.rows.fields)
            if coded.counts is not None:
                self._spill.append_counts(coded.counts)
            yield coded.tally
            if number % _BLOCKS_TO_TRIM == _BLOCKS_TO_TRIM - 1:
                give_back()

    def split(self, how: Reading, limits: tuple[int, int]) -> Iterator[SplitTally]:
        """Reads the spilled blocks once more, and counts their values."""
        sizes = self._sizes(len(how.data.columns))

        def work(number: int) -> tuple[list[np.ndarray], SplitTally]:
            block = self._spill.read_rows(number)
            return split_block(how, block, sizes[number].tolist(), limits)

        for counts, tally in ordered_map(work, range(self._spill.num_blocks), self._threads):
            self._spill.append_counts(counts)
            yield tally

    def merge(
        self, least: Mapping[int, int], rules: Mapping[int, Rule]
    ) -> Iterator[tuple[int, int]]:
        """Merges the fields, some at once, through files of the spill."""
        self._spill.finish()
        self._spill.read_by(rules)

        def work(field: int) -> tuple[int, int]:
            merged = merge.merge_field(self._spill, field, least[field])
            self._spill.write_merged(field, merged.values, merged.counts)
            return field, len(merged.counts)

        # The longest first, so that no thread is left with one of them at the end.
        fields = sorted(least, key=lambda field: -int(self._spill.sizes(field).sum()))
        yield from ordered_map(work, fields, self._threads)

    def merged(self, field: int) -> tuple[pa.Array, np.ndarray]:
        """A field's vocabulary, from the spill."""
        return self._spill.read_merged(field)

    def encode(self, how: Encoding) -> Iterator[EncodedTally]:
        """Appends the rows of each block to its buckets' files."""
        sizes = self._sizes(how.layout.num_fields)
        starts = np.cumsum(sizes, axis=0) - sizes

        def work(number: int) -> EncodedBlock:
            def places(field: int) -> np.ndarray:
                start, size = int(starts[number, field]), int(sizes[number, field])
                return self._spill.places(field, start, size)

            return encode_block(how, self._spill.read_rows(number), places)

        files: list[BinaryIO] = []
        with contextlib.ExitStack() as closed:
            for number in range(sum(how.buckets)):
                files.append(closed.enter_context(self._bucket(number).open("wb")))
            found = ordered_map(work, range(self._spill.num_blocks), self._threads)
            for number, block in enumerate(found):
                start = 0
                for file, end in zip(files, block.ends.tolist(), strict=True):
                    file.write(block.rows[start:end].data if end > start else b"")
                    start = end
                self._spill.remove_rows(number)
                yield block.tally

    def write(self, how: Encoding, buckets: Sequence[Bucket]) -> Iterator[manifest.Shard]:
        """Writes each bucket's file as a shard, and deletes it."""
        self._spill.clear_coded()
        give_back()

        def work(bucket: Bucket) -> manifest.Shard:
            path = self._bucket(bucket.place)
            rows = np.fromfile(path, np.int32).reshape(-1, how.form.width)
            path.unlink()
            target = self._folder / bucket.name
            return write_bucket(target, bucket, rows, how.form, how.options.data_seed)

        yield from ordered_map(work, buckets, min(self._threads, 4))

    def _sizes(self, fields: int) -> np.ndarray:
        return np.stack([self._spill.sizes(field) for field in range(fields)], axis=1)

    def _bucket(self, place: int) -> pathlib.Path:
        return self._spill.folder / f"bucket-{place}"


@contextlib.contextmanager
def open_local(folder: pathlib.Path, scratch: pathlib.Path, threads: int) -> Iterator[LocalEngine]:
    """The engine of this process.

    Args:
      folder: gets the shards.
      scratch: where blocks wait; an existing folder.
      threads: that work at once; one more writes the vocabulary while they write shards.
    """
    with contextlib.closing(Spill(scratch)) as spill:
        yield LocalEngine(folder, spill, threads)
