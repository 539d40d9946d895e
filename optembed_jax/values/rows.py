"""Raw rows to ids in plain Python and NumPy: the quickest way for few rows, and for texts."""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.values.cells import (
    EXPECTED_WEIGHTS,
    Cells,
    in_weighted_slots,
    shown_cell,
    tell_cut,
)
from optembed_jax.values.columns import (
    cell_column_texts,
    check_utf8,
    column_texts,
    plain_texts,
    shown_names,
)
from optembed_jax.values.lookup import Lookup
from optembed_jax.values.numbers import number_of
from optembed_jax.values.rule import Rule, without_blanks
from optembed_jax.values.spelling import check_spellings
from optembed_jax.values.steps import Step, of_each
from optembed_jax.values.table import texts_of_all
from optembed_jax.values.text import check_texts


@dataclasses.dataclass(frozen=True)
class RowField:
    """How one field is made of a raw column.

    Attributes:
      name: the field's name.
      source: the raw column's.
      step: what is made of a value; None leaves it as it is.
      rule: how the raw values are read before the step; None as they are.
      expected: what a usable value is, for messages.
      cells: how what is made of a value is a cell of several; None where it is one.
    """

    name: str
    source: str
    step: Step | None = None
    rule: Rule | None = None
    expected: str = ""
    cells: Cells | None = None

    @property
    def slots(self) -> int:
        """The most values of a cell."""
        return 1 if self.cells is None else self.cells.max_values

    @property
    def is_plain(self) -> bool:
        """Whether the raw values are looked up as they are."""
        return self.step is None and self.rule is None and self.cells is None

    @property
    def reads_lists(self) -> bool:
        """Whether the raw values may be lists."""
        return self.cells is not None and self.step is None


