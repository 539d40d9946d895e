"""What preparation asks of an engine: where coded blocks wait, and which processes work on them.

The work itself is that of `reading`, `merge`, `encoding` and `shards`, whichever engine calls it.
"""

import contextlib
import pathlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from optembed_jax.data import manifest
from optembed_jax.data.preparing.encoding import EncodedTally, Encoding
from optembed_jax.data.preparing.reading import Reading
from optembed_jax.data.preparing.shards import Bucket
from optembed_jax.data.preparing.tally import SplitTally, Tally
from optembed_jax.values.rule import Rule


class Engine(Protocol):
    """One preparation: the stages are asked for once, in this order.

    Vocabularies (`merged`) may still be asked for by another thread while shards are written.
    """

    def code(self, how: Reading) -> Generator[Tally, None, None]:
        """Reads all blocks and keeps them; their tallies in order.

        Raises:
          InputError: a block that cannot be used.
        """

    def split(self, how: Reading, limits: tuple[int, int]) -> Iterator[SplitTally]:
        """Counts the values of all blocks, whose rows are split by time; their tallies in order."""

    def merge(
        self, least: Mapping[int, int], rules: Mapping[int, Rule]
    ) -> Iterator[tuple[int, int]]:
        """Merges fields into their vocabularies, and keeps these.

        Args:
          least: for each of the fields, how often a value has to occur to get a row.
          rules: which values of a field mean the same.

        Yields:
          A field, and the rows that it has; in any order.
        """

    def merged(self, field: int) -> tuple[pa.Array, np.ndarray]:
        """The values of a field that have rows, and the training counts of all its rows."""

    def encode(self, how: Encoding) -> Iterator[EncodedTally]:
        """Encodes all blocks into buckets; their tallies in order."""

    def write(self, how: Encoding, buckets: Sequence[Bucket]) -> Iterator[manifest.Shard]:
        """Writes each bucket as a shard; the shards in order.

        Raises:
          OSError: a shard cannot be written completely.
        """


class OpenEngine(Protocol):
    """How an engine is opened."""

    def __call__(
        self, folder: pathlib.Path, scratch: pathlib.Path
    ) -> contextlib.AbstractContextManager[Engine]:
        """An engine that writes shards into `folder`, and may keep what it likes in `scratch`."""
