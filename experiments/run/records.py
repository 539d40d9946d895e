"""Records: JSON, JSON lines and text in a run's folder, written whole by the first process."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from etils.epath import Path, PathLike

from experiments.run import processes
from optembed_jax.errors import InputError
from optembed_jax.storage.object_store import in_bucket, write_whole

Record = dict[str, Any]


def run_again(folder: PathLike) -> str:
    """The way out where a file of a phase, or of a training within one, cannot be used."""
    return f"remove {folder} to run it again"


def read_json(path: PathLike, way_out: str) -> Record:
    """A JSON object.

    Args:
      path: the file, which is there.
      way_out: what a person is to do where it cannot be read.

    Raises:
      InputError: it is none; the message ends with the way out.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {way_out}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object; {way_out}")
    return found


def write_json(path: PathLike, value: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False, allow_nan=False) + "\n")


def write_text(path: PathLike, text: str) -> None:
    """Write a text file whole or not at all."""
    if processes.is_first():
        write_whole(path, text.encode())


def write_jsonl(path: PathLike, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSONL file whole or not at all: that of a run that goes on, as far as it was."""
    write_text(path, "".join(_line(record) for record in records))


def append_jsonl(path: PathLike, record: Mapping[str, Any]) -> None:
    """Add a line to a JSONL file."""
    if not processes.is_first():
        return
    if in_bucket(path):  # Where nothing can be added to: such files have a line per epoch.
        write_whole(path, Path(path).read_bytes() + _line(record).encode())
        return
    with Path(path).open("a") as file:
        file.write(_line(record))


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
