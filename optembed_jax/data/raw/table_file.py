"""Files as sources of rows: Parquet, JSON lines, libffm or delimited text, told by their content.

Delimited text names its columns in the first line, or they are given (`Layout.columns`).
"""

import collections
import functools
import pathlib
import re
import types
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from optembed_jax.data.raw import header, json_lines, libffm, text, whole_rows
from optembed_jax.data.raw.columnar import check_columns
from optembed_jax.data.raw.dialect import Dialect, read_names
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.joined import Joined, Partitioned
from optembed_jax.data.raw.layout import Layout
from optembed_jax.data.raw.lines import LineSource, first_lines
from optembed_jax.data.raw.parquet import ParquetSource
from optembed_jax.data.raw.sources import Source
from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells

_JSON_ARRAY = re.compile(rb"\[\s*(?:\{|$)")

_NO_CELLS: Mapping[str, Cells] = types.MappingProxyType({})


def source_of(
    file: RawFile,
    wanted: tuple[str, ...],
    layout: Layout,
    numbers: Sequence[str] = (),
    cells: Mapping[str, Cells] = _NO_CELLS,
    *,
    block_bytes: int = text.BLOCK_BYTES,
    may_be_empty: bool = False,
    keys: Collection[str] = (),
) -> Source:
    """A file's rows, and what its folders' names say.

    Args:
      file: of any form.
      wanted: the columns to decode; they are found by name.
      layout: how it is written if it is text.
      numbers: the columns that are read as numbers.
      cells: how those columns are read whose cells hold several values.
      block_bytes: about how much text one block holds.
      may_be_empty: whether it may have no rows, or so few that not every field of libffm's form is
        there.
      keys: that other parts of the table have, of JSON lines: this one may lack them.

    Raises:
      InputError: the file cannot be read, lacks a column or has it twice.
    """
    path = file.path
    of_text = functools.partial(
        _text_source, layout=layout, cells=cells, block_bytes=block_bytes, may_be_empty=may_be_empty
    )
    as_json = functools.partial(json_lines.decode, cells=cells)
    as_libffm = functools.partial(libffm.decode, cells=cells)
    of_lines = functools.partial(
        LineSource, (file,), encoding=layout.encoding, may_be_empty=may_be_empty
    )
    if _is_parquet(path):
        schema = _schema(path)
        within, further = _divided(file, wanted, [name.strip() for name in schema.names])
        check_columns(schema, within, str(path), cells)
        source: Source = ParquetSource((file,), within, may_be_empty, cells)
    elif layout.columns:
        within, further = _divided(file, wanted, layout.columns)
        # Of a file of rows to score, which may be empty.
        first = header.first_row(path, layout, may_be_empty=True)
        source = of_text(file, within, layout.columns, first, numbers)
    elif _is_json(first := _first_line(path, layout.encoding)):
        lines = first_lines(of_lines((), as_json))
        names = json_lines.names_of(lines)
        faults = as_json(lines[:1], ()).faults
        if faults and not names:
            raise InputError(f"{path} has no object on a line that can be read: {faults[0][1]}")
        within, further = _divided(file, wanted, names)
        for name in within:
            if name not in names and name not in keys:
                raise LacksKey(
                    f"{path} has no column {name!r} in its first {len(lines):,} rows; they have "
                    f"{', '.join(names)}"
                )
        source = of_lines(within, as_json, block_bytes=block_bytes)
    elif _JSON_ARRAY.match(first.strip()):
        raise InputError(f"{path} is a JSON array; JSON lines are needed, an object on each line")
    elif libffm.is_line(first):
        within, further = _divided(file, wanted, ())
        lines = first_lines(of_lines((), as_libffm))
        libffm.check_names(within, lines, str(path), may_lack=may_be_empty)
        source = of_lines(within, as_libffm, block_bytes=block_bytes)
    else:
        first = header.first_row(path, layout)
        delimiter = header.delimiter_of(path, first, layout)
        columns = read_names(first, delimiter, str(path))
        within, further = _divided(file, wanted, columns)
        source = of_text(file, within, columns, first, numbers)
    return Partitioned(source, further) if further else source


def source_of_parts(
    files: Sequence[RawFile],
    wanted: tuple[str, ...],
    layout: Layout,
    numbers: Sequence[str] = (),
    cells: Mapping[str, Cells] = _NO_CELLS,
    **options: Any,
) -> Source:
    """The rows of several files, one file after another, each of a form of its own.

    Args:
      files: at least one; see :func:`with_rows`.
      wanted: the columns to decode; they are found by name in each file.
      layout: how the files are written that are text.
      numbers: the columns that are read as numbers.
      cells: how those columns are read whose cells hold several values.
      **options: of :func:`source_of`.

    Raises:
      InputError: as of :func:`source_of`, naming the file.
    """
    try:
        sources = tuple(source_of(f, wanted, layout, numbers, cells, **options) for f in files)
    except LacksKey:
        # A key may be optional, and lack in all rows of a part.
        keys = set[str]().union(*(keys_of(file, layout) for file in files))
        sources = tuple(
            source_of(f, wanted, layout, numbers, cells, keys=keys, **options) for f in files
        )
    return sources[0] if len(sources) == 1 else Joined(sources)


