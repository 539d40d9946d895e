"""Raw rows to coded rows: labels and times read, unusable rows set aside, every field coded."""

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from optembed_jax.data.raw import columns as columns_lib
from optembed_jax.data.raw.bags import CodedBag, split_cells
from optembed_jax.data.raw.columns import NUMERIC, Coded, Column, Label, Time
from optembed_jax.data.raw.sources import RawData, RawRows, Reject
from optembed_jax.data.raw.writing import canonical_values, forms_of_values


@dataclasses.dataclass(frozen=True)
class CodedRows:
    """Rows whose fields are coded but have no ids yet.

    Attributes:
      fields: for each of the ``F`` fields a `Coded`, a `CodedBag` where its cells hold several
        values, or float64 ``[N]`` (NaN where missing) where the field is numeric.
      labels: uint8 ``[N]``, 0 or 1.
      rows: row numbers over all files, int64 ``[N]``.
      times: int64 ``[N]``; None where they were not asked for.
      groups: hashes of the values that rows are ranked within, int64 ``[N]``, 0 where missing;
        None where rows are not grouped.
      rejects: the rows of the block that are not here, by line.
      forms: the ways in which each plain field's values are written (`values.rule.forms_of`);
        nothing for other fields, and where they were not asked for.
    """

    fields: tuple[Coded | np.ndarray, ...]
    labels: np.ndarray
    rows: np.ndarray
    times: np.ndarray | None
    groups: np.ndarray | None
    rejects: tuple[Reject, ...]
    forms: tuple[frozenset[str], ...]


@dataclasses.dataclass(frozen=True)
class _Fault:
    bad: np.ndarray
    source: str
    expected: str
    raw: Coded


def code_rows(
    data: RawData, raw: RawRows, file: str, with_time: bool, with_forms: bool = True
) -> CodedRows:
    """Codes the rows of one block.

    Args:
      data: what the columns mean.
      raw: the rows.
      file: the name of their file, for rejects.
      with_time: whether to read the times as well.
      with_forms: whether the ways of writing are asked for.
    """
    time = data.time if with_time else None
    wanted = [data.label.source, *(column.source for column in data.columns)]
    wanted += [time.source] if time else []
    wanted += [data.group] if data.group is not None else []
    coded = columns_lib.code_sources(raw.columns, wanted)
    labels, faults = _apply(data.label, coded[data.label.source], np.uint8(255))
    times = None
    if time is not None:
        times, more = _apply(time, coded[time.source], np.int64(columns_lib.NO_TIME))
        faults += more
    faults += _check_fields(data.columns, coded)
    fields = code_fields(data.columns, coded, ignore_faults=bool(faults))
    groups = None if data.group is None else _hashes(coded[data.group])
    if not faults:
        forms = _forms(data, coded, fields, None) if with_forms else _no_forms(data)
        return CodedRows(fields, labels, raw.rows, times, groups, raw.rejects, forms)
    bad = np.any([fault.bad for fault in faults], axis=0)
    rejects = [
        Reject(file, int(raw.lines[i]), _reason(faults, i, int(raw.lines[i]), raw), raw.text(i))
        for i in np.flatnonzero(bad).tolist()
    ]
    good = ~bad
    return CodedRows(
        fields=tuple(
            field.of_rows(good) if isinstance(field, Coded) else field[good] for field in fields
        ),
        labels=labels[good],
        rows=raw.rows[good],
        times=None if times is None else times[good],
        groups=None if groups is None else groups[good],
        rejects=tuple(sorted((*raw.rejects, *rejects), key=lambda reject: reject.line)),
        forms=_forms(data, coded, fields, good) if with_forms else _no_forms(data),
    )


