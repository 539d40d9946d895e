"""The file of scores, CSV or Parquet: written whole or not at all, and over no input."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.part_files import would_be_part
from optembed_jax.errors import InputError
from optembed_jax.storage.object_store import is_stream

SCHEMA = pa.schema([("probability", pa.float32())])
_ROWS = 2**17
_OTHER_FORMS = frozenset(
    [".gz", ".tgz", ".zst", ".bz2", ".xz", ".zip", ".7z", ".tar", ".lz4", ".br", ".snappy"]
    + [".json", ".jsonl", ".ndjson", ".orc", ".avro", ".feather", ".arrow", ".ipc", ".tfrecord"]
    + [".xlsx", ".xlsm", ".xls", ".ods", ".npy", ".npz", ".h5", ".hdf5", ".pkl", ".pickle"]
    + [".safetensors", ".db", ".sqlite", ".sqlite3", ".duckdb", ".xml", ".html", ".yaml", ".yml"]
)
"""What names end in that ask for a form that scores are not written in."""


@contextlib.contextmanager
def written(
    target: Path, source: Path, files: Sequence[RawFile], bundle: Path
) -> Iterator["ScoreWriter"]:
    """Gives what writes scores; the target has them all once the block has ended without an error.

    Args:
      target: gets the scores: Parquet where its name, or what that leads to, ends so, else CSV.
      source: the input as it was named.
      files: of the input.
      bundle: folder of the model.

    Raises:
      InputError: the target cannot be written, or would take the place of the input or the model.
    """
    # A pipe, say, which nothing can replace, and whose link in /proc leads to no path.
    streams, named = is_stream(target), target
    target = target if streams else _spared(target, source, files, bundle)
    as_parquet = any(map(_asks_for_parquet, {named, target}))
    beside = tempfile.gettempdir() if streams else target.parent
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=beside)
    except OSError as error:
        raise InputError(f"cannot write to {beside}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as sink, _writer_of(sink, as_parquet) as writer:
            yield writer
        if streams:
            with open(temporary, "rb") as whole, target.open("wb") as stream:
                shutil.copyfileobj(whole, stream)
        else:
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


class ScoreWriter:
    """Writes scores as a table, many at a time: a row group of Parquet should not be small."""

    def __init__(self, writer: pyarrow.csv.CSVWriter | pyarrow.parquet.ParquetWriter) -> None:
        self._writer, self._held = writer, list[np.ndarray]()

    def __enter__(self) -> "ScoreWriter":
        return self

    def write(self, scores: np.ndarray) -> None:
        """Writes float32 ``[N]``, now or later."""
        self._held.append(scores)
        if sum(map(len, self._held)) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            scores = pa.array(np.concatenate(self._held))
            self._writer.write_table(pa.table([scores], schema=SCHEMA))
            self._held = []

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


def _asks_for_parquet(target: Path) -> bool:
    """Whether a name, that of a link or of what it leads to, asks for Parquet.

    Raises:
      InputError: it asks for a form that scores are not written in.
    """
    suffix = target.suffix.lower()
    if suffix in _OTHER_FORMS:
        raise InputError(
            f"--output={target}: scores are written as CSV, or as Parquet where the name ends in "
            f".parquet, and not as {suffix}; give another name"
        )
    return suffix in (".parquet", ".pq")


def _writer_of(sink: BinaryIO, as_parquet: bool) -> ScoreWriter:
    """The writer of the form that was asked for."""
    if as_parquet:
        return ScoreWriter(pyarrow.parquet.ParquetWriter(sink, SCHEMA))
    return ScoreWriter(pyarrow.csv.CSVWriter(sink, SCHEMA))


def _spared(target: Path, source: Path, files: Sequence[RawFile], bundle: Path) -> Path:
    """Where a link leads to, so that it stays one.

    Raises:
      InputError: the output would take the place of the input, be found among its files the next
        time, or take the place of a file of the bundle.
    """
    # Path.resolve raises of a circle up to Python 3.12 only; this leaves a link in it.
    target = Path(os.path.realpath(target))
    if target.is_symlink():
        raise InputError(f"--output={target} is a link that leads in a circle")
    if target.is_file() and any(target.samefile(file.path) for file in files):
        raise InputError(f"--output={target} is the --input; give another file for the scores")
    if not source.is_file() and would_be_part(str(source), target):
        raise InputError(f"--output={target} lies in the --input; give a file outside of {source}")
    if target.is_relative_to(bundle.resolve()):
        raise InputError(f"--output={target} lies in the bundle; give a file outside of {bundle}")
    if target.is_dir():
        raise InputError(f"--output={target} is a folder; give a file in it")
    return target
