"""Any table with a binary label: CSV, TSV or Parquet, as one or many files, or split already."""

import collections
import datetime
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from optembed_jax.data.formats.description import Format
from optembed_jax.data.options import DataOptions
from optembed_jax.data.raw import labels, text, whole_rows
from optembed_jax.data.raw.columnar import ParquetSource, check_columns
from optembed_jax.data.raw.columns import (
    NO_TIME,
    NUMERIC,
    Column,
    Label,
    Time,
    Weight,
    not_a_number,
    weights,
)
from optembed_jax.data.raw.joined import Joined, Partitioned
from optembed_jax.data.raw.sources import NoFiles, RawData, RawFile, Source, part_files
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
    def files(cls, options: DataOptions) -> tuple[pathlib.Path, ...] | None:
        """The files of folders and patterns that have rows; None where some are gone.

        Raises:
          InputError: what there is now cannot be a table's files.
        """
        try:
            files = _files(options)
        except NoFiles:
            return None
        return tuple(file.path for file in _with_rows(files))

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
            _label(options),
            time,
            group=options.group,
            weight=_weight(options),
        )


def _label(options: DataOptions) -> Label:
    if options.label_from is not None:
        if options.label is not None or options.label_positive is not None:
            raise InputError("give either label (and label_positive) or label_from, not both")
        return labels.compared(options.label_from)
    if options.label is None:
        raise InputError(
            "data set 'table' needs label: the name of the column with 0 and 1; or label_from"
        )
    if options.label_positive is not None:
        return labels.is_value(options.label, options.label_positive)
    expected = "0 or 1 (label_positive says which other value is 1, label_from compares)"
    return Label(options.label, labels.zero_or_one, expected)


def _weight(options: DataOptions) -> Weight | None:
    if options.weight is None:
        return None
    return Weight(options.weight, weights, "a weight: 0, or a number from 1e-12 to 1e12")


def _files(options: DataOptions) -> tuple[RawFile, ...]:
    parts = (options.train_file, options.validation_file, options.test_file)
    if options.table_file is not None:
        if any(parts):
            raise InputError("give either table_file or train/validation/test_file, not both")
        return part_files(options.table_file, "table_file")
    if not all(parts):
        raise InputError(
            "data set 'table' needs table_file, or all of train_file, validation_file and test_file"
        )
    if options.split == "time":
        raise InputError("split=time splits one table_file; these files are split already")
    names = ("train_file", "validation_file", "test_file")
    return tuple(
        file
        for path, name, split in zip(parts, names, (TRAIN, VALIDATION, TEST), strict=True)
        for file in part_files(str(path), name, split)
    )


def _wanted(options: DataOptions) -> list[str]:
    label = _label(options).source
    fields = [*options.categorical, *options.numeric]
    if not fields:
        raise InputError("data set 'table' needs at least one column in categorical or numeric")
    repeated = sorted({name for name in fields if fields.count(name) > 1})
    if repeated:
        raise InputError(f"column {repeated[0]!r} is named twice in categorical and numeric")
    if label in fields:
        raise InputError(f"the label {label!r} cannot be a field as well")
    if options.split == "time" and options.time_column is None:
        raise InputError("split=time needs time_column for data set 'table'")
    if options.group == label:
        raise InputError(f"the label {label!r} cannot be the group as well")
    for name, others in (
        ("a field", fields),
        ("the label", [label]),
        ("the group", [options.group]),
        ("the time", [options.time_column]),
    ):
        if options.weight in others and options.weight is not None:
            raise InputError(f"the weight {options.weight!r} cannot be {name} as well")
    wanted = [label, *fields]
    beside = [options.time_column, options.group, options.weight]
    return list(dict.fromkeys(wanted + [name for name in beside if name]))


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
        return _file_source(RawFile(path), wanted, block_bytes=block_bytes, may_be_empty=True)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _source(files: tuple[RawFile, ...], wanted: tuple[str, ...]) -> Source:
    """Columns are found by name in each file."""
    sources = tuple(_file_source(file, wanted) for file in _with_rows(files))
    return sources[0] if len(sources) == 1 else Joined(sources)


def _with_rows(files: tuple[RawFile, ...]) -> tuple[RawFile, ...]:
    """The files without those of several parts that have no rows, as Spark leaves them."""
    parts = collections.Counter(file.split for file in files)
    return tuple(file for file in files if parts[file.split] == 1 or not _is_empty(file))


def _is_empty(file: RawFile) -> bool:
    try:
        if _is_parquet(file.path):
            return bool(pq.read_metadata(file.path).num_rows == 0)
    except (pa.ArrowException, OSError):
        return False  # What is wrong with it is told when it is read.
    return whole_rows.is_empty(file.path)


def _file_source(
    file: RawFile,
    wanted: tuple[str, ...],
    *,
    block_bytes: int = text.BLOCK_BYTES,
    may_be_empty: bool = False,
) -> Source:
    parquet = _is_parquet(file.path)
    if parquet:
        try:
            names: Sequence[str] = (schema := pq.read_schema(file.path)).names
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file.path} cannot be read as Parquet: {error}") from error
    else:
        header = whole_rows.first_line(file.path)
        delimiter = _delimiter(file.path, header)
        names = text.read_names(header, delimiter)
    further = {name: value for name, value in file.partition if name in wanted}
    for name in further:
        if name in names:
            raise InputError(
                f"{file.path} has a column {name!r}, and its folder's name gives {name}="
                f"{further[name] or ''} as well; name another column, or rename one"
            )
    within = tuple(name for name in wanted if name not in further)
    if parquet:
        check_columns(schema, within, str(file.path))
        source: Source = ParquetSource((file,), within, may_be_empty)
    else:
        for name in within:
            if names.count(name) != 1:
                what = "no" if name not in names else "more than one"
                raise InputError(
                    f"{file.path} has {what} column {name!r}; its header has {', '.join(names)}"
                )
        dialect = text.Dialect(tuple(names), delimiter, quoted=True, header=True)
        source = text.TextSource(
            (file,), dialect, within, block_bytes=block_bytes, may_be_empty=may_be_empty
        )
    return Partitioned(source, further) if further else source


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
