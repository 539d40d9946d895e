"""Score raw rows with a bundle: a table in, CSV or Parquet out, in bounded memory.

    python -m experiments.predict --bundle=OUT --input=rows.csv --output=scores.csv

The input is any file that a table may be (CSV and the like, JSON lines, libffm, Parquet), a folder
of part files or a pattern, whose files are scored in the order of their names, or several of these
with commas between them; columns are found by name and others are ignored. Values that have no row
read their field's OOV row; how many they are is told by field at the end, with a warning where they
are far more than in training, and --max_unseen=SHARE refuses too many. The output has one score for
each row, in the same order; it is Parquet where its name ends in .parquet, and CSV elsewhere. The
flags of a run are taken and left alone, so that one flagfile serves all.
"""

import contextlib
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from absl import flags

from experiments.run import bundle_flags, cli, data_flags, training_flags
from experiments.run.progress import Progress
from experiments.run.scores_file import written
from optembed_jax.data.encoder import Encoder
from optembed_jax.data.parallel import ordered_map, workers
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.layout import FOUND, Layout
from optembed_jax.data.raw.part_files import part_files
from optembed_jax.data.raw.sources import Block
from optembed_jax.data.raw.table_file import source_of_parts, with_rows
from optembed_jax.errors import InputError
from optembed_jax.serving.bundle import Bundle
from optembed_jax.storage.object_store import fetched, in_file_system, path_of
from optembed_jax.values.unseen import Expected, unseen_rows

for _name in (
    "bundle",
    "input",
    "output",
    "max_unseen",
    "batch_size",
    *data_flags.names_of(Layout),
):
    flags.declare_key_flag(_name)

BLOCK_BYTES = 2**22


@dataclasses.dataclass
class Scored:
    """What was found in a file.

    Attributes:
      rows: scored.
      unseen: those of them whose value of each field has no row, int64 ``[F]``.
    """

    rows: int
    unseen: np.ndarray


def main() -> None:
    """Stream the input through the bundle."""
    source = in_file_system(bundle_flags.required(bundle_flags.INPUT), "--input")
    target = in_file_system(bundle_flags.required(bundle_flags.OUTPUT), "--output").absolute()
    if training_flags.BATCH_SIZE.value < 1:
        raise InputError(f"--batch_size must be at least 1, not {training_flags.BATCH_SIZE.value}")
    with fetched(path_of(bundle_flags.required(bundle_flags.BUNDLE))) as folder:
        bundle = Bundle.load(folder, warm=(training_flags.BATCH_SIZE.value,))
        pa.array([""])  # The first array of all lets pyarrow import pandas: not a rate of rows.
        progress, started = Progress(), time.monotonic()
        with _as_file(source) as file:
            found = score_file(
                bundle,
                file,
                target,
                training_flags.BATCH_SIZE.value,
                progress,
                bundle_flags.MAX_UNSEEN.value,
                data_flags.layout(),
            )
    seconds = time.monotonic() - started
    for line in unseen_lines(bundle.encoder.expected, found):
        progress.say(line)
    progress.say(
        f"{found.rows:,} rows scored in {seconds:.1f} s, {found.rows / seconds:,.0f} rows/s: "
        f"{target}"
    )


@contextlib.contextmanager
def _as_file(source: Path) -> Iterator[Path]:
    """The input as a file that can be read more than once: of a pipe, its content in one.

    Raises:
      InputError: what is wrong with a pipe's content names the pipe.
    """
    if not source.exists() or source.is_file() or source.is_dir():
        yield source
        return
    with tempfile.NamedTemporaryFile(prefix=".piped.") as copy:
        try:
            with source.open("rb") as stream:
                shutil.copyfileobj(stream, copy)
            copy.flush()
        except OSError as error:
            raise InputError(f"{source} cannot be read: {error.strerror or error}") from error
        try:
            yield Path(copy.name)
        except InputError as error:
            raise InputError(str(error).replace(copy.name, str(source))) from error


