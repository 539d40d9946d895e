"""The vocabulary: raw value to id and id to raw value, both ways, for every field.

Row 0 of a field's block is its OOV row; then come its values, the most frequent first (ties by
value), or the bins of a numeric field in their order and at last the missing value. A missing value
is a value like any other. Stored as one Parquet file, a row for each id (see docs/data.md).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from optembed_jax.data import bins
from optembed_jax.data.raw.columns import Coded
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields

OOV_KIND, MISSING_KIND, VALUE_KIND = "oov", "missing", "value"


@dataclasses.dataclass(frozen=True)
class RawValue:
    """What an id stands for.

    Attributes:
      field: the field's name.
      value: the raw value; None for a missing value and for the OOV row.
      kind: "value", "missing" or "oov".
    """

    field: str
    value: str | None
    kind: str


@dataclasses.dataclass(frozen=True, eq=False)
class FieldVocabulary:
    """The values of one field that have rows.

    Attributes:
      name: the field's name.
      values: string, one for each row after the OOV row; null is the missing value.
      edges: the inner edges ``[E]`` of a numeric field's bins; None for other fields.
      bin_places: int32 ``[E + 2]``, the place of each bin, and at last of the missing value, 0
        where it has no row; None where all have rows, or the field is not numeric.
    """

    name: str
    values: pa.StringArray
    edges: np.ndarray | None = None
    bin_places: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Rows of the field's block, the OOV row included."""
        return 1 + len(self.values)

    def places(self, field: Coded | np.ndarray) -> np.ndarray:
        """Places in the field's block, int32 ``[N]``, 0 (OOV) for values without a row."""
        if isinstance(field, Coded):
            found = pc.index_in(field.values, value_set=self.values)
            return (pc.fill_null(found, -1).to_numpy() + np.int32(1))[field.codes]
        assert self.edges is not None
        if self.bin_places is None:
            return bins.bin_values(field, self.edges, self.has_missing)
        return self.bin_places[bins.bin_values(field, self.edges, True) - 1]

    def keep(self, rows: np.ndarray) -> "FieldVocabulary":
        """The smaller vocabulary of some rows, bool ``[size]``; the OOV row stays in any case."""
        kept = np.flatnonzero(rows[1:])
        places = None
        if self.edges is not None:
            new = np.concatenate([[0], np.where(rows[1:], np.cumsum(rows[1:]), 0)])
            old = self.bin_places
            if old is None:
                old = np.arange(1, len(self.edges) + 3) * np.append(
                    np.ones(len(self.edges) + 1, int), int(self.has_missing)
                )
            places = new[old].astype(np.int32)
        return FieldVocabulary(self.name, self.values.take(pa.array(kept)), self.edges, places)

    @functools.cached_property
    def has_missing(self) -> bool:
        """Whether the missing value has a row."""
        return bool(self.values.null_count)


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """All fields' values.

    Attributes:
      fields: one `FieldVocabulary` for each of the ``F`` fields.
    """

    fields: tuple[FieldVocabulary, ...]

    @functools.cached_property
    def layout(self) -> Fields:
        """Names, sizes and offsets.

        Raises:
          InputError: more rows than int32 ids can number.
        """
        return layout_of([f.name for f in self.fields], [f.size for f in self.fields])

    def keep(self, rows: np.ndarray) -> "Vocabulary":
        """The smaller vocabulary of the rows that are kept, bool ``[V]``, and of all OOV rows."""
        blocks = np.split(np.asarray(rows, bool), self.layout.offsets[1:])
        return Vocabulary(
            tuple(field.keep(block) for field, block in zip(self.fields, blocks, strict=True))
        )

    def encode(self, fields: Sequence[Coded | np.ndarray]) -> np.ndarray:
        """Ids of coded fields (see `raw.coding.code_fields`): int32 ``[N, F]``."""
        columns = [
            vocabulary.places(field) + offset
            for vocabulary, field, offset in zip(
                self.fields, fields, self.layout.offsets, strict=True
            )
        ]
        return np.stack(columns, axis=1).astype(np.int32, copy=False)

    def id(self, field: str, value: str | None) -> int:
        """The id of a raw value (None for missing); its field's OOV id if it has no row.

        For a numeric field the value is a bin as `raw` gives it, not a number.

        Raises:
          InputError: there is no such field.
        """
        number = self._field(field)
        found = pc.index_in(
            pa.scalar(value, pa.string()), value_set=self.fields[number].values
        ).as_py()
        return int(self.layout.offsets[number]) + (0 if found is None else found + 1)

    def raw(self, row: int) -> RawValue:
        """What an id stands for.

        Raises:
          InputError: the id is outside ``0 .. V - 1``.
        """
        if not 0 <= row < self.layout.num_features:
            raise InputError(f"id {row} is not within 0 .. {self.layout.num_features - 1}")
        number = int(self.layout.field_of_row[row])
        field, place = self.fields[number], row - int(self.layout.offsets[number])
        if place == 0:
            return RawValue(field.name, None, OOV_KIND)
        value = field.values[place - 1].as_py()
        return RawValue(field.name, value, MISSING_KIND if value is None else VALUE_KIND)

    def _field(self, name: str) -> int:
        if name not in self.layout.names:
            raise InputError(f"no field {name!r}; there are: {', '.join(self.layout.names)}")
        return self.layout.names.index(name)


