"""Any table with a binary label: CSV, TSV or Parquet, as one file or split already."""

import dataclasses
import datetime
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from optembed_jax.data.formats.description import Format
from optembed_jax.data.options import DataOptions
from optembed_jax.data.raw import text, whole_rows
from optembed_jax.data.raw.columnar import ParquetSource, check_columns
from optembed_jax.data.raw.columns import (
    NO_TIME,
    NUMERIC,
    Column,
    Label,
    Time,
    not_a_number,
    zero_or_one,
)
from optembed_jax.data.raw.sources import RawData, RawFile, Source, raw_file
from optembed_jax.data.splits import TEST, TRAIN, VALIDATION
from optembed_jax.errors import InputError


class Table(Format):
    """A table of the user's own."""

    name = "table"
    DESCRIPTION = "A table of the user's own, with a binary label."
    CITATION = "None."
    HOMEPAGE = ""
    LICENSE = "The user's own."

    @staticmethod
    def columns_of(used: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Column, ...]:
        """The categorical columns, then the numeric ones, as they were named."""
        return tuple(Column(name, name) for name in used["categorical"]) + tuple(
            Column(name, name, NUMERIC, check=not_a_number, expected="a number")
            for name in used["numeric"]
        )

    @classmethod
    def raw_data(cls, options: DataOptions) -> RawData:
        """Opens the table's files and checks that the named columns are there."""
        files = _files(options)
        wanted = _wanted(options)
        time = None
        if options.time_column is not None:
            time = Time(options.time_column, _times, "a number or an ISO 8601 date")
        return RawData(
            _source(files, tuple(wanted)),
            cls.columns_of({"categorical": options.categorical, "numeric": options.numeric}, {}),
            Label(str(options.label), zero_or_one),
            time,
        )


def _files(options: DataOptions) -> tuple[RawFile, ...]:
    parts = (options.train_file, options.validation_file, options.test_file)
    if options.table_file is not None:
        if any(parts):
            raise InputError("give either table_file or train/validation/test_file, not both")
        return (raw_file(options.table_file, "table_file"),)
    if not all(parts):
        raise InputError(
            "data set 'table' needs table_file, or all of train_file, validation_file and test_file"
        )
    if options.split == "time":
        raise InputError("split=time splits one table_file; these files are split already")
    names = ("train_file", "validation_file", "test_file")
    return tuple(
        raw_file(str(path), name, split)
        for path, name, split in zip(parts, names, (TRAIN, VALIDATION, TEST), strict=True)
    )


def _wanted(options: DataOptions) -> list[str]:
    if options.label is None:
        raise InputError("data set 'table' needs label: the name of the column with 0 and 1")
    fields = [*options.categorical, *options.numeric]
    if not fields:
        raise InputError("data set 'table' needs at least one column in categorical or numeric")
    repeated = sorted({name for name in fields if fields.count(name) > 1})
    if repeated:
        raise InputError(f"column {repeated[0]!r} is named twice in categorical and numeric")
    if options.label in fields:
        raise InputError(f"the label {options.label!r} cannot be a field as well")
    if options.split == "time" and options.time_column is None:
        raise InputError("split=time needs time_column for data set 'table'")
    wanted = [options.label, *fields]
    return list(dict.fromkeys(wanted + ([options.time_column] if options.time_column else [])))


def rows_to_score(path: pathlib.Path, wanted: tuple[str, ...], block_bytes: int) -> Source:
    """The rows of a file that has no labels, read as a table's files are; there may be none.

    Args:
      path: CSV, TSV or the like with a header, plain or gzip, or Parquet.
      wanted: the columns to decode.
      block_bytes: about how much text one block holds.

    Raises:
      InputError: the file cannot be read, or lacks a column.
    """
    try:
        source = _source((RawFile(path),), wanted)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if isinstance(source, text.TextSource):
        return dataclasses.replace(source, block_bytes=block_bytes, may_be_empty=True)
    return dataclasses.replace(source, may_be_empty=True)


def _source(files: tuple[RawFile, ...], wanted: tuple[str, ...]) -> ParquetSource | text.TextSource:
    kinds = {_is_parquet(file.path) for file in files}
    if len(kinds) > 1:
        raise InputError("train, validation and test files must be all text or all Parquet")
    if kinds == {True}:
        for file in files:
            try:
                check_columns(pq.read_schema(file.path), wanted, str(file.path))
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{file.path} cannot be read as Parquet: {error}") from error
        return ParquetSource(files, wanted)
    headers = [whole_rows.first_line(file.path) for file in files]
    delimiter = _delimiter(files[0].path, headers[0])
    names = tuple(text.read_names(headers[0], delimiter))
    for file, header in zip(files, headers, strict=True):
        found = text.read_names(header, delimiter)
        for name in wanted:
            if found.count(name) != 1:
                what = "has no" if name not in found else "has more than one"
                raise InputError(
                    f"{file.path} {what} column {name!r}; its header has {', '.join(found)}"
                )
        if tuple(found) != names:
            raise InputError(f"the columns of {file.path} differ from those of {files[0].path}")
    dialect = text.Dialect(names, delimiter, quoted=True, header=True)
    return text.TextSource(files, dialect, wanted)


def _is_parquet(path: pathlib.Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def _delimiter(path: pathlib.Path, header: bytes) -> str:
    name = path.name.removesuffix(".gz").lower()
    if name.endswith((".tsv", ".tab")):
        return "\t"
    if name.endswith(".csv") and b"," in header:
        return ","
    return max("\t,;|", key=lambda delimiter: header.count(delimiter.encode()))


def _times(values: pa.StringArray) -> np.ndarray:
    """Numbers as they are (their fractions dropped), dates as microseconds."""
    try:
        return pc.fill_null(pc.cast(values, pa.int64()), NO_TIME).to_numpy()
    except pa.ArrowInvalid:
        return np.array([_time(value) for value in values.to_pylist()], np.int64)


def _time(value: str | None) -> int:
    for read in (int, lambda text: math.floor(float(text)), _microseconds):
        try:
            found = read(value or "")
        except (ValueError, OverflowError):
            continue
        return found if NO_TIME < found < 2**63 else NO_TIME
    return NO_TIME


def _microseconds(value: str) -> int:
    moment = datetime.datetime.fromisoformat(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1e6)
