"""Score raw rows with a bundle: CSV in, CSV out, in bounded memory.

    python -m experiments.predict --bundle=OUT --input=rows.csv --output=scores.csv

The input has a header; columns are found by name and others are ignored. Values that the model
never saw read their field's OOV row. The output has one line for each row, in the same order.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
from absl import flags

from experiments.run import cli
from experiments.run import flags as project_flags
from experiments.run.progress import Progress
from optembed_jax.errors import InputError
from optembed_jax.serving.bundle import Bundle
from optembed_jax.storage.object_store import fetched, in_file_system, path_of

flags.adopt_module_key_flags(project_flags)

BLOCK_BYTES = 2**24
SCHEMA = pa.schema([("probability", pa.float32())])


def main() -> None:
    """Stream the input through the bundle."""
    source = in_file_system(project_flags.required(project_flags.INPUT), "--input")
    target = in_file_system(project_flags.required(project_flags.OUTPUT), "--output").absolute()
    with fetched(path_of(project_flags.required(project_flags.BUNDLE))) as folder:
        bundle = Bundle.load(folder)
        progress, started = Progress(), time.monotonic()
        rows = score_file(bundle, source, target, project_flags.BATCH_SIZE.value, progress)
    seconds = time.monotonic() - started
    progress.say(f"{rows:,} rows scored in {seconds:.1f} s, {rows / seconds:,.0f} rows/s: {target}")


def score_file(
    bundle: Bundle, source: Path, target: Path, batch_size: int, progress: Progress
) -> int:
    """Write the scores of a file whole or not at all; returns how many.

    Raises:
      InputError: the input is unreadable or has a row that cannot be used, or the output cannot
        be written.
    """
    rows, started = 0, time.monotonic()
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise InputError(f"cannot write to {target.parent}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as sink, pyarrow.csv.CSVWriter(sink, SCHEMA) as writer:
            for table in _tables(source, bundle.encoder.sources):
                try:
                    ids = bundle.encode(table, first_row=rows + 1)
                except InputError as error:
                    raise InputError(f"{source}, {error}") from error
                scores = bundle.predict(ids, batch_size=batch_size)
                writer.write_table(pa.table([pa.array(scores)], schema=SCHEMA))
                rows += len(scores)
                progress.update(_line(rows, time.monotonic() - started))
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return rows


def _line(rows: int, seconds: float) -> Callable[[], str]:
    return lambda: f"{rows:,} rows scored  {rows / max(seconds, 1e-9):,.0f} rows/s"


def _tables(source: Path, columns: tuple[str, ...]) -> Iterator[pa.Table]:
    """Blocks of the input as tables of strings."""
    tabs = ".tsv" in source.suffixes
    try:
        with pa.input_stream(str(source), compression="detect") as stream:
            reader = pyarrow.csv.open_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES),
                parse_options=pyarrow.csv.ParseOptions(delimiter="\t" if tabs else ","),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=list(columns),
                    column_types=dict.fromkeys(columns, pa.string()),
                    strings_can_be_null=False,
                ),
            )
            for batch in reader:
                yield pa.Table.from_batches([batch])
    except KeyError as error:
        raise InputError(f"{source}: {' '.join(map(str, error.args))}") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source} cannot be read: {error}") from error


if __name__ == "__main__":
    cli.run(main)
