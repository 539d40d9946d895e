"""Buckets of rows and the shards that they become: what a row is there, and how it is shuffled."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from optembed_jax.data import blocks, manifest
from optembed_jax.data.preparing.spill import SpilledRows
from optembed_jax.storage import checksum

_ORDER = 2  # sets apart the draws that share the data's seed


@dataclasses.dataclass(frozen=True)
class RowForm:
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


class Bucket(NamedTuple):
    """Rows that become one shard.

    Attributes:
      place: among all buckets, from 0.
      split: its split number.
      number: among the buckets of its split, from 0.
      name: of the shard's file.
    """

    place: int
    split: int
    number: int
    name: str


def write_bucket(
    path: pathlib.Path, bucket: Bucket, rows: np.ndarray, form: RowForm, seed: int
) -> manifest.Shard:
    """Shuffles the rows of a bucket and writes them as a shard.

    Args:
      path: of the file that is written.
      bucket: whose shard it is; its place in its split is part of the draw.
      rows: int32 ``[N, width]``, those of the first block first.
      form: what they are.
      seed: of the data.

    Raises:
      OSError: the file could not be written completely.
    """
    draw = np.random.default_rng([seed, _ORDER, bucket.split, bucket.number])
    order = draw.permutation(len(rows))
    blocks.write_shard(path, _shuffled(rows, order, form))
    return manifest.Shard(bucket.name, len(rows), path.stat().st_size, checksum.sha256(path))


def firsts(buckets: Sequence[int]) -> np.ndarray:
    """The place of the first bucket of each split, and their number: int64 ``[4]``."""
    return np.concatenate([[0], np.cumsum(buckets)]).astype(np.int64)


def _shuffled(rows: np.ndarray, order: np.ndarray, form: RowForm) -> Iterator[blocks.Part]:
    for start in range(0, len(order), blocks.BLOCK_ROWS):
        # Three times as fast as an index of the same rows.
        yield form.part(rows.take(order[start : start + blocks.BLOCK_ROWS], axis=0))
