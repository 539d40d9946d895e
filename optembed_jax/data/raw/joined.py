"""Several sources as one, such as the part files of a folder; see `raw.sources.Source`.

Each file is a source of its own, with its own order of columns, and what its folders' names say
(``day=2024-03-01``, as Hive and Spark lay tables out) are columns of it.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import pyarrow as pa

from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.sources import Block, RawRows, Source


@dataclasses.dataclass(frozen=True)
class Partitioned:
    """A source whose rows have further columns, of one value each.

    Attributes:
      source: the rows.
      values: of the further columns, by name; None is a missing value.
    """

    source: Source
    values: Mapping[str, str | None]

    @property
    def files(self) -> tuple[RawFile, ...]:
        """Those of the source."""
        return self.source.files

    @property
    def size(self) -> int:
        """That of the source."""
        return self.source.size

    def blocks(self) -> Iterator[Block]:
        """Those of the source."""
        return self.source.blocks()

    def read(self, block: Block) -> RawRows:
        """The rows of the source with the further columns."""
        rows = self.source.read(block)
        more = {
            name: pa.repeat(pa.scalar(value, pa.string()), len(rows.lines))
            for name, value in self.values.items()
        }
        return dataclasses.replace(rows, columns={**rows.columns, **more})


@dataclasses.dataclass(frozen=True)
class Joined:
    """Sources read one after another.

    Attributes:
      sources: in order; their rows have the same columns.
    """

    sources: tuple[Source, ...]

    @property
    def files(self) -> tuple[RawFile, ...]:
        """The files of all sources, in order."""
        return tuple(file for source in self.sources for file in source.files)

    @property
    def size(self) -> int:
        """The sum of the sources' sizes."""
        return sum(source.size for source in self.sources)

    def blocks(self) -> Iterator[Block]:
        """The blocks of the first source, then those of the next."""
        files, position, row = 0, 0, 0
        for number, source in enumerate(self.sources):
            first = row
            for inner in source.blocks():
                shifted = dataclasses.replace(inner, row=first + inner.row, end=first + inner.end)
                row = shifted.end
                yield dataclasses.replace(
                    shifted,
                    file=inner.file + files,
                    content=(number, shifted),
                    position=inner.position + position,
                )
            files += len(source.files)
            position += source.size

    def read(self, block: Block) -> RawRows:
        """Decodes a block of whichever source it is."""
        number, inner = block.content
        return self.sources[number].read(inner)
