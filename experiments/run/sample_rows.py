"""Some raw rows of a run's data set, written as a request would hold them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from experiments.run.trained import Run
from optembed_jax import data
from optembed_jax.data.options import PATH_OPTIONS
from optembed_jax.values.cells import MARK

ROWS = 1000


def write_sample(run: Run, path: Path) -> int:
    """Raw rows as a CSV file, or JSON lines where cells are lists, which CSV has not.

    The label is among the columns where the source has it.

    Returns:
      How many rows were written.
    """
    made_of: dict[str, Any] = {name: run.prepared.options.get(name) for name in PATH_OPTIONS}
    raw = data.DATASETS[run.settings.dataset].raw_data(
        dataclasses.replace(run.settings.data, **made_of)
    )
    block = next(iter(raw.source.blocks()))
    table = pa.table(dict(raw.source.read(block).columns)).slice(0, ROWS)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = table.to_pylist()
    if any(_is_list(value) for row in rows for value in row.values()):
        lines = [
            json.dumps({k: v.split(MARK)[1:] if _is_list(v) else v for k, v in row.items()})
            for row in rows
        ]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    else:
        pyarrow.csv.write_csv(table, path)
    return len(rows)


def _is_list(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(MARK)
