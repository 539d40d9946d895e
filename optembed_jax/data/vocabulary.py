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
from optembed_jax.data.raw.bags import CodedBag
from optembed_jax.data.raw.columns import Coded
from optembed_jax.data.raw.missing import null_where
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.values.cells import in_weighted_slots
from optembed_jax.values.lookup import Bins, Lookup, all_bins, lookup_of
from optembed_jax.values.rule import Rule
from optembed_jax.values.table import Texts, joined, texts_of

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
      edges: the inner edges of a numeric field's bins; None for other fields.
      rule: which texts mean the same value; the values are written as it writes them.
    """

    name: str
    values: pa.StringArray
    edges: np.ndarray | None = None
    rule: Rule = dataclasses.field(default_factory=Rule)

    @property
    def size(self) -> int:
        """Rows of the field's block, the OOV row included."""
        return 1 + len(self.values)

    @functools.cached_property
    def found_by(self) -> Texts | Bins:
        """What values are found by."""
        return texts_of_array(self.values) if self.edges is None else self.bins

    @property
    def bins(self) -> Bins:
        """The bins of a numeric field."""
        assert self.edges is not None
        return all_bins(self.edges, bool(self.values.null_count))


class Vocabulary:
    """All fields' values.

    Attributes:
      names: of the ``F`` fields.
    """

    def __init__(self, names: Sequence[str], lookup: Lookup) -> None:
        self.names, self.lookup = tuple(names), lookup

    @classmethod
    def of(cls, fields: Sequence[FieldVocabulary]) -> "Vocabulary":
        """The vocabulary of the values of each field."""
        lookup = lookup_of(
            [field.found_by for field in fields],
            [field.size for field in fields],
            [field.rule for field in fields],
        )
        return cls([field.name for field in fields], lookup)

    @functools.cached_property
    def fields(self) -> tuple[FieldVocabulary, ...]:
        """The values of each field."""
        made = []
        for number, (name, rule) in enumerate(zip(self.names, self.lookup.rules, strict=True)):
            found = self.lookup.bins[number]
            if found is None:
                values = array_of_texts(self.lookup.field_texts(number))
                made.append(FieldVocabulary(name, values, None, rule))
            else:
                values = pa.array(_bin_values(found, self.lookup.sizes[number]), pa.string())
                made.append(FieldVocabulary(name, values, found.edges, rule))
        return tuple(made)

    @functools.cached_property
    def layout(self) -> Fields:
        """Names, sizes and offsets.

        Raises:
          InputError: more rows than int32 ids can number.
        """
        return layout_of(self.names, self.lookup.sizes)

    def encode(
        self, fields: Sequence[Coded | np.ndarray], slots: Sequence[int] | None = None
    ) -> np.ndarray:
        """Ids of coded fields (see `raw.coding.code_fields`): int32 ``[N, F]``.

        Of fields with several values ``[N, S]``, each with its number of slots; with the weights of
        values ``[N, S + W]``.
        """
        slots = [1] * len(fields) if slots is None else slots
        plain = {
            number: texts_of_array(field.values)
            for number, field in enumerate(fields)
            if isinstance(field, Coded)
        }
        sizes = np.array([len(texts) for texts in plain.values()], np.int64)
        fields_of = np.repeat(np.array(list(plain), np.int64), sizes)
        places = self.lookup.places(joined(list(plain.values())), fields_of).astype(np.int32)
        ends = np.cumsum([0, *sizes])  # also where no field has texts
        found = {
            number: places[begin:end]
            for number, begin, end in zip(plain, ends[:-1], ends[1:], strict=True)
        }
        rows = len(fields[0].codes if isinstance(fields[0], Coded) else fields[0])
        ids, nothing = np.empty((sum(slots), rows), np.int32), self.layout.num_features
        beside = []
        start = 0
        for number, (field, offset, many) in enumerate(
            zip(fields, self.layout.offsets.tolist(), slots, strict=True)
        ):
            if isinstance(field, CodedBag):
                own_ids = np.append(found[number] + np.int32(offset), np.int32(nothing))
                cells, weights = in_weighted_slots(
                    own_ids[field.codes], field.weights, many, offset, nothing
                )
                ids[start : start + many] = cells.T
                if field.weights is not None:
                    beside.append(weights.view(np.int32).T)
            elif isinstance(field, Coded):
                np.take(found[number] + np.int32(offset), field.codes, out=ids[start], mode="clip")
            else:
                own = self.lookup.bins[number]
                assert own is not None
                ids[start] = own.find(field) + offset
            start += many
        return np.ascontiguousarray(np.concatenate([ids, *beside]).T if beside else ids.T)

    def id(self, field: str, value: str | None) -> int:
        """The id of a raw value (None for missing); its field's OOV id if it has no row.

        For a numeric field the value is a bin as `raw` gives it, not a number.

        Raises:
          InputError: there is no such field.
        """
        number = self._field(field)
        own = self.lookup.bins[number]
        if own is None:
            place = int(self.lookup.places(texts_of([value or ""]), np.array([number]))[0])
        else:
            values = _bin_values(own, self.lookup.sizes[number])
            place = 1 + values.index(value) if value in values else 0
        return int(self.layout.offsets[number]) + place

    def raw(self, row: int) -> RawValue:
        """What an id stands for.

        Raises:
          InputError: the id is outside ``0 .. V - 1``.
        """
        if not 0 <= row < self.layout.num_features:
            raise InputError(f"id {row} is not within 0 .. {self.layout.num_features - 1}")
        number = int(np.searchsorted(self.layout.offsets, row, side="right")) - 1
        name, place = self.names[number], row - int(self.layout.offsets[number])
        if place == 0:
            return RawValue(name, None, OOV_KIND)
        own = self.lookup.bins[number]
        if own is None:
            value = self.lookup.value(number, place)
        else:
            value = _bin_values(own, self.lookup.sizes[number])[place - 1]
        return RawValue(name, value, MISSING_KIND if value is None else VALUE_KIND)

    def _field(self, name: str) -> int:
        if name not in self.layout.names:
            raise InputError(f"no field {name!r}; there are: {', '.join(self.layout.names)}")
        return self.layout.names.index(name)