def score_file(
    bundle: Bundle,
    source: Path,
    target: Path,
    batch_size: int,
    progress: Progress,
    max_unseen: float | None = None,
    layout: Layout = FOUND,
) -> Scored:
    """Write the scores of a file whole or not at all.

    Args:
      bundle: the model.
      source: the rows: a file, a folder or a pattern.
      target: gets the scores.
      batch_size: rows per forward pass.
      progress: told how far it is.
      max_unseen: the largest share of rows, in 0..1, that may have a value without a row in any one
        field; None allows all.
      layout: how the rows are written if they are text.

    Raises:
      InputError: the input is unreadable, has a row that cannot be used, or too many values without
        a row; or the output cannot be written.
    """
    encoder, fields, files = bundle.encoder, bundle.fields, part_files(str(source), "input")
    found, started = Scored(0, np.zeros(fields.num_fields, np.int64)), time.monotonic()
    with written(target, source, files, bundle.path) as writer:
        for ids in whole_batches(_encoded(files, encoder, layout), batch_size):
            found.rows += len(ids)
            found.unseen += unseen_rows(ids, fields.oov_ids, fields.slots)
            # Of one size, for which there is a program; another is compiled for longer than
            # thousands of rows take.
            padded = np.pad(ids, ((0, batch_size - len(ids)), (0, 0)), mode="edge")
            writer.write(bundle.predict(padded, batch_size=batch_size)[: len(ids)])
            progress.update(_line(found.rows, time.monotonic() - started))
        _check_unseen(source, encoder.expected, found, max_unseen)
    return found


def unseen_lines(expected: Expected, found: Scored) -> list[str]:
    """What to tell of values without a row: a warning, or a line of a table, for each field."""
    if not found.rows or not found.unseen.any():
        return []
    warned = set(expected.surprising(found.unseen, found.rows).tolist())
    lines = [
        f"warning: {expected.line(f, int(found.unseen[f]), found.rows)}; are its values written "
        "as in the training data?"
        for f in sorted(warned)
    ]
    rest = [f for f in np.flatnonzero(found.unseen).tolist() if f not in warned]
    if rest:
        lines.append(f"{'unseen values (no row), of all rows':<40}{'here':>9}{'expected':>10}")
    return lines + [
        f"  {expected.names[f]:<38}{found.unseen[f] / found.rows:>9.2%}{expected.shares[f]:>10.2%}"
        for f in rest
    ]


def _check_unseen(
    source: Path, expected: Expected, found: Scored, max_unseen: float | None
) -> None:
    if max_unseen is None or not found.rows:
        return
    field = int(np.argmax(found.unseen))
    if found.unseen[field] > max_unseen * found.rows:
        line = expected.line(field, int(found.unseen[field]), found.rows)
        raise InputError(
            f"{source}: {line}; --max_unseen={max_unseen} allows {max_unseen:.1%}; nothing was "
            "written"
        )


def _line(rows: int, seconds: float) -> Callable[[], str]:
    return lambda: f"{rows:,} rows scored  {rows / max(seconds, 1e-9):,.0f} rows/s"


def whole_batches(parts: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same rows in the same order, ``size`` at a time; the last ones may be fewer.

    Args:
      parts: arrays ``[n, F]`` of any numbers of rows.
      size: rows of a batch, at least 1.
    """
    held: list[np.ndarray] = []
    for part in parts:
        held.append(part)
        if sum(map(len, held)) < size:
            continue
        rows = np.concatenate(held)
        whole = len(rows) - len(rows) % size
        yield from np.split(rows[:whole], whole // size)
        held = [rows[whole:]]
    if sum(map(len, held)):
        yield np.concatenate(held)


def _encoded(files: Sequence[RawFile], encoder: Encoder, layout: Layout) -> Iterator[np.ndarray]:
    """Ids int32 ``[N, F]`` of the rows of files, block by block, made in several threads."""
    try:
        source = source_of_parts(
            with_rows(files, layout, encoder.sources),
            encoder.sources,
            layout,
            encoder.numbers,
            encoder.cells,
            block_bytes=BLOCK_BYTES,
            may_be_empty=True,
        )
    except OSError as error:
        what = error.filename or files[0].path
        raise InputError(f"{what} cannot be read: {error.strerror or error}") from error

    first_rows = dict[int, int]()

    def blocks() -> Iterator[Block]:
        for block in source.blocks():
            first_rows.setdefault(block.file, block.row)
            yield block

    def work(block: Block) -> np.ndarray:
        path, rows = source.files[block.file].path, source.read(block)
        if rows.rejects:
            reject = rows.rejects[0]
            raise InputError(f"{path} cannot be read: line {reject.line}: {reject.reason}")
        try:
            first_row = block.row - first_rows[block.file] + 1  # In its own file.
            return encoder.encode_rows(rows, first_row=first_row)
        except InputError as error:
            raise InputError(f"{path}, {error}") from error

    yield from ordered_map(work, blocks(), workers())


if __name__ == "__main__":
    cli.run(main, goes_on=False, also_taken="experiments.run.flags")
