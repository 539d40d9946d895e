"""How fast raw text becomes training records, and in how much memory.

python -m experiments.benchmarks.prepare --rows=5000000 --json=FILE

Makes text of Criteo's shape (criteo_text.py; not timed), prepares it in a process of its own with
`experiments.prepare_data`, and tells the rows per second over that process's whole life and its
peak memory; of --engine=ray also that of the processes that it starts. Needs about 450 bytes of
disk per row under --scratch; all of it is deleted at the end.

--format=parquet prepares the same rows, written as Parquet before, as `--dataset=table` of 39
categorical columns, and --format=text the text as such a table, to compare with.
"""

import os
import pathlib
import platform
import shutil
import sys
import tempfile
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from absl import flags

from experiments.benchmarks import json_file, process_tree
from experiments.benchmarks.criteo_text import write_text
from experiments.run import cli
from optembed_jax.data.manifest import MANIFEST, read_manifest
from optembed_jax.data.parallel import workers

_ROWS = flags.DEFINE_integer("rows", 5_000_000, "Rows to prepare.", lower_bound=1_000)
_TEXT = flags.DEFINE_string(
    "text",
    None,
    "A file that criteo_text.py made of --rows rows, instead of making one; it is kept.",
)
_FORMAT = flags.DEFINE_enum(
    "format", "criteo", ["criteo", "text", "parquet"], "As which data set, from which form of file."
)
_ENGINE = flags.DEFINE_string("engine", "local", "As of prepare_data.")
_WORKERS = flags.DEFINE_integer("workers", None, "As of prepare_data.")
_SCRATCH = flags.DEFINE_string("scratch", None, "Folder for the text and the prepared data.")


COLUMNS = ("click", *(f"i{n}" for n in range(1, 14)), *(f"c{n}" for n in range(1, 27)))


def write_parquet(path: pathlib.Path, text: pathlib.Path) -> None:
    """The columns of a text as texts, but for the label, in row groups of a block of the text."""
    options = {
        "read_options": pacsv.ReadOptions(column_names=list(COLUMNS), block_size=2**26),
        "parse_options": pacsv.ParseOptions(delimiter="\t"),
        "convert_options": pacsv.ConvertOptions(
            column_types={name: pa.string() for name in COLUMNS[1:]},
            strings_can_be_null=True,
            null_values=[""],
        ),
    }
    with pacsv.open_csv(text, **options) as reader, pq.ParquetWriter(path, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def _asked(form: str, text: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """The flags that say what is prepared."""
    if form == "criteo":
        return ["--dataset=criteo_display", f"--raw_dir={text}"]
    file, columns = text, [f"--columns={','.join(COLUMNS)}", "--delimiter=tab"]
    if form == "parquet":
        file, columns = folder / "train.parquet", []
        write_parquet(file, text)
    fields = f"--categorical={','.join(COLUMNS[1:])}"
    return ["--dataset=table", f"--table_file={file}", "--label=click", fields, *columns]


def measure(
    rows: int, text: pathlib.Path | None, folder: pathlib.Path, form: str = "criteo"
) -> dict[str, Any]:
    """Prepares text in a folder, where it is made first unless there is some; the figures."""
    if text is None:
        text = folder / "train.txt"
        write_text(text, rows)
    command = [sys.executable, "-m", "experiments.prepare_data", *_asked(form, text, folder)]
    command += [f"--data_dir={folder / 'prepared'}", f"--engine={_ENGINE.value}"]
    command += [f"--workers={_WORKERS.value}"] if _WORKERS.value else []
    load = os.getloadavg()[0]
    used = process_tree.run(command)
    if used.status:
        raise SystemExit(f"error: {' '.join(command)} failed")
    (manifest_path,) = (folder / "prepared").rglob(MANIFEST)
    manifest = read_manifest(manifest_path.parent)
    found_rows = sum(manifest["num_rows"].values())
    if found_rows != rows:
        raise SystemExit(f"error: {text} has {found_rows} rows, not --rows={rows}")
    written = sum(shard["size"] for found in manifest["shards"].values() for shard in found)
    return {
        "format": form,
        "rows": rows,
        "engine": _ENGINE.value,
        "fingerprint": manifest["fingerprint"],
        "rows_per_second": round(rows / used.seconds),
        "seconds": round(used.seconds, 1),
        "cpu_seconds": round(used.cpu_seconds, 1),
        # Pages of mapped files are part of it.
        "peak_memory_mb": round(used.peak_bytes / 2**20),
        "features": sum(field["rows"] for field in manifest["fields"]),
        "raw_bytes": text.stat().st_size,
        "prepared_bytes": written,
        "cores": workers(),
        "load_before": round(load, 2),
        "python": platform.python_version(),
    }


def main() -> None:
    """Measures, prints a table, and writes the JSON file."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="prepare-", dir=_SCRATCH.value))
    try:
        text = pathlib.Path(_TEXT.value) if _TEXT.value else None
        figures = measure(_ROWS.value, text, folder, _FORMAT.value)
    finally:
        shutil.rmtree(folder)
    for name, value in figures.items():
        print(f"{name:<18}{value:>16,}" if isinstance(value, int) else f"{name:<18}{value:>16}")
    json_file.write(figures)


if __name__ == "__main__":
    cli.run(main, goes_on=False)
