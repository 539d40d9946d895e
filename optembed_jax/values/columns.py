"""A request's raw columns: by name, and each as the texts of its values. Without pyarrow."""

import contextlib
import functools
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.values.cells import MARK, Cells, cell_text
from optembed_jax.values.stored import as_stored, unpacked
from optembed_jax.values.text import check_texts, text_of


def shown_names(rows: Mapping[str, Any]) -> str:
    """The names of columns, for messages."""
    return ", ".join(map(str, rows))


def columns_by_name(rows: Any) -> Mapping[str, Sequence[Any]]:
    """Raw columns by name, where nothing else will do; see :func:`as_columns`.

    Raises:
      InputError: also where rows are something else.
    """
    columns = as_columns(rows)
    if columns is None:
        raise InputError(
            f"rows are {type(rows).__name__}; raw columns by name are needed: a mapping, a "
            "pyarrow.Table or a data frame"
        )
    return columns


def as_columns(rows: Any) -> Mapping[str, Sequence[Any]] | None:
    """Raw columns by name, of a mapping, an Arrow table or batch, or a data frame; None where it is
    neither.

    Tables are known by what they can do: their libraries need not be installed.

    Raises:
      InputError: rows by name instead of columns, two columns of one name, or a query.
    """
    if isinstance(rows, Mapping):
        return _without_blanks(rows)
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
    return _without_blanks({name: rows[name] for name in names})


def _without_blanks(rows: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same columns, by names without the blanks around them, which are no part of names.

    Raises:
      InputError: two columns have one name.
    """
    if all(type(name) is not str or name == name.strip() for name in rows):
        return rows
    names = [name.strip() if isinstance(name, str) else name for name in rows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the rows have more than one column {twice!r}")
    return dict(zip(names, rows.values(), strict=True))


_LISTS = ("list", "large_list", "fixed_size_list", "map")
"""Kinds of Arrow arrays whose values are lists, with their views."""


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
    if is_text(values):
        texts = [value or None for value in values]
    else:
        texts = _texts_of(source, values, first_row)
    check_utf8(source, texts, first_row)
    return texts


def check_utf8(source: str, texts: Sequence[str | None], first_row: int) -> None:
    """Refuses a text that has no UTF-8 form.

    Raises:
      InputError: naming the column and the row.
    """
    bad = check_texts(texts)
    if bad is not None:
        raise InputError(
            f"row {first_row + bad}: column {source!r} is {str(texts[bad])[:60]!r}, which has no "
            "UTF-8 form"
        )


def is_text(values: Any) -> bool:
    """Whether a column is a list of Python's texts, with None or "" where they are missing."""
    return type(values) is list and _USUAL.issuperset(map(type, values))


def plain_texts(values: Any) -> list[str] | None:
    """The values of a list of Python's texts, the missing ones as ""; None of any other column.

    Of those whose values are looked up as they are: whether they have a UTF-8 form is not asked.
    """
    if type(values) is not list:
        return None
    if values and type(values[0]) is str:
        # Takes texts alone, in half of the time that asking each for its type takes.
        with contextlib.suppress(TypeError):
            "".join(values)
            return values
    return [value or "" for value in values] if _USUAL.issuperset(map(type, values)) else None


_USUAL = frozenset((str, type(None)))


def _texts_of(source: str, values: Sequence[Any], first_row: int) -> list[str | None]:
    check_sequence(source, values)
    values = as_stored(values)
    if hasattr(values, "to_pylist"):
        try:
            values = unpacked(values)
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
    for value in _cell_values(source, values, first_row, cells.weighted):
        try:
            texts.append(cell_text(value, cells.weighted))
        except InputError as error:
            row = first_row + len(texts)
            raise InputError(f"row {row}: column {source!r}: {error}") from error
    check_cells(source, texts, first_row, cells)
    bad = check_texts(texts)
    if bad is not None:
        raise InputError(
            f"row {first_row + bad}: column {source!r} has a value without a UTF-8 form"
        )
    return texts


def _cell_values(source: str, values: Any, first_row: int, weighted: bool) -> Iterable[Any]:
    """The cells of a column, each a plain value or a list of such."""
    values = as_stored(values)
    if not hasattr(values, "to_pylist"):
        found: Iterable[Any] = values
        return found
    kind = str(values.type)
    of_map = kind.startswith("map<")
    of_pairs = weighted and (of_map or "struct<" in kind)
    if not of_pairs and not kind.startswith(_LISTS):
        return column_texts(source, values, first_row)
    chunks = values.chunks if hasattr(values, "chunks") else [values]
    # By the texts of its items' type, which Python's values do not tell.
    read = functools.partial(_pairs, of_map=of_map) if of_pairs else column_texts
    return (
        read(source, cell.values, first_row + row) if cell.is_valid else None
        for row, cell in enumerate(cell for chunk in chunks for cell in chunk)
    )


def _pairs(
    source: str, items: Any, first_row: int, of_map: bool
) -> list[tuple[str | None, str | None] | None]:
    """The values and weights of an Arrow array of structs, or of a map's entries.

    Raises:
      InputError: the structs have other parts.
    """
    names = [field.name for field in items.type]
    if not of_map and sorted(names) != ["value", "weight"]:
        raise InputError(
            f"row {first_row}: column {source!r} holds lists of structs of {', '.join(names)}, "
            "structs of value and weight are needed"
        )
    places = (0, 1) if of_map else (names.index("value"), names.index("weight"))
    value, weight = (column_texts(source, items.field(place), first_row) for place in places)
    is_there = items.is_valid().to_pylist()
    pairs = zip(value, weight, is_there, strict=True)
    return [(text, number) if there else None for text, number, there in pairs]


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
