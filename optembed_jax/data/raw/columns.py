"""Fields and labels described by the raw column they come from, and the coding of raw values.

A value is looked at once, not once per row: a raw column is first reduced to its distinct values
(of which some may be there twice, see `Coded`) and, for each row, the number of its value (a
"coded" column); checks and transformations then work on these only. Preparation and serving share
this code.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optembed_jax.data.raw import packing
from optembed_jax.data.raw.missing import null_where
from optembed_jax.values.cells import LEAST_WEIGHT, MOST_WEIGHT, Cells
from optembed_jax.values.numbers import MISSING_NUMBERS
from optembed_jax.values.rule import Rule

CATEGORICAL, BUCKET, NUMERIC = "categorical", "bucket", "numeric"

Transform = Callable[[pa.StringArray], pa.StringArray]
"""Distinct raw values (null where missing) to the values that get rows, one for each."""

Check = Callable[[pa.StringArray], np.ndarray]
"""Distinct raw values to bool, True where the value cannot be used."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One field, and the raw column it is made from.

    Attributes:
      name: the field's name.
      source: the raw column's name; several fields may share one.
      kind: "categorical" (values rarer than `min_count` share the OOV row), "bucket" (every value
        of the training split has a row) or "numeric" (quantile bins of the training split).
      transform: applied to the raw values; None keeps them as they are.
      rule: which raw values mean the same; None where that is found in the data, or where there is
        a transformation, which reads them as they are.
      cells: how a value, transformed, is a cell of several; None where it is one.
      step: the transformation as `values.steps.make_step` takes it, for those who have no pyarrow.
      check: which raw values are unusable; None accepts all.
      expected: what the check wants, for messages, such as "an integer".
    """

    name: str
    source: str
    kind: str = CATEGORICAL
    transform: Transform | None = None
    check: Check | None = None
    expected: str = ""
    rule: Rule | None = None
    step: tuple[str | int, ...] = ()
    cells: Cells | None = None

    @property
    def slots(self) -> int:
        """The most values of a cell."""
        return 1 if self.cells is None else self.cells.max_values

    @property
    def is_weighted(self) -> bool:
        """Whether the values of its cells have weights."""
        return self.cells is not None and self.cells.weighted

    @property
    def is_plain(self) -> bool:
        """Whether the raw values themselves get rows."""
        return self.kind != NUMERIC and self.transform is None


@dataclasses.dataclass(frozen=True)
class Label:
    """The label's raw column, and the rule that makes 0 or 1 of it.

    Attributes:
      source: the raw column's name.
      rule: distinct raw values to labels, uint8, with 255 where there is none.
      expected: what the rule wants, for messages.
      count: where a row stands for several examples, which its weight counts: distinct raw values
        to how many of them have label 1, float64. None where a row is one example.
    """

    source: str
    rule: Callable[[pa.StringArray], np.ndarray]
    expected: str = "0 or 1"
    count: Callable[[pa.StringArray], np.ndarray] | None = None


@dataclasses.dataclass(frozen=True)
class Weight:
    """The raw column that says how much each row counts.

    Attributes:
      source: the raw column's name.
      rule: distinct raw values to weights, float64, with NaN where there is none.
      expected: what the rule wants, for messages.
    """

    source: str
    rule: Callable[[pa.StringArray], np.ndarray]
    expected: str


@dataclasses.dataclass(frozen=True)
class Time:
    """The raw column that `split=time` goes by.

    Attributes:
      source: the raw column's name.
      rule: distinct raw values to int64 times, with `NO_TIME` where there is none.
      expected: what the rule wants, for messages.
      forms: distinct raw values to numbers, uint8, of the forms they are written in, of which all
        rows must have one and 0 is none; None where the rule has one form.
    """

    source: str
    rule: Callable[[pa.StringArray], np.ndarray]
    expected: str
    forms: Callable[[pa.StringArray], np.ndarray] | None = None


NO_TIME = np.iinfo(np.int64).min


@dataclasses.dataclass(frozen=True)
class Coded:
    """A column as its values and, for each row, the number of its value.

    Attributes:
      codes: int32 ``[N]``, positions in `values`.
      values: null for missing. One is here once in general; twice where a dictionary had it twice,
        where two became equal (blanks, faults), or where nobody asked (`uncoded`).
    """

    codes: np.ndarray
    values: pa.Array

    def of_rows(self, chosen: np.ndarray) -> "Coded":
        """Some of the rows."""
        return Coded(self.codes[chosen], self.values)


def code(column: pa.Array | pa.ChunkedArray) -> Coded:
    """Codes a raw column: string or `packing.EIGHT_BYTES` ``[N]``, null where missing.

    Strings may stand in a dictionary, where null may be a value as well, and some may be twice.
    """
    if pa.types.is_dictionary(column.type):
        return _code_of_dictionary(column)
    if column.type == packing.EIGHT_BYTES:
        packed = code(packing.view(column))
        return Coded(packed.codes, packing.unpack(packed.values))
    encoded = column.dictionary_encode(null_encoding="encode")
    if isinstance(encoded, pa.DictionaryArray):
        return Coded(encoded.indices.to_numpy(), encoded.dictionary)
    if not encoded.num_chunks:
        return Coded(np.empty(0, np.int32), pa.array([], column.type))
    # The chunks of one column share their dictionary.
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
    return Coded(codes, encoded.chunk(0).dictionary)


def _code_of_dictionary(column: pa.DictionaryArray) -> Coded:
    """The values of its dictionary that are there, as they stand in it.

    Whether one is there twice is not asked: that takes half as long as all the rest of coding, and
    vocabularies are merged by value.
    """
    indices, values = column.indices, column.dictionary
    if indices.null_count:
        if indices.type.bit_width < 32:  # the place of null is one more than such may hold
            indices = indices.cast(pa.int32())
        indices = indices.fill_null(len(values))
        values = pa.concat_arrays([values, pa.nulls(1, values.type)])
    place_of = indices.to_numpy()
    is_there = np.zeros(len(values), bool)
    is_there[place_of] = True
    if is_there.all():
        return Coded(np.asarray(place_of, np.int32), values)
    code_of = np.cumsum(is_there, dtype=np.int32) - np.int32(1)
    return Coded(code_of[place_of], values.filter(pa.array(is_there)))


def recode(raw: Coded, transform: Transform | None) -> Coded:
    """Applies a transformation to the distinct values; those that become equal become one."""
    if transform is None:
        return raw
    made = code(transform(raw.values))
    return Coded(made.codes[raw.codes], made.values)


def code_sources(
    columns: Mapping[str, pa.Array | pa.ChunkedArray], sources: Sequence[str]
) -> dict[str, Coded]:
    """Codes each raw column that is named, once."""
    return {source: code(columns[source]) for source in dict.fromkeys(sources)}


def uncoded(column: pa.Array | pa.ChunkedArray) -> Coded:
    """A raw column as if all of its values were distinct: for few rows that is the quicker way."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == packing.EIGHT_BYTES:
        column = packing.unpack(packing.view(column).combine_chunks())
    return Coded(np.arange(len(column), dtype=np.int32), column)


