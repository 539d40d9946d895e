"""JSON lines: an object on each line, read by pyarrow, or where it cannot by Python's own reader.

pyarrow finds a column's type in a block. It takes a text that looks like a time for one, and an
integer too large for 64 bits for a float; and it reads no column of texts and numbers.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from optembed_jax.data.raw.arrow_texts import strings_of
from optembed_jax.data.raw.lines import Decoded
from optembed_jax.data.raw.list_cells import cell_texts
from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells, cell_text
from optembed_jax.values.text import check_texts, text_of

_EXACT = 2.0**53
_DEEPEST = 200
"""Levels of brackets that pyarrow is given: it calls itself for each, without any limit."""

_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NULL_LINE = re.compile(rb"(?:\A|\n)[ \t\r]*null[ \t\r]*(?:\n|\Z)")


def decode(lines: Sequence[bytes], wanted: Sequence[str], cells: Mapping[str, Cells]) -> Decoded:
    """The wanted columns of some lines, as `lines.LineSource` wants them.

    Those of `cells` may hold lists.
    """
    content = b"\n".join(lines)
    try:
        content.decode()
        if b"null" in content and _NULL_LINE.search(content):
            raise pa.ArrowInvalid("Arrow takes what is no object for one without any key")
        if any(map(_is_deep, lines)):
            raise pa.ArrowInvalid("Arrow has no limit where brackets are within brackets")
        table = _parse(content, wanted)
        if table.num_rows == len(lines):
            is_there = [name for name in wanted if name in table.column_names]
            typed = {name: table[name].combine_chunks() for name in is_there}
            return Decoded(_strings(table, wanted, cells), list(range(len(lines))), [], typed)
    except (UnicodeDecodeError, pa.ArrowInvalid, pa.ArrowNotImplementedError, InputError):
        pass
    return _decode_each(lines, wanted, cells)


def names_of(lines: Sequence[bytes]) -> list[str]:
    """The names that some lines have, sorted; lines that are no objects have none."""
    names = set[str]()
    for line in lines:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            names |= {name.strip() for name in found}
    return sorted(names)


def _is_deep(line: bytes) -> bool:
    """Whether brackets outside of texts are within one another beyond what pyarrow is given."""
    if len(line) <= _DEEPEST or line.count(b"[") + line.count(b"{") <= _DEEPEST:
        return False
    depth = 0
    for sign in _TEXT.sub(b"", line).translate(None, _NO_BRACKETS):
        depth += (sign in b"[{") - (sign in b"]}")
        if depth > _DEEPEST:
            return True
    return False


def _parse(content: bytes, wanted: Sequence[str]) -> pa.Table:
    types: dict[str, pa.DataType] = {}
    for _ in range(2):
        table = pajson.read_json(
            pa.BufferReader(content),
            pajson.ReadOptions(use_threads=False, block_size=len(content) + 1),
            pajson.ParseOptions(explicit_schema=pa.schema(list(types.items())) if types else None),
        )
        if any(name != name.strip() for name in table.column_names):
            raise pa.ArrowInvalid("blanks around a name may make one of two")
        found = {name: table.schema.field(name).type for name in set(table.column_names)}
        types = {
            name: pa.string()
            for name in wanted
            if name in found and pa.types.is_timestamp(found[name])
        }
        if not types:
            break
    for name in found.keys() & wanted:
        if pa.types.is_nested(found[name]):
            # Of nulls that are the first items of all lists pyarrow 26 forgets some, and reads on
            # behind the last item (apache/arrow#51305): nothing may be read of such a column.
            table[name].validate(full=True)
    for name in wanted:
        if name in found and _may_lose(found[name]):
            raise pa.ArrowInvalid(f"{name} holds lists of what would be read as something else")
        is_float = name in found and pa.types.is_floating(found[name])
        if is_float and pc.any(pc.greater_equal(pc.abs(table[name]), _EXACT)).as_py():
            raise pa.ArrowInvalid(f"{name} may hold integers that were rounded")
    return table


def _may_lose(kind: pa.DataType) -> bool:
    """Whether the items of lists may have been other ones: integers beyond 64 bits, or texts.

    Of items with a weight the values: a weight is a float that is read as it stands.
    """
    if not pa.types.is_list(kind):
        return False
    item = kind.value_type
    if pa.types.is_struct(item):
        place = item.get_field_index("value")
        return place >= 0 and _is_guessed(item.field(place).type)
    return _is_guessed(item)


def _is_guessed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_timestamp(kind))


def _strings(
    table: pa.Table, wanted: Sequence[str], cells: Mapping[str, Cells]
) -> dict[str, pa.Array]:
    return {
        name: _column(name, table, cells)
        if name in table.column_names
        else pa.nulls(table.num_rows, pa.string())
        for name in wanted
    }


def _column(name: str, table: pa.Table, cells: Mapping[str, Cells]) -> pa.Array:
    column = table[name].combine_chunks()
    if name in cells:
        return cell_texts(name, column, cells[name].weighted)
    return strings_of(name, column)


def _decode_each(
    lines: Sequence[bytes], wanted: Sequence[str], cells: Mapping[str, Cells]
) -> Decoded:
    texts: dict[str, list[str | None]] = {name: [] for name in wanted}
    typed: dict[str, list[Any]] = {name: [] for name in wanted}
    good: list[int] = []
    faults: list[tuple[int, str]] = []
    for place, line in enumerate(lines):
        try:
            found = _object(line)
            row = {name: _text(name, found.get(name), cells.get(name)) for name in wanted}
        except ValueError as error:
            faults.append((place, str(error)))
            continue
        except RecursionError:
            faults.append((place, "no JSON that can be read: it is nested too deep"))
            continue
        good.append(place)
        for name, text in row.items():
            texts[name].append(text)
        for name, values in typed.items():
            values.append(found.get(name))
    columns = {name: pa.array(column, pa.string()) for name, column in texts.items()}
    return Decoded(columns, good, faults, typed)


def _text(name: str, value: Any, cells: Cells | None) -> str | None:
    try:
        text = text_of(value) if cells is None else cell_text(value, cells.weighted)
    except InputError as error:
        raise ValueError(f"column {name!r}: {error}") from error
    if check_texts([text]) is not None:  # half of a surrogate pair, which JSON can escape
        raise ValueError(f"column {name!r} is {str(text)[:60]!r}, which has no UTF-8 form")
    return text


def _object(line: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = {name.strip(): value for name, value in pairs}
        if len(made) < len(pairs):
            names = [name.strip() for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"column {twice!r} is there twice")
        return made

    try:
        found = json.loads(line, object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid UTF-8 (byte 0x{line[error.start]:02x})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"an object is needed on each line, not {type(found).__name__}")
    return found