class RowEncoder:
    """Raw rows to ids.

    Attributes:
      fields: the ``F`` fields.
      lookup: their values.
      at_once: texts that are looked up at a time, or more where one field has more: those of all
        fields of a large batch take tens of megabytes; of 2**12 some hundred kilobytes, in a sixth
        more time.
    """

    def __init__(self, fields: Sequence[RowField], lookup: Lookup, at_once: int = 2**15) -> None:
        self.fields, self.lookup, self.at_once = tuple(fields), lookup, at_once
        self._offsets = np.concatenate([[0], np.cumsum(lookup.sizes)[:-1]]).astype(np.int32)
        self._plain = [f for f, bins in enumerate(lookup.bins) if bins is None]
        self._sources = tuple(dict.fromkeys(field.source for field in fields))
        self._one_row = np.array(self._plain, np.int64)
        self._slots = tuple(field.slots for field in self.fields)
        self._has_cells = any(field.cells is not None for field in self.fields)
        self._lists = {field.source: field.cells for field in self.fields if field.reads_lists}
        self._read_as_they_are = tuple(
            (number, field.source)
            for number, field in enumerate(self.fields)
            if field.step is None and field.rule is None
        )
        self._as_they_are = frozenset(
            source
            for source in self._sources
            if all(
                field.is_plain and bins is None
                for field, bins in zip(self.fields, lookup.bins, strict=True)
                if field.source == source
            )
        )

    def encode(self, rows: Mapping[str, Sequence[Any]], first_row: int = 0) -> np.ndarray:
        """Ids int32 ``[N, F]``; values without a row get their field's OOV id.

        Of fields with several values ``[N, S]``, ``V`` in slots without a value; where values have
        weights ``[N, S + W]`` (`fields.Fields`).

        Args:
          rows: values by column, ``N`` each; columns that are not needed are ignored.
          first_row: number of the first row, for messages.

        Raises:
          InputError: a column is missing, lengths differ, or a value cannot be used.
        """
        columns = self._columns(rows, first_row)
        count = len(columns[self._sources[0]])
        ids = np.empty((len(self.fields), count), np.int32)
        read = _Read()
        for number, (field, bins) in enumerate(zip(self.fields, self.lookup.bins, strict=True)):
            if bins is None:
                self._read(number, columns[field.source], first_row, read)
            else:
                values, codes = _distinct(columns[field.source], field, first_row)
                numbers = _each(number_of, values, codes, field, first_row)
                found = bins.find(np.array(numbers, np.float64))
                ids[number] = found if codes is None else found[codes]
        places_of: dict[int, np.ndarray] = {}
        try:
            for begin, end in _groups(read.sizes, self.at_once):
                places, plain = self._places(read, begin, end), self._plain[begin:end]
                if not self._has_cells and not read.codes:
                    ids[plain] = places.reshape(len(plain), count)
                    continue
                ends = itertools.accumulate(read.sizes[begin:end])
                for number, size, last in zip(plain, read.sizes[begin:end], ends, strict=True):
                    own, codes = places[last - size : last], read.codes.get(number)
                    if self._has_cells:
                        places_of[number] = own
                    else:
                        ids[number] = own if codes is None else own.take(codes)
        except InputError:
            for source in self._as_they_are:
                check_utf8(source, columns[source], first_row)
            raise
        if self._has_cells:
            return self._with_cells(ids, places_of, read, count)
        return ids.T + self._offsets

    def _places(self, read: "_Read", begin: int, end: int) -> np.ndarray:
        """Where the texts of some of the fields that are not numeric are in their blocks, int64."""
        texts, sizes = texts_of_all(read.texts[begin:end]), read.sizes[begin:end]
        field = self._one_row[begin:end]
        is_one = max(sizes) == min(sizes) == 1
        return self.lookup.places(texts, field if is_one else np.repeat(field, sizes))

    def _columns(self, rows: Mapping[str, Sequence[Any]], first_row: int) -> dict[str, list[str]]:
        """The columns that are needed, each as texts, of which the missing ones are "".

        Of lists of texts it is not asked whether they have a UTF-8 form.
        """
        columns: dict[str, list[str]] = {}
        missing = [source for source in self._sources if source not in rows]
        texts = {
            source: found
            for source in self._sources
            if source in rows and (found := plain_texts(rows[source])) is not None
        }
        typed = (field for field in self._read_as_they_are if field[1] not in texts)
        check_spellings(typed, self.lookup, rows, first_row, self._lists)
        if missing:
            raise InputError(f"column {missing[0]!r} is missing; the rows have {shown_names(rows)}")
        for source in self._sources:
            cells = self._lists.get(source)
            if cells is None and source in texts:
                columns[source] = texts[source]
                continue
            if cells is not None:
                read = cell_column_texts(source, rows[source], first_row, cells)
            else:
                read = column_texts(source, rows[source], first_row)
            columns[source] = [text or "" for text in read]
        lengths = set(map(len, columns.values()))
        if len(lengths) > 1:
            raise InputError(f"the columns have different lengths: {sorted(lengths)}")
        return columns

    def _read(self, number: int, column: list[str], first_row: int, read: "_Read") -> None:
        """Adds the texts of a field that is not numeric to those that were read."""
        field = self.fields[number]
        if field.is_plain:
            read.texts.append(column)
            read.sizes.append(len(column))
            return
        values, codes = _distinct(column, field, first_row)
        if field.rule is not None:
            values = list(map(field.rule.canonical, values))
        if field.step is not None:
            values = list(map(without_blanks, values))
            values = list(_each(field.step, values, codes, field, first_row))
        if codes is not None and self._has_cells:
            values, codes = [values[code] for code in codes.tolist()], None
        if field.cells is not None:
            if field.cells.weighted:
                told = dataclasses.replace(field, expected=EXPECTED_WEIGHTS)
                pairs = _each(field.cells.weighted_values, values, codes, told, first_row)
                cells_read = [values for values, _ in pairs]
                weights = [weight for _, own in pairs for weight in own[: field.slots]]
                read.weights[number] = weights
            else:
                cells_read = [field.cells.values(cell) for cell in values]
            if max(map(len, cells_read), default=0) > field.slots:
                tell_cut(field.name, field.cells)
                cells_read = [own[: field.slots] for own in cells_read]
            read.lengths[number] = [len(own) for own in cells_read]
            values = [value for own in cells_read for value in own]
        read.texts.append([value or "" for value in values])
        read.sizes.append(len(values))
        if codes is not None:
            read.codes[number] = codes

    def _with_cells(
        self, ids: np.ndarray, found: Mapping[int, np.ndarray], read: "_Read", count: int
    ) -> np.ndarray:
        """Ids of fields of which some have several values; in ``ids`` are those of numeric ones,
        ``found`` has the places of the others.
        """
        nothing = int(sum(self.lookup.sizes))
        parts, beside = [], []
        for number, (field, offset) in enumerate(
            zip(self.fields, self._offsets.tolist(), strict=True)
        ):
            own = found.get(number, ids[number]) + offset
            if field.cells is None:
                parts.append(own[:, None])
                continue
            lengths = np.array(read.lengths[number], np.int64)
            cells = np.full((count, field.slots), nothing, np.int64)
            filled = np.arange(field.slots) < lengths[:, None]
            cells[filled] = own
            weights = None
            if number in read.weights:
                weights = np.zeros((count, field.slots), np.float32)
                weights[filled] = read.weights[number]
            in_place = in_weighted_slots(cells, weights, field.slots, offset, nothing)
            parts.append(in_place[0])
            if weights is not None:
                beside.append(in_place[1].view(np.int32))
        return np.concatenate([*parts, *beside], axis=1).astype(np.int32)