def _bin_values(found: Bins, size: int) -> list[str | None]:
    """What the rows of a numeric field stand for, None for the missing value."""
    values: list[str | None] = [None] * (size - 1)
    for place, name in zip(found.places.tolist(), bins.bin_names(found.edges), strict=False):
        if place:
            values[place - 1] = name
    return values


def texts_of_array(values: pa.Array) -> Texts:
    """Strings as `values.table` takes them, null as the empty text; a copy of the bytes."""
    if values.null_count:
        values = pc.fill_null(values, "")
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int32) if offsets else np.zeros(1, np.int32)
    starts = ends[values.offset : values.offset + len(values) + 1]
    return Texts(np.frombuffer(data or b"", np.uint8), starts)


def array_of_texts(texts: Texts) -> pa.StringArray:
    """Strings of texts, the empty text as null, without a copy where there is none."""
    starts = np.ascontiguousarray(texts.starts, np.int32)
    buffers = [None, pa.py_buffer(starts), pa.py_buffer(texts.data)]
    strings = pa.Array.from_buffers(pa.string(), len(texts), buffers)
    missing = texts.lengths == 0
    if not missing.any():
        return strings
    return null_where(strings, missing)


def layout_of(
    names: Sequence[str],
    sizes: Sequence[int],
    slots: Sequence[int] = (),
    weighted: Sequence[bool] = (),
) -> Fields:
    """Names, sizes, slots and offsets of ``F`` fields, and whose values have weights.

    Raises:
      InputError: more rows than int32 ids can number.
    """
    if sum(sizes) >= 2**31:
        raise InputError(
            f"the vocabulary has {sum(sizes)} rows, more than int32 ids can number; raise min_count"
        )
    return Fields(tuple(names), tuple(sizes), tuple(slots), tuple(weighted))


def write_vocabulary(
    path: pathlib.Path, fields: Iterable[tuple[FieldVocabulary, np.ndarray]]
) -> None:
    """Writes a vocabulary as Parquet: each field, and the training counts of its rows, int64."""
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
                pa.array(counts),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            first += field.size


def _repeated(codes: np.ndarray, values: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(values, pa.string()))


def read_vocabulary(
    path: pathlib.Path,
    layout: Fields,
    edges: Mapping[str, np.ndarray],
    rules: Mapping[str, Rule],
) -> Vocabulary:
    """Reads what `write_vocabulary` wrote; edges and rules are by field's name."""
    values = pq.read_table(path, columns=["value"])["value"].combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    fields = [
        FieldVocabulary(
            name, values.slice(offset + 1, size - 1), edges.get(name), rules.get(name, Rule())
        )
        for name, offset, size in zip(
            layout.names, layout.offsets.tolist(), layout.sizes, strict=True
        )
    ]
    return Vocabulary.of(fields)


def read_field(path: pathlib.Path, layout: Fields, number: int) -> FieldVocabulary:
    """Reads the values of one field that is not numeric, as texts of which each is a value."""
    start = int(layout.offsets[number]) + 1
    size = layout.sizes[number] - 1
    if not size:
        return FieldVocabulary(layout.names[number], pa.array([], pa.string()))
    with pq.ParquetFile(path) as file:
        groups = range(file.num_row_groups)
        ends = np.cumsum([file.metadata.row_group(group).num_rows for group in groups])
        first, last = np.searchsorted(ends, [start, start + size - 1], side="right").tolist()
        read = file.read_row_groups(range(first, last + 1), columns=["value"])["value"]
        before = int(ends[first - 1]) if first else 0
    values = pa.concat_arrays(read.slice(start - before, size).chunks)
    return FieldVocabulary(layout.names[number], values)


def read_counts(path: pathlib.Path) -> np.ndarray:
    """The training counts in a vocabulary file, int64 ``[V]``."""
    return pq.read_table(path, columns=["count"])["count"].to_numpy()