def layout_of(names: Sequence[str], sizes: Sequence[int]) -> Fields:
    """Names, sizes and offsets of ``F`` fields.

    Raises:
      InputError: more rows than int32 ids can number.
    """
    if sum(sizes) >= 2**31:
        raise InputError(
            f"the vocabulary has {sum(sizes)} rows, more than int32 ids can number; raise min_count"
        )
    return Fields(tuple(names), tuple(sizes))


def write_vocabulary(
    path: pathlib.Path, fields: Iterable[tuple[FieldVocabulary, np.ndarray | None]]
) -> None:
    """Writes a vocabulary as Parquet: each field, and the training counts of its rows, int64.

    Without counts (None), that column is null.
    """
    first = 0
    schema = pa.schema(
        [
            ("id", pa.int32()),
            ("field", pa.dictionary(pa.int8(), pa.string())),
            ("kind", pa.dictionary(pa.int8(), pa.string())),
            ("value", pa.string()),
            ("count", pa.int64()),
        ]
    )
    with pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=["field", "kind"]
    ) as writer:
        for field, counts in fields:
            values = pa.concat_arrays([pa.nulls(1, pa.string()), field.values])
            kinds = np.where(values.is_valid().to_numpy(False), 2, 1).astype(np.int8)
            kinds[0] = 0
            ids = np.arange(first, first + field.size, dtype=np.int32)
            columns = [
                pa.array(ids),
                _repeated(np.zeros(field.size, np.int8), [field.name]),
                _repeated(kinds, [OOV_KIND, MISSING_KIND, VALUE_KIND]),
                values,
                pa.nulls(field.size, pa.int64()) if counts is None else pa.array(counts),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            first += field.size


def _repeated(codes: np.ndarray, values: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(values, pa.string()))


def read_vocabulary(
    path: pathlib.Path,
    layout: Fields,
    edges: Mapping[str, np.ndarray],
    bin_places: Mapping[str, np.ndarray] | None = None,
) -> Vocabulary:
    """Reads what `write_vocabulary` wrote."""
    places = bin_places or {}
    values = pq.read_table(path, columns=["value"])["value"].combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    fields = [
        FieldVocabulary(name, values.slice(offset + 1, size - 1), edges.get(name), places.get(name))
        for name, offset, size in zip(
            layout.names, layout.offsets.tolist(), layout.sizes, strict=True
        )
    ]
    return Vocabulary(tuple(fields))


def read_counts(path: pathlib.Path) -> np.ndarray:
    """The training counts in a vocabulary file, int64 ``[V]``."""
    return pq.read_table(path, columns=["count"])["count"].to_numpy()