def with_rows(
    files: Sequence[RawFile], layout: Layout, wanted: Sequence[str]
) -> tuple[RawFile, ...]:
    """The files without those of several parts that have no rows, as Spark leaves them."""
    parts = collections.Counter(file.split for file in files)
    return tuple(f for f in files if parts[f.split] == 1 or not is_empty(f, layout, wanted))


class LacksKey(InputError):
    """A wanted key is in no line of the beginning of a file of JSON lines."""


def keys_of(file: RawFile, layout: Layout) -> list[str]:
    """The keys in the beginning of a file of JSON lines; of another form none."""
    if _is_parquet(file.path) or layout.columns:
        return []
    if not _is_json(_first_line(file.path, layout.encoding, may_be_empty=True)):
        return []
    decode = functools.partial(json_lines.decode, cells=_NO_CELLS)
    source = LineSource((file,), (), decode, encoding=layout.encoding, may_be_empty=True)
    return json_lines.names_of(first_lines(source))


def is_empty(file: RawFile, layout: Layout, wanted: Sequence[str]) -> bool:
    """Whether a file has no rows, as the parts that Spark leaves behind.

    A text of one line is empty where that is a header, with the ``wanted`` columns: without them
    it may be a row, and what there is of such a file is told when it is read.
    """
    path = file.path
    try:
        if _is_parquet(path):
            return bool(pq.read_metadata(path).num_rows == 0)
    except (pa.ArrowException, OSError):
        return False  # What is wrong with it is told when it is read.
    first = _first_line(path, layout.encoding, may_be_empty=True)
    if layout.columns or _is_json(first) or libffm.is_line(first):
        return whole_rows.is_empty(path, layout.encoding, header=0)
    first = header.first_row(path, layout, may_be_empty=True)
    if first.strip() and not _has_names(file, layout, first, wanted):
        return False
    return whole_rows.is_empty(path, layout.encoding, header=first.count(b"\n"))


def _has_names(file: RawFile, layout: Layout, first: bytes, wanted: Sequence[str]) -> bool:
    """Whether a first line, and the names of folders, name all columns that are wanted."""
    delimiter = header.delimiter_of(file.path, first, layout)
    try:
        names = {*read_names(first, delimiter), *(name for name, _ in file.partition)}
    except InputError:
        return False
    return names.issuperset(wanted)


def _text_source(
    file: RawFile,
    wanted: tuple[str, ...],
    columns: Sequence[str],
    first: bytes,
    numbers: Sequence[str],
    *,
    layout: Layout,
    cells: Mapping[str, Cells],
    block_bytes: int,
    may_be_empty: bool,
) -> Source:
    path, columns = file.path, list(columns)
    for name in wanted:
        if columns.count(name) != 1:
            what = "no" if name not in columns else "more than one"
            where = "columns names" if layout.columns else "its header has"
            found = " ".join(", ".join(columns).split())  # Names may have line ends.
            hint = header.hint(columns, layout) if name not in columns else ""
            raise InputError(f"{path} has {what} column {name!r}; {where} {found}{hint}")
    delimiter = header.delimiter_of(path, first, layout)
    if layout.columns and header.names_all(first, delimiter, columns):
        raise InputError(
            f"{path} line 1 names the columns; leave out columns, which is for files without a "
            "header, or remove the line"
        )
    for name in wanted:
        if name in cells and cells[name].separator is None:
            raise InputError(
                f"{path}: column {name!r} holds several values, but nothing says what stands "
                "between them in a text; set separator, such as '|', where the model is trained, "
                "or give lists, as in JSON lines and Parquet"
            )
    dialect = Dialect(tuple(columns), delimiter, quoted=True, header=not layout.columns)
    with_comma = tuple(name for name in wanted if name in numbers and layout.decimal == ",")
    return text.TextSource(
        (file,),
        dialect,
        wanted,
        block_bytes=block_bytes,
        may_be_empty=may_be_empty,
        encoding=layout.encoding,
        with_comma=with_comma,
    )


def _divided(
    file: RawFile, wanted: Sequence[str], names: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str | None]]:
    """The wanted columns that are in the file, and the values of those in its folders' names."""
    further = {name: value for name, value in file.partition if name in wanted}
    for name in further:
        if name in names:
            raise InputError(
                f"{file.path} has a column {name!r}, and its folder's name gives {name}="
                f"{further[name] or ''} as well; name another column, or rename one"
            )
    return tuple(name for name in wanted if name not in further), further


def _schema(path: pathlib.Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}") from error


def _is_parquet(path: pathlib.Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def _first_line(path: pathlib.Path, encoding: str, may_be_empty: bool = False) -> bytes:
    """The line that tells a file's form: the first one, or that below blank lines if no header is.

    Blank lines are no rows of JSON lines and of libffm. In delimited text the first line is a
    header, and a blank one is a mistake to be told.
    """
    first = whole_rows.first_line(path, encoding, may_be_empty)
    if not first or first.strip():
        return first
    for content, _ in whole_rows.whole_rows(path, size=2**16, encoding=encoding):
        for line in content.splitlines(keepends=True):
            if line.strip():
                return line if _is_json(line) or libffm.is_line(line) else first
    return first


def _is_json(first: bytes) -> bool:
    return first.lstrip().startswith(b"{")
