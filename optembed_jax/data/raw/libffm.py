"""libffm's text: ``label field:feature:value field:feature:value ...`` on each line.

The column ``label`` is the first word of a line, column ``3`` the feature of field 3, and
``3:value`` its value. A field that a line lacks is missing there; one that a line has more than
once holds several values, whose weights are the values where it is read with weights.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optembed_jax.data.raw.lines import Decoded
from optembed_jax.data.raw.list_cells import cell_texts
from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells

LABEL = "label"
_VALUE = ":value"
_LINE = re.compile(rb"[^\s:]+(?:[ \t]+[0-9]{1,9}:[^\s:]+:[^\s:]+)+\s*")
_NAME = re.compile(r"(?:0|[1-9][0-9]{0,8})(?::value)?")
_ONES = ("1", "1.0", "1.00", "1.000", "1.0000")


def is_line(line: bytes) -> bool:
    """Whether a line is one of libffm's."""
    return _LINE.fullmatch(line) is not None


def check_names(
    wanted: Sequence[str], lines: Sequence[bytes], path: str, may_lack: bool = False
) -> None:
    """Refuses columns that such a file cannot have, or that none of its first lines has.

    Where it ``may_lack`` some, since it has few lines (what a line does not name is missing there),
    only a file that has none of them is refused.

    Raises:
      InputError: naming file and column.
    """
    words = (word for line in lines if is_line(line) for word in line.split()[1:])
    fields = {int(word.split(b":")[0]) for word in words}
    lacks = []
    for name in wanted:
        if name == LABEL:
            continue
        if _NAME.fullmatch(name) is None:
            raise InputError(
                f"{path} is in libffm's form and has no column {name!r}: it has {LABEL!r}, the "
                "features of fields by number, such as '3', and their values, such as '3:value'"
            )
        if lines and int(name.removesuffix(_VALUE)) not in fields:
            lacks.append(name)
    if lacks and not (may_lack and len(lacks) < len(wanted)):
        shown = ", ".join(map(str, sorted(fields)[:40]))
        raise InputError(f"{path} has no field {lacks[0]!r} in its first lines; they have {shown}")


def decode(lines: Sequence[bytes], wanted: Sequence[str], cells: Mapping[str, Cells]) -> Decoded:
    """The wanted columns of some lines, as `lines.LineSource` wants them.

    Those of `cells` may be there more than once.
    """
    read = [_utf8(line) if is_line(line) else None for line in lines]
    faults = {place: _fault(lines[place]) for place, text in enumerate(read) if text is None}
    good = [place for place in range(len(lines)) if place not in faults]
    rows = pa.array([read[place] for place in good], pa.string())
    words = pc.split_pattern_regex(pc.utf8_trim_whitespace(rows), r"[ \t]+")
    counts = pc.list_value_length(words).to_numpy(zero_copy_only=False).astype(np.int64)
    row_of = np.repeat(np.arange(len(good)), counts)
    first = np.cumsum(counts) - counts
    is_pair = np.ones(len(row_of), bool)
    is_pair[first] = False
    flat = words.flatten()
    parts = pc.split_pattern(flat.filter(pa.array(is_pair)), ":").flatten()
    row_of = row_of[is_pair]
    at = np.arange(len(row_of)) * 3
    field = pc.cast(parts.take(pa.array(at)), pa.int64()).to_numpy()
    features, values = parts.take(pa.array(at + 1)), parts.take(pa.array(at + 2))
    alone = set(wanted) - cells.keys()
    is_one = pc.is_in(values, value_set=pa.array(_ONES)).to_numpy(zero_copy_only=False)
    columns: dict[str, pa.Array] = {}
    for name in wanted:
        if name == LABEL:
            columns[name] = flat.take(pa.array(first))
            continue
        number = int(name.removesuffix(_VALUE))
        own = np.flatnonzero(field == number)
        place = np.full(len(good), -1)
        place[row_of[own]] = own
        source = values if name.endswith(_VALUE) else features
        is_weighted = name in cells and cells[name].weighted
        if name in cells:
            own_at = pa.array(own)
            weights = values.take(own_at) if is_weighted else None
            columns[name] = _joined(source.take(own_at), weights, row_of[own], len(good))
        else:
            columns[name] = source.take(pa.array(np.maximum(place, 0), mask=place < 0))
        if name + _VALUE not in wanted and not name.endswith(_VALUE) and not is_weighted:
            for pair in own[~is_one[own]].tolist():
                row, value = int(row_of[pair]), values[pair].as_py()
                faults[good[row]] = (
                    f"field {number} has the value {value}; name '{number}:value' too if it counts"
                )
    for row, number in _repeated(row_of, field).tolist():
        if {str(number), f"{number}{_VALUE}"} & alone:
            faults[good[row]] = f"field {number} is there more than once; name it in multi"
    if len(faults) > len(lines) - len(good):
        stay = [position for position, place in enumerate(good) if place not in faults]
        kept = pa.array(stay, pa.int64())
        columns = {name: column.take(kept) for name, column in columns.items()}
        good = [good[position] for position in stay]
    return Decoded(columns, good, sorted(faults.items()))


def _joined(texts: pa.Array, weights: pa.Array | None, rows: np.ndarray, count: int) -> pa.Array:
    """The texts of each row, with their weights if any, as one cell, string ``[count]``.

    Args:
      texts: string ``[M]``.
      weights: string ``[M]``.
      rows: int ``[M]``, which do not fall.
      count: of all rows.
    """
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))])
    items = (
        texts
        if weights is None
        else pa.StructArray.from_arrays([texts, weights], ["value", "weight"])
    )
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), items)
    return cell_texts("", lists, weighted=weights is not None)


def _repeated(rows: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """Rows and fields that occur together more than once, int64 ``[M, 2]``."""
    pairs, counts = np.unique(np.stack([rows, fields], axis=1), axis=0, return_counts=True)
    return pairs[counts > 1]


def _utf8(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _fault(line: bytes) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return f"invalid UTF-8 (byte 0x{line[error.start]:02x})"
    for word in line.split()[1:]:
        if is_line(b"0 " + word):
            continue
        return f"{word.decode('utf-8', 'backslashreplace')[:60]!r} is not field:feature:value"
    return "a label and field:feature:value are expected"