def numbers(values: pa.StringArray) -> np.ndarray:
    """Float64 of distinct raw values; NaN where missing. The values have passed `not_a_number`."""
    return pc.cast(_without_missing(values), pa.float64()).to_numpy(zero_copy_only=False)


def _without_missing(values: pa.StringArray) -> pa.StringArray:
    missing = pc.is_in(values, value_set=pa.array(MISSING_NUMBERS))
    return null_where(values, missing)


def not_a_number(values: pa.StringArray) -> np.ndarray:
    """True where a distinct raw value is neither a finite number nor missing."""
    present = _without_missing(values)
    try:
        found = pc.cast(present, pa.float64()).to_numpy(zero_copy_only=False)
        return np.asarray(~np.isfinite(found) & present.is_valid().to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:
        return np.array([not _is_number(value) for value in present.to_pylist()], bool)


def _is_number(text: str | None) -> bool:
    if text is None:
        return True
    try:
        return bool(np.isfinite(pc.cast(pa.array([text]), pa.float64())[0].as_py()))
    except pa.ArrowInvalid:
        return False


def weights(values: pa.StringArray) -> np.ndarray:
    """Float64 of distinct raw values: 0, or within the limits; NaN elsewhere, where missing too."""
    bad = not_a_number(values)
    found = numbers(null_where(values, bad))
    usable = (found == 0) | ((found >= LEAST_WEIGHT) & (found <= MOST_WEIGHT))
    return np.where(usable, found, np.nan)


def not_an_integer(values: pa.StringArray) -> np.ndarray:
    """True where a distinct raw value is neither an integer (of up to 1,000 digits) nor missing."""
    if _holds_only_integers(values):
        return np.zeros(len(values), bool)
    matches = pc.match_substring_regex(values, r"^[+-]?[0-9]{1,1000}$")
    return np.asarray(~pc.fill_null(matches, True).to_numpy(zero_copy_only=False))


_INTEGER_BYTES = np.isin(np.arange(256), list(b"0123456789-"))


def _holds_only_integers(values: pa.StringArray) -> bool:
    """A quick yes for the usual case; no where a closer look is needed."""
    _, offsets, data = values.buffers()
    if data is None:
        return True
    first, last = np.frombuffer(offsets, np.int32)[[values.offset, values.offset + len(values)]]
    if not _INTEGER_BYTES[np.frombuffer(data, np.uint8)[first:last]].all():
        return False  # pyarrow would also read "0x1f"
    try:
        pc.cast(values, pa.int64())
    except pa.ArrowInvalid:
        return False
    return True
