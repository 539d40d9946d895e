"""Raw rows to coded rows: labels, times and weights read, unusable rows set aside, fields coded."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optembed_jax.data.raw import columns as columns_lib
from optembed_jax.data.raw.bags import CodedBag, has_bad_weight, split_cells
from optembed_jax.data.raw.columns import NUMERIC, Coded, Column, Label, Time
from optembed_jax.data.raw.sources import RawData, RawRows, Reject
from optembed_jax.data.raw.times import forms_of_rows
from optembed_jax.data.raw.writing import canonical_values, forms_of_values, without_blanks
from optembed_jax.values.cells import EXPECTED_WEIGHTS, MARK, shown_cell
from optembed_jax.values.rule import MISSING_WORDS, NUMBER, Rule

_NUMBERS = Rule(NUMBER)


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
      weights: how much each row counts, float32 ``[N]``, above 0; None where all count alike.
      weightless: rows of the block that are not here because they count nothing.
      rejects: the rows of the block that are not here, by line.
      forms: the ways in which each plain field's values are written (`values.forms.forms_of`);
        nothing for other fields, and where they were not asked for.
      time_forms: of each form of time that the rows have (`Time.forms`), where the first one is.
    """

    fields: tuple[Coded | np.ndarray, ...]
    labels: np.ndarray
    rows: np.ndarray
    times: np.ndarray | None
    groups: np.ndarray | None
    rejects: tuple[Reject, ...]
    forms: tuple[frozenset[str], ...]
    weights: np.ndarray | None = None
    weightless: int = 0
    time_forms: Mapping[int, str] = dataclasses.field(default_factory=dict)

    def of(self, rows: np.ndarray) -> "CodedRows":
        """Some of the rows, by a mask bool ``[N]`` or by their positions, which may repeat."""
        arrays: dict[str, Any] = {
            name: None if values is None else values[rows]
            for name in ("labels", "rows", "times", "groups", "weights")
            for values in (getattr(self, name),)
        }
        fields = tuple(
            field.of_rows(rows) if isinstance(field, Coded) else field[rows]
            for field in self.fields
        )
        return dataclasses.replace(self, fields=fields, **arrays)


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
    wanted += [data.weight.source] if data.weight is not None else []
    # A separator may begin or end in a blank: the blanks of such cells go with the splitting.
    split = {c.source for c in data.columns if c.is_plain and c.cells and c.cells.separator}
    coded = {
        source: column if source in split else Coded(column.codes, without_blanks(column.values))
        for source, column in columns_lib.code_sources(raw.columns, wanted).items()
    }
    labels, faults = _apply(data.label, coded[data.label.source], np.uint8(255))
    times = None
    if time is not None:
        times, more = _apply(time, coded[time.source], np.int64(columns_lib.NO_TIME))
        faults += more
    weights = None
    if data.weight is not None:
        weights, more = _weights(data, coded)
        faults += more
    faults += _check_fields(data.columns, coded)
    fields = code_fields(data.columns, coded, ignore_faults=bool(faults))
    groups = None if data.group is None else _hashes(coded[data.group])
    rows = CodedRows(fields, labels, raw.rows, times, groups, raw.rejects, _no_forms(data), weights)
    good = None
    if faults:
        bad = np.any([fault.bad for fault in faults], axis=0)
        good = ~bad
        rejects = [
            Reject(file, int(raw.lines[i]), _reason(faults, i, int(raw.lines[i]), raw), raw.text(i))
            for i in np.flatnonzero(bad).tolist()
        ]
        every = tuple(sorted((*raw.rejects, *rejects), key=lambda reject: reject.line))
        rows = dataclasses.replace(rows, rejects=every)
    if weights is not None and not weights.all():
        counts = weights != 0
        weightless = ~counts if good is None else good & ~counts
        rows = dataclasses.replace(rows, weightless=int(weightless.sum()))
        good = counts if good is None else good & counts
    if time is not None:
        found = forms_of_rows(time, coded[time.source], good, raw.lines, file)
        rows = dataclasses.replace(rows, time_forms=found)
    if with_forms:
        rows = dataclasses.replace(rows, forms=_forms(data, coded, fields, good))
    if data.label.count is not None:
        return _by_class(rows, data.label.count, coded[data.label.source], good)
    return rows if good is None else rows.of(good)


