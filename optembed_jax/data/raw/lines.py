"""Text files with a record on each line; see `optembed_jax.data.raw.sources.Source`."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.layout import UTF8
from optembed_jax.data.raw.sources import Block, RawRows, Reject
from optembed_jax.data.raw.whole_rows import whole_rows
from optembed_jax.errors import InputError

BLOCK_BYTES = 16 * 2**20


class Decoded(NamedTuple):
    """What some lines are.

    Attributes:
      columns: by name, of the lines that are rows.
      good: the places of these among the lines.
      faults: places and faults of the others.
      typed: as of `RawRows`.
    """

    columns: dict[str, pa.Array]
    good: list[int]
    faults: list[tuple[int, str]]
    typed: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class LineSource:
    """Files of one record a line; lines of blanks are no rows.

    Attributes:
      files: read in this order as one.
      wanted: the columns to decode.
      decode: makes columns, strings ``[N]``, of lines and the wanted columns' names.
      encoding: of the text.
      block_bytes: about how much text one block holds.
      may_be_empty: whether a file may have no rows.
    """

    files: tuple[RawFile, ...]
    wanted: tuple[str, ...]
    decode: Callable[[Sequence[bytes], Sequence[str]], Decoded]
    encoding: str = UTF8
    block_bytes: int = BLOCK_BYTES
    may_be_empty: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files as they stand on disk."""
        return sum(file.path.stat().st_size for file in self.files)

    def blocks(self) -> Iterator[Block]:
        """Cuts the files into blocks of whole lines, in order.

        Raises:
          InputError: an empty file, or one that is damaged.
        """
        row, before = 0, 0
        for number, file in enumerate(self.files):
            line, before_file = 1, row
            for content, position in whole_rows(
                file.path, size=self.block_bytes, encoding=self.encoding
            ):
                lines = content.splitlines()
                # By rows alone: their numbers draw the split, which no blank line may change.
                end = row + sum(1 for text in lines if text.strip())
                yield Block(number, lines, line, row, end, before + position)
                line, row = line + len(lines), end
            if row == before_file and not self.may_be_empty:
                raise InputError(f"{file.path} holds no rows")
            before += file.path.stat().st_size

    def read(self, block: Block) -> RawRows:
        """Decodes a block; lines that cannot be decoded come back as rejects."""
        numbered = [(n, line) for n, line in enumerate(block.content) if line.strip()]
        lines = [line for _, line in numbered]
        columns, good, faults, typed = self.decode(lines, self.wanted)
        path = str(self.files[block.file].path)
        steps = np.array([numbered[place][0] for place in good], np.int64)
        numbers = np.array(good, np.int64)
        return RawRows(
            columns=columns,
            lines=block.line + steps,
            rows=block.row + numbers,
            text=lambda position: _printable(lines[good[position]]),
            rejects=tuple(
                Reject(path, block.line + numbered[place][0], reason, _printable(lines[place]))
                for place, reason in faults
            ),
            typed=typed,
        )


def first_lines(source: LineSource) -> list[bytes]:
    """The lines of the first block that are not blank; none of an empty file."""
    for block in source.blocks():
        return [line for line in block.content if line.strip()]
    return []


def _printable(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")
