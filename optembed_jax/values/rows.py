"""Raw rows to ids in plain Python and NumPy: the quickest way for few rows, without pyarrow."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.values.cells import (
    EXPECTED_WEIGHTS,
    MARK,
    Cells,
    cell_text,
    in_weighted_slots,
    shown_cell,
    tell_cut,
)
from optembed_jax.values.lookup import Lookup
from optembed_jax.values.numbers import number_of
from optembed_jax.values.rule import Rule, without_blanks
from optembed_jax.values.steps import Step
from optembed_jax.values.table import texts_of
from optembed_jax.values.text import arrow_time_texts, check_texts, text_of


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
    def reads_lists(self) -> bool:
        """Whether the raw values may be lists."""
        return self.cells is not None and self.step is None


class RowEncoder:
    """Raw rows to ids.

    Attributes:
      fields: the ``F`` fields.
      lookup: their values.
    """

    def __init__(self, fields: Sequence[RowField], lookup: Lookup) -> None:
        self.fields, self.lookup = tuple(fields), lookup
        self._offsets = np.concatenate([[0], np.cumsum(lookup.sizes)[:-1]]).astype(np.int64)
        self._plain = [f for f, bins in enumerate(lookup.bins) if bins is None]
        self._sources = tuple(dict.fromkeys(field.source for field in fields))
        self._one_row = np.array(self._plain, np.int64)
        self._slots = tuple(field.slots for field in self.fields)
        self._has_cells = any(field.cells is not None for field in self.fields)
        self._lists = {field.source: field.cells for field in self.fields if field.reads_lists}

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
        columns = {}
        for source in self._sources:
            if source not in rows:
                raise InputError(f"column {source!r} is missing; the rows have {shown_names(rows)}")
            cells = self._lists.get(source)
            if cells is None:
                columns[source] = column_texts(source, rows[source], first_row)
            else:
                columns[source] = cell_column_texts(source, rows[source], first_row, cells)
        lengths = set(map(len, columns.values()))
        if len(lengths) > 1:
            raise InputError(f"the columns have different lengths: {sorted(lengths)}")
        count = lengths.pop()
        ids = np.empty((len(self.fields), count), np.int64)
        texts: list[str] = []
        lengths_of: dict[int, list[int]] = {}
        weights_of: dict[int, list[float]] = {}
        for number, (field, bins) in enumerate(zip(self.fields, self.lookup.bins, strict=True)):
            column = columns[field.source]
            if bins is not None:
                values = np.array(list(_each(number_of, column, field, first_row)), np.float64)
                ids[number] = bins.find(values)
                continue
            if field.rule is not None:
                column = [field.rule.canonical(value) for value in column]
            if field.step is not None:
                column = [without_blanks(value) for value in column]
                column = list(_each(field.step, column, field, first_row))
            if field.cells is not None:
                if field.cells.weighted:
                    told = dataclasses.replace(field, expected=EXPECTED_WEIGHTS)
                    pairs = list(_each(field.cells.weighted_values, column, told, first_row))
                    cells_read = [values for values, _ in pairs]
                    weights_of[number] = [
                        weight for _, own in pairs for weight in own[: field.slots]
                    ]
                else:
                    cells_read = [field.cells.values(cell) for cell in column]
                if max(map(len, cells_read), default=0) > field.slots:
                    tell_cut(field.name, field.cells)
                    cells_read = [own[: field.slots] for own in cells_read]
                lengths_of[number] = [len(own) for own in cells_read]
                column = [value for own in cells_read for value in own]
            texts += [value or "" for value in column]
        if self._has_cells:
            return self._with_cells(ids, texts, lengths_of, weights_of, count)
        plain = self._one_row if count == 1 else np.repeat(self._one_row, count)
        places = self.lookup.places(texts_of(texts), plain)
        ids[self._plain] = places.reshape(len(self._plain), count)
        return (ids.T + self._offsets).astype(np.int32)

    def _with_cells(
        self,
        ids: np.ndarray,
        texts: list[str],
        lengths_of: dict[int, list[int]],
        weights_of: dict[int, list[float]],
        count: int,
    ) -> np.ndarray:
        """Ids of fields of which some have several values; in ``ids`` are those of numeric ones."""
        each = [sum(lengths_of.get(number, [1] * count)) for number in self._plain]
        places = self.lookup.places(texts_of(texts), np.repeat(self._one_row, each))
        found = dict(zip(self._plain, np.split(places, np.cumsum(each)[:-1]), strict=True))
        nothing = int(sum(self.lookup.sizes))
        parts, beside = [], []
        for number, (field, offset) in enumerate(
            zip(self.fields, self._offsets.tolist(), strict=True)
        ):
            own = found.get(number, ids[number]) + offset
            if field.cells is None:
                parts.append(own[:, None])
                continue
            lengths = np.array(lengths_of[number], np.int64)
            cells = np.full((count, field.slots), nothing, np.int64)
            filled = np.arange(field.slots) < lengths[:, None]
            cells[filled] = own
            weights = None
            if number in weights_of:
                weights = np.zeros((count, field.slots), np.float32)
                weights[filled] = weights_of[number]
            in_place = in_weighted_slots(cells, weights, field.slots, offset, nothing)
            parts.append(in_place[0])
            if weights is not None:
                beside.append(in_place[1].view(np.int32))
        return np.concatenate([*parts, *beside], axis=1).astype(np.int32)


def shown_names(rows: Mapping[str, Any]) -> str:
    """The names of columns, for messages."""
    return ", ".join(map(str, rows))


def as_columns(rows: Any) -> Mapping[str, Sequence[Any]] | None:
    """Raw columns by name, of a mapping, an Arrow table or batch, or a data frame; None where it is
    neither.

    Tables are known by what they can do: their libraries need not be installed.

    Raises:
      InputError: rows by name instead of columns, two columns of one name, or a query.
    """
    if isinstance(rows, Mapping):
        return rows
    if isinstance(rows, list | tuple) and any(isinstance(row, Mapping) for row in rows):
        raise InputError(
            "rows are a list of mappings; give one mapping from each column to its values: "
            "{'a': [first row's, second row's]}"
        )
    if hasattr(rows, "collect"):  # A query of polars or Spark, whose columns hold no values yet.
        raise InputError(
            f"rows are {type(rows).__name__}, a query without values; collect it first"
        )
    names = getattr(rows, "column_names", None)
    if names is None:
        names = getattr(rows, "columns", None)
    if names is None:
        return None
    names = list(names)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the rows have more than one column {twice!r}")
    return {name: rows[name] for name in names}


def _unpacked(values: Any) -> Sequence[Any]:
    """The values of an Arrow array, which its own scalars are not."""
    kind = str(values.type)
    if kind.startswith("dictionary"):
        values = values.cast(values.type.value_type)
        kind = str(values.type)
    if kind.startswith("duration"):
        raise InputError(f"values of type {kind} cannot be read as text")
    if kind.startswith(("timestamp", "time", "date")):  # Python has no nanoseconds
        return arrow_time_texts(values)
    if kind not in ("halffloat", "float", "double"):
        return values.to_pylist()
    # Python has one float, which has more digits than 32 bits hold.
    return values.to_numpy() if hasattr(values, "chunks") else values.to_numpy(zero_copy_only=False)


def unmasked(values: np.ma.MaskedArray) -> list[Any]:
    """The values of a masked array, each of its own type, None where it is masked."""
    hidden = np.ma.getmaskarray(values).tolist()
    return [None if no else value for value, no in zip(values.data, hidden, strict=True)]


def check_sequence(source: str, values: Any) -> None:
    """Refuses a single value where a column of them is needed.

    Raises:
      InputError: naming the column.
    """
    if isinstance(values, str | bytes | bytearray) or not hasattr(values, "__len__"):
        raise InputError(f"column {source!r} is one value, a sequence of values is needed")
    if isinstance(values, Mapping | Set):
        raise InputError(
            f"column {source!r} is a {type(values).__name__}, a sequence of values is needed"
        )
    shape = getattr(values, "shape", None)
    if isinstance(shape, tuple) and len(shape) != 1:
        raise InputError(f"column {source!r} has the shape {shape}, one value a row is needed")


def column_texts(source: str, values: Sequence[Any], first_row: int) -> list[str | None]:
    """The texts of a column's values, None where missing.

    Raises:
      InputError: naming the column and the row.
    """
    texts: list[str | None]
    if type(values) is list and _USUAL.issuperset(map(type, values)):
        texts = [value or None for value in values]
    else:
        texts = _texts_of(source, values, first_row)
    bad = check_texts(texts)
    if bad is not None:
        raise InputError(
            f"row {first_row + bad}: column {source!r} is {str(texts[bad])[:60]!r}, which has no "
            "UTF-8 form"
        )
    return texts


_USUAL = frozenset((str, type(None)))


def _texts_of(source: str, values: Sequence[Any], first_row: int) -> list[str | None]:
    check_sequence(source, values)
    if hasattr(values, "to_pylist"):
        try:
            values = _unpacked(values)
        except InputError as error:
            raise InputError(f"column {source!r}: {error}") from error
    if isinstance(values, np.ma.MaskedArray):
        values = unmasked(values)
    if isinstance(values, np.ndarray) and values.dtype.kind in "iubUO":
        values = values.tolist()
    texts: list[str | None] = []
    try:
        for value in values:
            texts.append(value or None if type(value) is str else text_of(value))
    except InputError as error:
        raise InputError(f"row {first_row + len(texts)}: column {source!r}: {error}") from error
    return texts


def cell_column_texts(source: str, values: Any, first_row: int, cells: Cells) -> list[str | None]:
    """The texts of a column of cells, lists as :func:`values.cells.cell_text` has them.

    Raises:
      InputError: naming the column and the row.
    """
    shape = getattr(values, "shape", None)
    if not (isinstance(shape, tuple) and len(shape) == 2):  # a matrix is a list of equal lists
        check_sequence(source, values)
    texts: list[str | None] = []
    try:
        for value in _cell_values(source, values, first_row, cells.weighted):
            texts.append(cell_text(value, cells.weighted))
    except InputError as error:
        raise InputError(f"row {first_row + len(texts)}: column {source!r}: {error}") from error
    check_cells(source, texts, first_row, cells)
    bad = check_texts(texts)
    if bad is not None:
        raise InputError(
            f"row {first_row + bad}: column {source!r} has a value without a UTF-8 form"
        )
    return texts


def _cell_values(source: str, values: Any, first_row: int, weighted: bool) -> Iterable[Any]:
    """The cells of a column, each a plain value or a list of such."""
    if not hasattr(values, "to_pylist"):
        found: Iterable[Any] = values
        return found
    kind = str(values.type)
    if weighted and (kind.startswith("map<") or ("list<" in kind and "struct<" in kind)):
        pairs: Iterable[Any] = values.to_pylist()
        return pairs
    if kind.startswith("dictionary") or not hasattr(values.type, "value_type"):
        return column_texts(source, values, first_row)
    chunks = values.chunks if hasattr(values, "chunks") else [values]
    # By the texts of its items' type, which Python's values do not tell.
    return (
        column_texts(source, cell.values, first_row + row) if cell.is_valid else None
        for row, cell in enumerate(cell for chunk in chunks for cell in chunk)
    )


def check_cells(source: str, texts: Sequence[str | None], first_row: int, cells: Cells) -> None:
    """Refuses a single value where there is no separator by which it could be several.

    Raises:
      InputError: naming the column and the row.
    """
    if cells.separator is not None:
        return
    for row, text in enumerate(texts):
        if text is not None and not text.startswith(MARK):
            raise InputError(
                f"row {first_row + row}: column {source!r} is {text[:60]!r}, a list of values is "
                f"needed, such as [{text[:60]!r}]"
            )


def _each(
    step: Any, column: Sequence[str | None], field: RowField, first_row: int
) -> Iterator[Any]:
    for row, value in enumerate(column):
        try:
            yield step(value)
        except ValueError as error:
            shown = "empty" if value is None else repr(shown_cell(value)[:60])
            raise InputError(
                f"row {first_row + row}: column {field.source!r} is {shown}, "
                f"expected {field.expected}"
            ) from error