def _weights(data: RawData, coded: Mapping[str, Coded]) -> tuple[np.ndarray, list[_Fault]]:
    """Of each row, float32 ``[N]``, and what is wrong with them."""
    rule = data.weight
    assert rule is not None
    raw = coded[rule.source]
    found = rule.rule(raw.values)[raw.codes]
    bad, faults = np.isnan(found), list[_Fault]()
    if bad.any():
        faults.append(_Fault(bad, rule.source, rule.expected, raw))
    if data.label.count is not None:
        of_label = coded[data.label.source]
        less = found < data.label.count(of_label.values)[of_label.codes]
        if less.any():
            expected = f"at least as many as column {data.label.source!r} says"
            faults.append(_Fault(less, rule.source, expected, raw))
    return found.astype(np.float32), faults


def _by_class(
    rows: CodedRows,
    count: Callable[[pa.StringArray], np.ndarray],
    label: Coded,
    good: np.ndarray | None,
) -> CodedRows:
    """Rows that stand for several examples, each for those of one label: it becomes one or two."""
    assert rows.weights is not None
    every = np.arange(len(rows.labels)) if good is None else np.flatnonzero(good)
    ones = count(label.values)[label.codes][every]
    of_class = np.stack([rows.weights[every] - ones, ones], axis=1)
    position, own = np.nonzero(of_class)
    return dataclasses.replace(
        rows.of(every[position]),
        labels=own.astype(np.uint8),
        weights=of_class[position, own].astype(np.float32),
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
    """Of each row's value, int64 ``[N]``: in 64 bits two of a million meet once in 37 million.

    Rows without a value are in no group, nor are those with a word for that, such as NULL. A whole
    number is one group however a file writes it (12 and 12.0).
    """
    of_value = [
        0
        if value is None or value in MISSING_WORDS
        else int.from_bytes(
            hashlib.blake2b(_group_text(value).encode(), digest_size=8).digest(),
            "little",
            signed=True,
        )
        for value in raw.values.to_pylist()
    ]
    return np.array(of_value, np.int64)[raw.codes] if of_value else np.zeros(0, np.int64)


def _group_text(text: str) -> str:
    if not text.endswith("0") and "e" not in text:
        return text
    number = _NUMBERS.canonical(text)
    # A fraction stays as it is: 1.1 and 1.10 may be two.
    return text if number is None or "." in number else number


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
    return faults + _no_lists(columns, coded) + _bad_weights(columns, coded)


def _no_lists(columns: tuple[Column, ...], coded: Mapping[str, Coded]) -> list[_Fault]:
    """Texts where cells are lists: without a separator they are not several values."""
    faults = []
    for column in columns:
        if column.cells is None or column.cells.separator is not None:
            continue
        raw = coded[column.source]
        is_text = pc.fill_null(pc.invert(pc.starts_with(raw.values, MARK)), False)
        bad = is_text.to_numpy(zero_copy_only=False)[raw.codes]
        if bad.any():
            expected = "a list of values (of a text separator has to say what stands between them)"
            faults.append(_Fault(bad, column.source, expected, raw))
    return faults


def _bad_weights(columns: tuple[Column, ...], coded: Mapping[str, Coded]) -> list[_Fault]:
    faults = []
    for column in columns:
        if column.cells is not None and column.is_weighted:
            raw = coded[column.source]
            bad = has_bad_weight(raw.values, column.cells)[raw.codes]
            if bad.any():
                faults.append(_Fault(bad, column.source, EXPECTED_WEIGHTS, raw))
    return faults


def _reason(faults: list[_Fault], row: int, line: int, raw: RawRows) -> str:
    reason = _first_reason(faults, row)
    if line == 1 and raw.headerless:
        reason += " (if this line is a header, remove it: this format has none)"
    return reason


def _first_reason(faults: list[_Fault], row: int) -> str:
    fault = next(fault for fault in faults if fault.bad[row])
    value = fault.raw.values[int(fault.raw.codes[row])].as_py()
    found = "empty" if value is None else repr(shown_cell(value)[:60])
    return f"column {fault.source!r} is {found}, expected {fault.expected}"
