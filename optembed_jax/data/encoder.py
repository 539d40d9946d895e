"""Raw columns to ids, away from the prepared data set: what a serving artifact carries along.

The same code as in preparation; only the vocabulary, the data set's name and the options that say
how its fields are made travel.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from optembed_jax.data.formats.registry import DATASETS
from optembed_jax.data.raw import coding, columns
from optembed_jax.data.raw.bags import CodedBag
from optembed_jax.data.raw.columns import BUCKET, CATEGORICAL, NUMERIC, Coded, Column
from optembed_jax.data.raw.sources import RawRows
from optembed_jax.data.raw.writing import without_blanks
from optembed_jax.data.request_columns import RawColumns, are_few, raw_columns
from optembed_jax.data.vocabulary import Vocabulary
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.values.cells import Cells, tell_cut
from optembed_jax.values.columns import check_cells, columns_by_name
from optembed_jax.values.description import Description, describe_field, read_description
from optembed_jax.values.lookup import Lookup
from optembed_jax.values.lookup_tables import read_tables, with_one_for_all, write_tables
from optembed_jax.values.rows import RowEncoder
from optembed_jax.values.spelling import check_spellings
from optembed_jax.values.table import texts_of
from optembed_jax.values.unseen import Expected, expected_shares
from optembed_jax.values.vocabulary_file import read_values, write_values

_SEVERAL_ROWS = 4096
"""Up to so many it is quicker to look up each value than each distinct one."""


@dataclasses.dataclass(frozen=True, eq=False)
class Encoder:
    """How raw columns become ids.

    Attributes:
      dataset: name of the data set.
      options: it was prepared with, without the paths of raw files.
      facts: what the data set found in its raw files and its fields need, such as movies by id.
      columns: the ``F`` fields.
      vocabulary: their values.
      expected: what share of the rows should have a value without a row.
    """

    dataset: str
    options: Mapping[str, Any]
    facts: Mapping[str, Any]
    columns: tuple[Column, ...]
    vocabulary: Vocabulary
    expected: Expected

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the raw columns that are read."""
        return tuple(dict.fromkeys(column.source for column in self.columns))

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the raw columns that are read as numbers."""
        return tuple(column.source for column in self.columns if column.kind == NUMERIC)

    @property
    def slots(self) -> tuple[int, ...]:
        """Ids of each field that an encoded row has: the most values of a cell that are read."""
        return tuple(column.slots for column in self.columns)

    @functools.cached_property
    def cells(self) -> Mapping[str, Cells]:
        """Of the raw columns whose values may be lists, how they are read."""
        return {
            column.source: column.cells
            for column in self.columns
            if column.cells is not None and column.transform is None
        }

    @functools.cached_property
    def description(self) -> Description:
        """What is made of which raw column."""
        lookup = self.vocabulary.lookup
        described = [
            describe_field(
                column.name,
                column.source,
                step=column.step or (("pyarrow",) if column.transform is not None else ()),
                read=column.rule,
                expected="a number" if bins is not None else column.expected,
                rule=rule,
                bins=bins,
                cells=column.cells,
            )
            for column, rule, bins in zip(self.columns, lookup.rules, lookup.bins, strict=True)
        ]
        return Description(self.dataset, self.options, self.facts, described, self.expected)

    @functools.cached_property
    def _as_they_are(self) -> tuple[tuple[int, str], ...]:
        """Number and raw column of each field whose values are looked up as they are."""
        return tuple(
            (number, column.source)
            for number, column in enumerate(self.columns)
            if column.is_plain and column.rule is None
        )

    @functools.cached_property
    def _plain_sources(self) -> frozenset[str]:
        """Raw columns whose values nothing is made of."""
        return frozenset(self.sources) - {c.source for c in self.columns if not c.is_plain}

    @functools.cached_property
    def rows(self) -> RowEncoder | None:
        """The way for few rows; None where a field can be made of whole columns alone."""
        try:
            return RowEncoder(self.description.row_fields(), self.vocabulary.lookup)
        except InputError:
            return None

    def encode(self, rows: RawColumns, first_row: int = 0) -> np.ndarray:
        """Ids int32 ``[N, F]`` of raw rows; values without a row get their field's OOV id.

        Of fields with several values ``[N, S]``, ``V`` in slots without a value; where values have
        weights ``[N, S + W]`` (`fields.Fields`).

        Args:
          rows: the raw columns; those that are not needed are ignored.
          first_row: number of the first row, for messages.

        Raises:
          InputError: a column is missing, lengths differ, or a value is unusable.
        """
        arrays = columns_by_name(rows)
        if self.rows is not None and are_few(arrays, self.sources):
            return self.rows.encode(arrays, first_row)
        self._check_spellings(arrays, first_row)
        return self.encode_texts(
            raw_columns(arrays, self.sources, first_row, self.cells), first_row
        )

    def encode_rows(self, rows: RawRows, first_row: int = 0) -> np.ndarray:
        """Ids int32 ``[N, F]`` of rows as a source gives them; see `encode`.

        Raises:
          InputError: as of `encode`, also where a typed value could be either of two texts.
        """
        if rows.typed is not None:
            self._check_spellings(rows.typed, first_row)
        return self.encode_texts(rows.columns, first_row)

    def _check_spellings(self, typed: Mapping[str, Any], first_row: int) -> None:
        lookup = self.vocabulary.lookup
        check_spellings(self._as_they_are, lookup, typed, first_row, self.cells)

    def encode_texts(
        self, arrays: Mapping[str, pa.Array | pa.ChunkedArray], first_row: int = 0
    ) -> np.ndarray:
        """Ids int32 ``[N, F]`` of raw columns as a source of rows gives them; see `encode`.

        Args:
          arrays: the raw columns, string or `packing.EIGHT_BYTES`, null where missing.
          first_row: number of the first row, for messages.
        """
        few = len(arrays[self.sources[0]]) <= _SEVERAL_ROWS
        for source, cells in self.cells.items():
            if cells.separator is None:
                check_cells(source, arrays[source].to_pylist(), first_row, cells)
        coded = {
            source: columns.uncoded(arrays[source])
            if few and source in self._plain_sources
            else columns.code(arrays[source])
            for source in self.sources
        }
        for source in coded.keys() - self._plain_sources:
            raw = coded[source]
            coded[source] = Coded(raw.codes, without_blanks(raw.values))
        fault = coding.first_fault(self.columns, coded)
        if fault is not None:
            raise InputError(f"row {first_row + fault[0]}: {fault[1]}")
        fields = coding.code_fields(self.columns, coded)
        for column, field in zip(self.columns, fields, strict=True):
            if column.cells is not None and isinstance(field, CodedBag) and field.cut.any():
                tell_cut(column.name, column.cells)
        return self.vocabulary.encode(fields, self.slots)

    def keep(self, rows: np.ndarray, counts: np.ndarray, min_count: int) -> "Encoder":
        """The encoder of fewer values: whatever has no row any more is as if it was never seen.

        Args:
          rows: which rows of all fields stay, bool ``[V]``; each field's OOV row stays in any case.
          counts: of the training rows, int64 ``[V]``.
          min_count: how often a value had to be seen to get a row.
        """
        fields = self.vocabulary.layout
        inner = fields.offsets[1:]
        lookup = self.vocabulary.lookup.keep(np.split(np.asarray(rows, bool), inner))
        expected = expected_of(self.columns, fields, counts, min_count, rows)
        return dataclasses.replace(self.of(lookup), expected=expected)

    def of(self, lookup: Lookup) -> "Encoder":
        """The encoder of fewer values, of whose shares of new rows nothing is known.

        In tables all texts that have no row are one: it is shorter, and all ids are as they were.
        """
        asked: dict[str, dict[int, list[int]]] = {}
        for number, column in enumerate(self.columns):
            if column.step[:1] == ("lookup",):
                name, place = str(column.step[1]), int(column.step[2])
                asked.setdefault(name, {}).setdefault(place, []).append(number)

        def have_row(numbers: list[int], texts: list[str]) -> np.ndarray:
            of_texts = texts_of(texts)
            every = [lookup.places(of_texts, np.full(len(texts), n, np.int64)) for n in numbers]
            return np.any(every, axis=0)

        facts = dict(self.facts)
        for name, places in asked.items():
            # Of a cell of several values each counts by itself.
            asks = {
                place: functools.partial(have_row, numbers)
                for place, numbers in places.items()
                if not any(self.columns[number].cells for number in numbers)
            }
            facts[name] = with_one_for_all(facts[name], asks)
        vocabulary = Vocabulary(self.vocabulary.names, lookup)
        return dataclasses.replace(self, vocabulary=vocabulary, facts=facts)

    def written(self) -> tuple[bytes, bytes, bytes | None]:
        """Three files: JSON that says how fields are made, their values, and the tables that values
        are looked up in; None where there are none.
        """
        return self.description.as_json(), write_values(self.vocabulary.lookup), self.tables_file

    @functools.cached_property
    def tables_file(self) -> bytes | None:
        """The last of the files of :meth:`written`."""
        tables = self.description.tables
        return write_tables(tables) if tables else None


def read_encoder(
    description: bytes, vocabulary: bytes, fields: Fields, tables: bytes | None = None
) -> Encoder:
    """Read the files that :meth:`Encoder.written` gave.

    Raises:
      InputError: a file is damaged, of a data set that this package does not know, or of other
        fields.
    """
    looked_up_in = None if tables is None else read_tables(tables)
    described = read_description(description, fields.names, looked_up_in)
    values = read_values(vocabulary, fields.sizes, described.rules, described.bins)
    try:
        made = DATASETS[described.dataset].columns_of(described.options, described.facts)
        made = in_order(made, fields)
        if tuple(column.slots for column in made) != fields.slots:
            raise ValueError(f"its fields have other numbers of values than {fields.slots}")
        if tuple(column.is_weighted for column in made) != fields.weighted:
            raise ValueError("other fields of it have values with weights")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"it is not of a data set that is known here: {error!r}") from error
    return Encoder(
        dataset=described.dataset,
        options=described.options,
        facts=described.facts,
        columns=made,
        vocabulary=Vocabulary(fields.names, values),
        expected=described.expected,
    )


def expected_of(
    made: Sequence[Column],
    fields: Fields,
    counts: np.ndarray,
    min_count: int,
    rows: np.ndarray | None = None,
) -> Expected:
    """What share of new rows should have a value without a row, by the training counts.

    Args:
      made: the ``F`` fields.
      fields: their names and sizes.
      counts: of the training rows, int64 ``[V]``.
      min_count: how often a value of a categorical field had to be seen to get a row.
      rows: bool ``[V]``, which rows are left; None where all are.
    """
    counts = np.asarray(counts)
    left = np.ones(len(counts), bool) if rows is None else np.asarray(rows, bool)
    inner = fields.offsets[1:]
    of_fields, least = [], []
    kinds = {column.name: column.kind for column in made}
    for name, own, kept in zip(
        fields.names, np.split(counts, inner), np.split(left, inner), strict=True
    ):
        without = own[0] + own[1:][~kept[1:]].sum()
        of_fields.append(np.concatenate([[without], own[1:][kept[1:]]]))
        # A bin has a row however few values it holds.
        least.append({CATEGORICAL: min_count, BUCKET: 1}.get(kinds[name], 0))
    shares, total = expected_shares(of_fields, least)
    return Expected(fields.names, shares, total)


def in_order(made: tuple[Column, ...], fields: Fields) -> tuple[Column, ...]:
    """Columns in the order of the fields, whatever order the description came in.

    Raises:
      KeyError: a field has no column.
    """
    by_name = {column.name: column for column in made}
    return tuple(by_name[name] for name in fields.names)
