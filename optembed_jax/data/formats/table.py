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
from optembed_jax.data.raw.joined import Joined, Partitioned
from optembed_jax.data.raw.sources import NoFiles, RawData, RawFile, Source, part_files
from optembed_jax.data.splits import TEST, TRAIN, VALIDATION
from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells


class Table(Format):
    """A table of the user's own."""

    name = "table"
    DESCRIPTION = "A table of the user's own, with a binary label."
    CITATION = "None."
    HOMEPAGE = ""
    LICENSE = "The user's own."

    @staticmethod
    def columns_of(used: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Column, ...]:
        """The categorical columns, those of several values, then the numeric ones, as named."""
        cells = _cells(used)
        names = dict.fromkeys([*used["categorical"], *cells])
        return tuple(Column(name, name, cells=cells.get(name)) for name in names) + tuple(
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
        used = options.used_by(cls.name)
        return RawData(
            _source(files, tuple(wanted), _cells(used)),
            cls.columns_of(used, {}),
            Label(str(options.label), zero_or_one),
            time,
            group=options.group,
        )


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
    if options.label is None:
        raise InputError("data set 'table' needs label: the name of the column with 0 and 1")
    multi = options.multi_of("table")
    fields = [*options.categorical, *options.numeric]
    if not fields and not multi:
        raise InputError(
            "data set 'table' needs at least one column in categorical, numeric or multi"
        )
    repeated = sorted({name for name in fields if fields.count(name) > 1})
    if repeated:
        raise InputError(f"column {repeated[0]!r} is named twice in categorical and numeric")
    if options.label in [*fields, *multi]:
        raise InputError(f"the label {options.label!r} cannot be a field as well")
    for name in multi:
        for option in ("numeric", "time_column", "group"):
            if name in (getattr(options, option) or ()) and (
                option == "numeric" or name == getattr(options, option)
            ):
                raise InputError(
                    f"column {name!r} is named in multi and in {option}, which needs one value in "
                    "a cell"
                )
    if options.split == "time" and options.time_column is None:
        raise InputError("split=time needs time_column for data set 'table'")
    wanted = [options.label, *fields, *multi]
    beside = [options.time_column, options.group]
    return list(dict.fromkeys(wanted + [name for name in beside if name]))


def rows_to_score(
    path: pathlib.Path, wanted: tuple[str, ...], block_bytes: int, cells: Mapping[str, Cells]
) -> Source:
    """The rows of a file that has no labels, read as a table's files are; there may be none.

    Args:
      path: CSV, TSV or the like with a header, plain or gzip, or Parquet.
      wanted: the columns to decode.
      block_bytes: about how much text one block holds.
      cells: how those columns are read whose cells hold several values.

    Raises:
      InputError: the file cannot be read, or lacks a column.
    """
    file = RawFile(path)
    try:
        return _file_source(file, wanted, cells, block_bytes=block_bytes, may_be_empty=True)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _cells(used: Mapping[str, Any]) -> dict[str, Cells]:
    """How the columns are read whose cells hold several values."""
    return {name: Cells(used["separator"], used["max_values"]) for name in used.get("multi") or ()}


def _source(
    files: tuple[RawFile, ...], wanted: tuple[str, ...], cells: Mapping[str, Cells]
) -> Source:
    """Columns are found by name in each file."""
    sources = tuple(_file_source(file, wanted, cells) for file in _with_rows(files))
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
    cells: Mapping[str, Cells],
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
        check_columns(schema, within, str(file.path), cells)
        source: Source = ParquetSource((file,), within, may_be_empty, cells)
    else:
        for name in within:
            if names.count(name) != 1:
                what = "no" if name not in names else "more than one"
                raise InputError(
                    f"{file.path} has {what} column {name!r}; its header has {', '.join(names)}"
                )
        for name in within:
            if name in cells and cells[name].separator is None:
                raise InputError(
                    f"{file.path}: column {name!r} holds several values, but nothing says what "
                    "stands between them in a text; set separator, such as '|', or give lists in "
                    "Parquet"
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
