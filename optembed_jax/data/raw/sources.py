"""What every origin of rows offers to preparation: blocks in order, decoded in any thread.

A source is walked once, in order, by one thread (`blocks`, cheap); worker threads make rows of the
blocks (`read`, expensive). Rows that cannot be read come back as rejects, with file, line and
reason; whether that ends the preparation is decided there, not here.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from optembed_jax.data.raw import columns as columns_lib
from optembed_jax.data.raw.files import RawFile


@dataclasses.dataclass(frozen=True)
class Block:
    """Some consecutive rows, not yet decoded.

    Attributes:
      file: position of the file in the source.
      content: what `read` of the same source decodes.
      line: line (text) or row (columnar) number of the first row in its file, from 1.
      row: number of the first row over all files, from 0; numbers increase with the position in
        the data, and each row has one of its own.
      end: the number that the first row of the next block will have.
      position: bytes of all raw files consumed up to here, for progress.
    """

    file: int
    content: Any
    line: int
    row: int
    end: int
    position: int


@dataclasses.dataclass(frozen=True)
class Reject:
    """A row that cannot be used.

    Attributes:
      file: its file.
      line: its line or row number, from 1.
      reason: what is wrong with it, complete but for the place.
      text: the row as it stands in the file, undecodable bytes escaped.
    """

    file: str
    line: int
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.file} line {self.line}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class RawRows:
    """The rows of one block.

    Attributes:
      columns: raw columns by name, string, also in dictionaries, or `packing.EIGHT_BYTES` ``[N]``,
        null where missing.
      lines: line number of each row in its file, int64 ``[N]``.
      rows: number of each row over all files, int64 ``[N]``.
      text: the raw text of a row given its position in these arrays.
      rejects: rows of the block that are not in the arrays.
      headerless: whether the format has no header, so that a first row that looks like one is a
        mistake to be named.
      typed: the columns as they were before they became texts, where they were no texts: arrays,
        or lists of values.
    """

    columns: Mapping[str, pa.Array | pa.ChunkedArray]
    lines: np.ndarray
    rows: np.ndarray
    text: Callable[[int], str]
    rejects: tuple[Reject, ...] = ()
    headerless: bool = False
    typed: Mapping[str, Any] | None = None


class Source(Protocol):
    """An origin of rows."""

    @property
    def files(self) -> tuple[RawFile, ...]:
        """The raw files in order; empty for generated data."""

    @property
    def size(self) -> int:
        """The last block's `position`: bytes of all raw files."""

    def blocks(self) -> Iterator[Block]:
        """The blocks in order. Called from one thread."""

    def read(self, block: Block) -> RawRows:
        """Decodes a block. Called from several threads."""


@dataclasses.dataclass(frozen=True)
class RawData:
    """A source together with the meaning of its columns: all that preparation needs.

    Attributes:
      source: the rows.
      columns: the ``F`` fields.
      label: the label.
      time: what `split=time` goes by; None where the data have no time.
      beside: files besides the rows that the prepared data depend on, such as a list of movies.
      group: the raw column within whose values rows are ranked; None where none is asked for.
      weight: how much each row counts; None where all count alike.
      facts: further facts to store with the prepared data, such as a planted truth (plain values).
    """

    source: Source
    columns: tuple[columns_lib.Column, ...]
    label: columns_lib.Label
    time: columns_lib.Time | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    beside: tuple[RawFile, ...] = ()
    group: str | None = None
    weight: columns_lib.Weight | None = None