def _forms(
    data: RawData,
    coded: Mapping[str, Coded],
    fields: tuple[Coded | np.ndarray, ...],
    good: np.ndarray | None,
) -> tuple[frozenset[str], ...]:
    """How each plain field's values are written, those of good rows alone; None: all are good."""
    found = []
    for column, field in zip(data.columns, fields, strict=True):
        if not column.is_plain or column.rule is not None:
            found.append(frozenset[str]())
            continue
        raw = coded[column.source]
        if isinstance(field, CodedBag):
            raw = field
        values = raw.values
        if good is not None:
            read = np.unique(raw.codes[good])
            values = values.take(pa.array(read[read < len(values)]))
        found.append(forms_of_values(values))
    return tuple(found)


def _no_forms(data: RawData) -> tuple[frozenset[str], ...]:
    return tuple(frozenset[str]() for _ in data.columns)


def _hashes(raw: Coded) -> np.ndarray:
    """Of each row's value, int64 ``[N]``: in 64 bits two of a million meet once in 37 million."""
    of_value = [
        0
        if value is None
        else int.from_bytes(
            hashlib.blake2b(value.encode(), digest_size=8).digest(), "little", signed=True
        )
        for value in raw.values.to_pylist()
    ]
    return np.array(of_value, np.int64)[raw.codes] if of_value else np.zeros(0, np.int64)


def code_fields(
    columns: tuple[Column, ...], coded: Mapping[str, Coded], ignore_faults: bool = False
) -> tuple[Coded | np.ndarray, ...]:
    """The fields of coded raw columns; see `CodedRows.fields`.

    Args:
      columns: the ``F`` fields.
      coded: the raw columns by name.
      ignore_faults: whether there are values that fail their check; they are treated as missing.
    """
    fields: list[Coded | np.ndarray] = []
    for column in columns:
        raw = coded[column.source]
        if ignore_faults and column.check is not None:
            values = raw.values.to_numpy(zero_copy_only=False)
            raw = Coded(raw.codes, pa.array(values, pa.string(), mask=column.check(raw.values)))
        if column.kind == NUMERIC:
            fields.append(columns_lib.numbers(raw.values)[raw.codes])
            continue
        if column.transform is not None:
            if column.rule is not None:
                raw = Coded(raw.codes, canonical_values(raw.values, column.rule))
            raw = columns_lib.recode(raw, column.transform)
        fields.append(raw if column.cells is None else split_cells(raw, column.cells))
    return tuple(fields)


def first_fault(columns: tuple[Column, ...], coded: Mapping[str, Coded]) -> tuple[int, str] | None:
    """The first row that holds an unusable value, and what is wrong with it; None if none does."""
    faults = _check_fields(columns, coded)
    if not faults:
        return None
    row = int(np.argmax(np.any([fault.bad for fault in faults], axis=0)))
    return row, _first_reason(faults, row)


def _apply(rule: Label | Time, raw: Coded, none: np.generic) -> tuple[np.ndarray, list[_Fault]]:
    of_value = rule.rule(raw.values)
    found = of_value[raw.codes]
    if not (of_value == none).any():
        return found, []
    bad = found == none
    return found, [_Fault(bad, rule.source, rule.expected, raw)] if bad.any() else []


def _check_fields(columns: tuple[Column, ...], coded: Mapping[str, Coded]) -> list[_Fault]:
    faults = []
    seen = set()
    for column in columns:
        if column.check is None or (column.source, column.check) in seen:
            continue
        seen.add((column.source, column.check))
        raw = coded[column.source]
        bad_values = column.check(raw.values)
        if bad_values.any():
            bad = bad_values[raw.codes]
            if bad.any():
                faults.append(_Fault(bad, column.source, column.expected, raw))
    return faults


def _reason(faults: list[_Fault], row: int, line: int, raw: RawRows) -> str:
    reason = _first_reason(faults, row)
    if line == 1 and raw.headerless:
        reason += " (if this line is a header, remove it: this format has none)"
    return reason


def _first_reason(faults: list[_Fault], row: int) -> str:
    fault = next(fault for fault in faults if fault.bad[row])
    value = fault.raw.values[int(fault.raw.codes[row])].as_py()
    found = "empty" if value is None else repr(value[:60])
    return f"column {fault.source!r} is {found}, expected {fault.expected}"
