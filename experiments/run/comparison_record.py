"""What a cell of a comparison came to, as its folder has it: a JSON object that is checked."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.run.comparison_grid import Cell
from experiments.run.records import Record, read_json
from optembed_jax.errors import InputError

OF_MODEL = ("val_auc", "test_auc", "test_logloss", "table_parameters", "total_parameters")
"""Figures of a trained model that a record has."""


def finished_record(result: Path, cell: Cell) -> Record:
    """What a cell came to."""
    way_out = f"remove {result.parent} to run that cell again"
    found = read_json(result, way_out)
    own = dataclasses.asdict(cell)
    if {name: found.get(name) for name in own} != own:
        raise InputError(f"{result} is not of {cell.name}; {way_out}")
    if not isinstance(found.get("refused"), str):
        figures(result, found, (*OF_MODEL, "bundle_bytes", "seconds"), way_out)
    return found


def as_stored(manifest: Path, way_out: str) -> Record:
    """Figures of test rows of a bundle in fewer bits than float32, in the place of the model's."""
    metrics = read_json(manifest, way_out).get("metrics", {})
    if not isinstance(metrics, dict) or "test_auc_stored" not in metrics:
        return {}
    names = ("test_auc", "test_logloss")
    found = figures(manifest, metrics, [f"{name}_stored" for name in names], way_out)
    return {name: found[f"{name}_stored"] for name in names}


def figures(path: Path, found: Any, names: Sequence[str], way_out: str) -> Record:
    """Numbers of a record by name, which are there and are numbers."""
    for name in names:
        value = found.get(name) if isinstance(found, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise InputError(f"{path}: {name} is {value!r}, and no number; {way_out}")
    return {name: found[name] for name in names}
