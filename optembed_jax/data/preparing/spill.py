"""Coded blocks on disk, between the reading of the raw text and the writing of records.

The raw text is read once. Its rows wait here as small integers (numbers of values in the block's
own dictionaries), one file per block, until the vocabulary of all blocks is known. The dictionaries
wait apart, one file per field, because they are merged field by field: beside them the counts of
their values, and at last the place of each value in its field's vocabulary, and that vocabulary.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from optembed_jax.data.raw.bags import CodedBag
from optembed_jax.data.raw.coding import CodedRows
from optembed_jax.data.raw.columns import Coded
from optembed_jax.data.raw.writing import canonical_values
from optembed_jax.values.rule import Rule

_VALUES = pa.schema([("value", pa.string())])


@dataclasses.dataclass(frozen=True)
class SpilledRows:
    """The rows of one block, mapped into memory.

    Attributes:
      batch: columns `f0` .. (codes, or float64 where the field is numeric), `w0` .. of those whose
        values have weights, `label`, `row`, and
        `split`, `time`, `group` and `weight` where they were known.
    """

    batch: pa.RecordBatch

    def field(self, field: int) -> np.ndarray:
        """A field's codes, of several values in a cell ``[N, W]``, or its numbers."""
        return self._array(f"f{field}")

    def weights(self, field: int) -> np.ndarray | None:
        """The weights of a field's values, float32 ``[N, W]``; None where they have none."""
        name = f"w{field}"
        return self._array(name) if name in self.batch.schema.names else None

    def _array(self, name: str) -> np.ndarray:
        column = self.batch.column(name)
        if isinstance(column, pa.FixedSizeListArray):
            return column.flatten().to_numpy().reshape(len(column), column.type.list_size)
        return column.to_numpy()

    def column(self, name: str) -> np.ndarray:
        """One of `label`, `row`, `split`, `time`, `group`, `weight`."""
        return self.batch.column(name).to_numpy()


def spilled(rows: CodedRows, split: np.ndarray | None) -> SpilledRows:
    """The rows of a block without their dictionaries, small; the split where it is known."""
    columns: dict[str, np.ndarray] = {}
    for number, field in enumerate(rows.fields):
        if isinstance(field, Coded):
            if isinstance(field, CodedBag) and field.weights is not None:
                columns[f"w{number}"] = field.weights
            field = field.codes.astype(_narrowest(len(field.values) + 1))
        columns[f"f{number}"] = field
    others = {"label": rows.labels, "row": rows.rows, "split": split, "time": rows.times}
    others |= {"group": rows.groups, "weight": rows.weights}
    columns |= {name: values for name, values in others.items() if values is not None}
    batch = pa.RecordBatch.from_arrays([_column(c) for c in columns.values()], list(columns))
    return SpilledRows(batch)


