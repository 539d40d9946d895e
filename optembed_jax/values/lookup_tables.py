"""Tables that fields look values up in, such as films by id, in a file of few bytes.

A table gives each of its keys as many texts as it has places, None where one is missing. As JSON
the films of MovieLens take half of a whole model's bundle. Here keys that are numbers are their
differences, and a place is its distinct texts, the most frequent first, and a code for each key;
all of it in one safetensors file, compressed by xz.
"""

import collections
import itertools
import lzma
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from optembed_jax.errors import InputError
from optembed_jax.values.xz import unpacked

LookupTable = Mapping[str, Sequence[str | None]]

_LARGEST = 2**25  # bytes, unpacked: a hundred times the films of MovieLens 25M
_MOST = 2**22  # keys, codes and texts of all tables
_MOST_DIGITS = 18
_KINDS = {"U8": "<u1", "U16": "<u2", "U32": "<u4", "U64": "<u8"}


def write_tables(tables: Mapping[str, LookupTable]) -> bytes:
    """The file of some tables, by name; equal tables give the same bytes.

    Args:
      tables: each with at least one place, as many for every key.

    Raises:
      InputError: there is more in them than `read_tables` takes.
    """
    arrays = {}
    for name, table in tables.items():
        are_numbers = all(map(_is_number, table))
        keys = sorted(table, key=int) if are_numbers else sorted(table)
        if are_numbers:
            numbers = np.array([int(key) for key in keys], np.uint64)
            arrays[f"{name}/numbers"] = _narrow(np.diff(numbers, prepend=np.uint64(0)))
        else:
            arrays |= _texts(f"{name}/keys", keys)
        for place, column in enumerate(zip(*(table[key] for key in keys), strict=True)):
            found = collections.Counter(value for value in column if value is not None)
            texts = [text for text, _ in sorted(found.items(), key=lambda f: (-f[1], f[0]))]
            code_of: dict[str | None, int] = {None: 0}
            code_of |= {text: code for code, text in enumerate(texts, start=1)}
            arrays[f"{name}/{place}/codes"] = _narrow(np.array([code_of[v] for v in column]))
            arrays |= _texts(f"{name}/{place}", texts)
    content = safetensors.numpy.save(arrays)
    if _count(arrays) > _MOST or len(content) > _LARGEST:
        raise InputError(f"tables of {_count(arrays)} keys and values are too large for a bundle")
    return lzma.compress(content, preset=6)


def read_tables(content: bytes) -> dict[str, dict[str, tuple[str | None, ...]]]:
    """What `write_tables` wrote.

    Raises:
      InputError: it is no such file.
    """
    try:
        packed = unpacked(content, _LARGEST, memory=_LARGEST)
        arrays = {name: _array(entry) for name, entry in safetensors.deserialize(packed)}
        if _count(arrays) > _MOST:
            raise ValueError(f"it holds {_count(arrays)} keys and values")
        tables = {}
        for name in sorted({name.partition("/")[0] for name in arrays}):
            keys, columns = _keys(arrays, name), list[list[str | None]]()
            while (place := f"{name}/{len(columns)}") + "/codes" in arrays:
                columns.append(_column(arrays, place, len(keys)))
            if not columns or len(set(keys)) != len(keys):
                raise ValueError(f"{name!r} has no place, or a key twice")
            tables[name] = dict(zip(keys, zip(*columns, strict=True), strict=True))
        if arrays:
            raise ValueError(f"it holds {min(arrays)!r}")
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"its tables cannot be read: {error}") from error
    return tables


def with_one_for_all(
    table: LookupTable, has_row: Mapping[int, Callable[[list[str]], np.ndarray]]
) -> LookupTable:
    """The table with one text, which has no row, in place of all that have none.

    Args:
      table: the table.
      has_row: of the places in which texts may be replaced, which of some texts have a row, bool.
    """
    instead: dict[int, dict[str | None, str]] = {}
    for place, ask in has_row.items():
        texts = sorted({row[place] for row in table.values()} - {None}, key=str)
        found = ask([text or "" for text in texts]).tolist()
        lost = [text for text, own in zip(texts, found, strict=True) if not own]
        if len(lost) > 1:
            other = next(t for n in itertools.count(1) if not ask([t := "?" * n])[0])
            instead[place] = dict.fromkeys(lost, other)
    if not instead:
        return table
    return {
        key: [instead.get(place, {}).get(text, text) for place, text in enumerate(row)]
        for key, row in table.items()
    }


def _count(arrays: Mapping[str, np.ndarray]) -> int:
    """Of what objects are made: keys, codes and texts."""
    return sum(len(own) for name, own in arrays.items() if not name.endswith("/texts"))


def _is_number(key: str) -> bool:
    """Whether a key is a number as Python writes it, of few digits."""
    return key.isascii() and key.isdigit() and len(key) <= _MOST_DIGITS and key == str(int(key))


def _narrow(values: np.ndarray) -> np.ndarray:
    most = int(values.max(initial=0))
    return values.astype(next(kind for kind in _KINDS.values() if most <= np.iinfo(kind).max))


def _texts(name: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
    parts = [text.encode() for text in texts]
    lengths = np.array([len(part) for part in parts], np.int64)
    return {
        f"{name}/texts": np.frombuffer(b"".join(parts), np.uint8),
        f"{name}/lengths": _narrow(lengths),
    }


def _array(entry: Mapping[str, Any]) -> np.ndarray:
    if entry["dtype"] not in _KINDS or len(entry["shape"]) != 1:
        raise ValueError(f"an array is {entry['dtype']} {entry['shape']}")
    return np.frombuffer(entry["data"], _KINDS[entry["dtype"]])


def _keys(arrays: dict[str, np.ndarray], name: str) -> list[str]:
    if f"{name}/numbers" not in arrays:
        return _strings(arrays, f"{name}/keys")
    return list(map(str, itertools.accumulate(arrays.pop(f"{name}/numbers").tolist())))


def _column(arrays: dict[str, np.ndarray], place: str, count: int) -> list[str | None]:
    codes, texts = arrays.pop(f"{place}/codes"), [None, *_strings(arrays, place)]
    if len(codes) != count or int(codes.max(initial=0)) >= len(texts):
        raise ValueError(f"{place!r} has {len(codes)} codes of {count} keys, or one of no text")
    return [texts[code] for code in codes.tolist()]


def _strings(arrays: dict[str, np.ndarray], name: str) -> list[str]:
    data, lengths = arrays.pop(f"{name}/texts").tobytes(), arrays.pop(f"{name}/lengths")
    ends = list(itertools.accumulate(lengths.tolist()))
    if (ends[-1] if ends else 0) != len(data):
        raise ValueError(f"{name!r} has other than {len(data)} bytes of text")
    return [data[a:b].decode() for a, b in itertools.pairwise([0, *ends])]
