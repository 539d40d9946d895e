"""Long comparisons that can be stopped: a JSONL file with a line per finished run."""

import json
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from optembed_jax.errors import InputError

Record = dict[str, Any]

Finished = set[tuple[Any, ...]]
"""The keys of finished runs."""


def path_of(runs: str | None, figures: str | None) -> pathlib.Path:
    """The file of finished runs; without a name beside that of the figures, ending in .jsonl.

    Raises:
      InputError: neither has a name, or both have one.
    """
    if runs is None and figures is None:
        raise InputError("say where the figures are to be kept: --json=FILE.json")
    found = pathlib.Path(runs or pathlib.Path(str(figures)).with_suffix(".jsonl"))
    if figures is not None and found == pathlib.Path(figures):
        raise InputError(f"{found} is of the finished runs: give --json another name")
    return found


def complete(
    file: str | None,
    key: Sequence[str],
    missing: Callable[[Finished], Iterator[Record]] | None,
    line: Callable[[Record], str],
) -> list[Record]:
    """Run what is missing, and print a line for each run.

    Args:
      file: the JSONL file, as ``--runs`` names it.
      key: the names that tell runs apart.
      missing: makes the runs that are not finished, which it is told; a run that it yields is one
        of them from then on. None only reads.
      line: of a run.

    Returns:
      All finished runs.

    Raises:
      InputError: no file is named, or it holds something else.
    """
    if not file:
        raise InputError("say where finished runs are kept: --runs=FILE.jsonl")
    path = pathlib.Path(file)
    records = read(path, key)
    if missing is None:
        return records
    finished = {tuple(record[name] for name in key) for record in records}
    started = time.monotonic()
    for count, record in enumerate(append(path, missing(finished)), 1):
        records.append(record)
        finished.add(tuple(record[name] for name in key))
        seconds = (time.monotonic() - started) / count
        print(f"{line(record)} ({seconds:.1f} s each so far)", flush=True)
    return records


def plain_line(key: Sequence[str]) -> Callable[[Record], str]:
    """A line of what tells a run apart, and of its test AUC."""
    return lambda record: "  ".join(str(record[name]) for name in (*key, "test_auc"))


def read(path: pathlib.Path, key: Sequence[str]) -> list[Record]:
    """The finished runs; a last line that was cut off is left out.

    Args:
      path: the file; it need not be there.
      key: the names that tell runs apart.

    Raises:
      InputError: another line is not a record with these names.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    records = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        try:
            record = json.loads(line)
            _ = [record[name] for name in key]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: not a finished run ({error})") from error
        records.append(record)
    return records


def append(path: pathlib.Path, records: Iterable[Record]) -> Iterator[Record]:
    """Pass records on, each once it is in the file."""
    with path.open("a", encoding="utf-8") as file:
        # A line that was cut off is removed, so that the next one does not continue it.
        file.truncate(path.read_bytes().rfind(b"\n") + 1)
        for record in records:
            file.write(json.dumps(record) + "\n")
            file.flush()
            yield record