class Spill:
    """A folder of coded blocks.

    Blocks are written by any thread in any order (`write_rows`); what is kept by field is appended
    in the order of the blocks (`append_values`, `append_counts`), and closed by `finish`.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._sizes: list[list[int]] = []
        self._kinds = 1  # K of the counts
        self._rules: dict[int, Rule] = {}
        self._values: dict[int, tuple[pa.ipc.RecordBatchStreamWriter, pa.OSFile]] = {}
        self._counts: dict[int, io.BufferedWriter] = {}
        self._places: dict[int, io.BufferedReader] = {}

    def write_rows(self, index: int, rows: CodedRows, split: np.ndarray | None) -> None:
        """Writes the rows of block `index`."""
        batch = spilled(rows, split).batch
        with (
            pa.OSFile(str(self._rows(index)), "wb") as sink,
            pa.ipc.new_file(sink, batch.schema) as writer,
        ):
            writer.write_batch(batch)

    def read_rows(self, index: int) -> SpilledRows:
        """Maps the rows of block `index` into memory."""
        with pa.memory_map(str(self._rows(index))) as source:
            return SpilledRows(pa.ipc.open_file(source).get_batch(0))

    def remove_rows(self, index: int) -> None:
        """Deletes the rows of block `index`."""
        self._rows(index).unlink()

    def append_values(self, fields: Sequence[Coded | np.ndarray]) -> None:
        """Keeps the dictionaries of the next block."""
        for number, field in enumerate(fields):
            if isinstance(field, Coded):
                if number not in self._values:
                    path = str(self.folder / f"values-{number}")
                    sink = pa.OSFile(path, "wb")
                    self._values[number] = (pa.ipc.new_stream(sink, _VALUES), sink)
                batch = pa.RecordBatch.from_arrays([field.values], schema=_VALUES)
                self._values[number][0].write_batch(batch)
        self._sizes.append([len(f.values) if isinstance(f, Coded) else 0 for f in fields])

    def append_counts(self, counts: Sequence[np.ndarray]) -> None:
        """Keeps, for each field of the next block, int32 ``[K, values]``; see `merge_field`."""
        for number, count in enumerate(counts):
            if number not in self._counts:
                self._counts[number] = (self.folder / f"counts-{number}").open("wb")
            self._counts[number].write(np.ascontiguousarray(count, np.int32).tobytes())
            self._kinds = len(count)

    def finish(self) -> None:
        """Ends the appending; may be called again."""
        for writer, sink in self._values.values():
            writer.close()
            sink.close()
        for stream in self._counts.values():
            stream.close()
        self._values, self._counts = {}, {}

    @property
    def num_blocks(self) -> int:
        """Blocks whose values were kept."""
        return len(self._sizes)

    def sizes(self, field: int) -> np.ndarray:
        """Values in each block's dictionary of a field, int64 ``[blocks]``."""
        return np.array([sizes[field] for sizes in self._sizes], np.int64)

    def read_by(self, rules: Mapping[int, Rule]) -> None:
        """From now on the values of these fields are given as their rules read them."""
        self._rules = dict(rules)

    def values(self, field: int) -> Iterator[pa.Array]:
        """Each block's dictionary of a field, in order; a rule may have made values equal."""
        rule = self._rules.get(field, Rule())
        with (
            pa.OSFile(str(self.folder / f"values-{field}")) as source,
            pa.ipc.open_stream(source) as reader,
        ):
            for batch in reader:
                yield canonical_values(batch.column(0), rule)

    def counts(self, field: int) -> Iterator[np.ndarray]:
        """Each block's counts of a field, in order, int32 ``[K, values]``."""
        with (self.folder / f"counts-{field}").open("rb") as stream:
            for size in self.sizes(field).tolist():
                content = np.frombuffer(stream.read(4 * self._kinds * size), np.int32)
                yield content.reshape(self._kinds, size)

    def divide(self, field: int, parts: int, rule: Callable[[pa.Array, int], np.ndarray]) -> None:
        """Divides a field's values, with their counts, into parts that can be read one by one.

        Args:
          field: the field's position.
          parts: how many.
          rule: given values and `parts`, the part of each value, integers ``[N]``.
        """
        counts = [(f"count{k}", pa.int32()) for k in range(self._kinds)]
        schema = pa.schema([("value", pa.string()), ("position", pa.int32()), *counts])
        with contextlib.ExitStack() as open_files:
            writers = []
            for number in range(parts):
                sink = open_files.enter_context(pa.OSFile(str(self._part(field, number)), "wb"))
                writers.append(open_files.enter_context(pa.ipc.new_stream(sink, schema)))
            for values, count in zip(self.values(field), self.counts(field), strict=True):
                part = rule(values, parts)
                positions = np.argsort(part, kind="stable").astype(np.int32)
                columns = [values.take(pa.array(positions)), positions, *count[:, positions]]
                batch = pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=schema)
                ends = np.cumsum(np.bincount(part, minlength=parts)).tolist()
                for writer, start, end in zip(writers, [0, *ends], ends, strict=False):
                    writer.write_batch(batch.slice(start, end - start))

    def part(self, field: int, number: int) -> Iterator[tuple[pa.Array, np.ndarray, np.ndarray]]:
        """Reads a part of a divided field, and deletes it.

        Yields:
          For each block, in order: the values that are in the part, their counts int32
          ``[K, values]``, and their positions in the block's dictionary, int32.
        """
        path = self._part(field, number)
        with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as reader:
            for batch in reader:
                value, position, *counts = batch.columns
                # Copies: the columns of a batch share one buffer, which one of them would keep.
                yield value, np.stack([c.to_numpy() for c in counts]), np.array(position)
        path.unlink()

    def make_places(self, field: int) -> None:
        """A file for the place of every block's every value of a field, int32."""
        path = self._place_file(field)
        with path.open("wb") as stream:
            # Allocated now: writing to a mapped hole of a full disk would kill the process.
            size = 4 * int(self.sizes(field).sum())
            os.posix_fallocate(stream.fileno(), 0, max(size, 1))
        self._places[field] = path.open("rb")

    def map_places(self, field: int, start: int, size: int) -> np.ndarray:
        """Some of the places of a field, from number `start` on, to be written: mapped."""
        if not size:
            return np.zeros(0, np.int32)
        return np.memmap(self._place_file(field), np.int32, "r+", 4 * start, (size,))

    def places(self, field: int, start: int, size: int) -> np.ndarray:
        """Some of the places of a field, from number `start` on."""
        return np.frombuffer(os.pread(self._places[field].fileno(), 4 * size, 4 * start), np.int32)

    def write_merged(self, field: int, values: pa.Array, counts: np.ndarray) -> None:
        """Keeps a field's vocabulary: its values, and the counts of its OOV row and of each."""
        columns = [pa.concat_arrays([pa.nulls(1, pa.string()), values]), pa.array(counts)]
        batch = pa.RecordBatch.from_arrays(columns, ["value", "count"])
        with (
            pa.OSFile(str(self._merged(field)), "wb") as sink,
            pa.ipc.new_stream(sink, batch.schema) as writer,
        ):
            writer.write_batch(batch)

    def read_merged(self, field: int) -> tuple[pa.Array, np.ndarray]:
        """What `write_merged` kept."""
        with (
            pa.OSFile(str(self._merged(field))) as source,
            pa.ipc.open_stream(source) as reader,
        ):
            batch = reader.read_next_batch()
        return batch["value"].slice(1), batch["count"].to_numpy()

    def close(self) -> None:
        """Closes all files; may be called again."""
        self.finish()
        for stream in self._places.values():
            stream.close()

    def clear_coded(self) -> None:
        """Deletes what is kept by field, but for the vocabularies."""
        self.close()
        for kind in ("values", "counts", "places"):
            for path in self.folder.glob(f"{kind}-*"):
                path.unlink()

    def _rows(self, index: int) -> pathlib.Path:
        return self.folder / f"rows-{index}"

    def _place_file(self, field: int) -> pathlib.Path:
        return self.folder / f"places-{field}"

    def _part(self, field: int, number: int) -> pathlib.Path:
        return self.folder / f"part-{field}-{number}"

    def _merged(self, field: int) -> pathlib.Path:
        return self.folder / f"merged-{field}"


def _column(values: np.ndarray) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _narrowest(size: int) -> type[np.integer]:
    """The narrowest type of code; half the disk traffic comes from here."""
    if size <= 2**8:
        return np.uint8
    return np.uint16 if size <= 2**16 else np.int32
