"""The file that scores go to: in which form it is written, and what it must not replace."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from optembed_jax.data.raw.part_files import would_be_part
from optembed_jax.data.raw.sources import RawFile
from optembed_jax.errors import InputError

WRITTEN_ROWS = 2**17
SCHEMA = pa.schema([("probability", pa.float32())])
_OTHER_FORMS = (".gz", ".zst", ".bz2", ".xz", ".zip", ".json", ".jsonl", ".ndjson", ".orc")


class ScoresWriter:
    """Writes scores as a table, many at a time: a row group of Parquet should not be small."""

    def __init__(self, writer: pyarrow.csv.CSVWriter | pyarrow.parquet.ParquetWriter) -> None:
        self._writer, self._held = writer, list[np.ndarray]()

    def __enter__(self) -> "ScoresWriter":
        return self

    def write(self, scores: np.ndarray) -> None:
        """Writes float32 ``[N]``, now or later."""
        self._held.append(scores)
        if sum(map(len, self._held)) >= WRITTEN_ROWS:
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


def asks_for_parquet(target: Path) -> bool:
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


def writer_of(sink: BinaryIO, as_parquet: bool) -> ScoresWriter:
    """The writer of the form that was asked for."""
    if as_parquet:
        return ScoresWriter(pyarrow.parquet.ParquetWriter(sink, SCHEMA))
    return ScoresWriter(pyarrow.csv.CSVWriter(sink, SCHEMA))


def spared(target: Path, source: Path, files: Sequence[RawFile], bundle: Path) -> Path:
    """Where a link leads to, so that it stays one.

    Raises:
      InputError: the output would take the place of the input, be found among its files the next
        time, or take the place of a file of the bundle.
    """
    try:
        target = target.resolve()
    except (RuntimeError, OSError) as error:  # The first up to Python 3.12.
        raise InputError(f"--output={target} is a link that leads in a circle") from error
    if target.is_file() and any(target.samefile(file.path) for file in files):
        raise InputError(f"--output={target} is the --input; give another file for the scores")
    if not source.is_file() and would_be_part(str(source), target):
        raise InputError(f"--output={target} lies in the --input; give a file outside of {source}")
    if target.is_relative_to(bundle.resolve()):
        raise InputError(f"--output={target} lies in the bundle; give a file outside of {bundle}")
    if target.is_dir():
        raise InputError(f"--output={target} is a folder; give a file in it")
    return target