@dataclasses.dataclass
class _Read:
    """The texts of the fields that are not numeric, one field after the other.

    Attributes:
      texts: of each, the missing one is "".
      sizes: how many texts each of these fields has.
      codes: by number of the field, for each row which of the field's texts it has, int32 ``[N]``;
        of fields that are not here each row has its own.
      lengths: by number of the field, how many values each cell has.
      weights: by number of the field, those of the values.
    """

    texts: list[list[str]] = dataclasses.field(default_factory=list)
    sizes: list[int] = dataclasses.field(default_factory=list)
    codes: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    lengths: dict[int, list[int]] = dataclasses.field(default_factory=dict)
    weights: dict[int, list[float]] = dataclasses.field(default_factory=dict)


def _groups(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Where runs of fields begin and end that have at most so many texts; one field at least."""
    if sum(sizes) <= most:
        if sizes:
            yield 0, len(sizes)
        return
    begin = total = 0
    for number, size in enumerate(sizes):
        if number > begin and total + size > most:
            yield begin, number
            begin, total = number, 0
        total += size
    yield begin, len(sizes)


_FEW = 16
"""Of fewer rows it is not asked which have equal values."""


def _distinct(
    column: list[str], field: RowField, first_row: int
) -> tuple[list[str | None], np.ndarray | None]:
    """The distinct values of a column in their order, None where missing, and which each row has.

    Of few rows all values, and None.

    Raises:
      InputError: a value has no UTF-8 form.
    """
    distinct = column
    codes: np.ndarray | None = None
    if len(column) >= _FEW:
        # One look at each value: one that is new gets the next number.
        number_of_value = collections.defaultdict[str, int](itertools.count().__next__)
        codes = np.fromiter(map(number_of_value.__getitem__, column), np.int32, len(column))
        distinct = list(number_of_value)
    values = [value or None for value in distinct]
    if check_texts(values) is not None:
        check_utf8(field.source, column, first_row)
    return values, codes


_Made = TypeVar("_Made")


def _each(
    step: Callable[[str | None], _Made],
    values: Sequence[str | None],
    codes: np.ndarray | None,
    field: RowField,
    first_row: int,
) -> Sequence[_Made]:
    """What a step makes of each of the values that :func:`_distinct` gave.

    Raises:
      InputError: naming the first row whose value it cannot use.
    """
    try:
        return of_each(step, values)
    except ValueError:
        for number, value in enumerate(values):
            try:
                step(value)
            except ValueError as error:
                row = number if codes is None else int(np.argmax(codes == number))
                shown = "empty" if value is None else repr(shown_cell(value)[:60])
                raise InputError(
                    f"row {first_row + row}: column {field.source!r} is {shown}, "
                    f"expected {field.expected}"
                ) from error
        raise
