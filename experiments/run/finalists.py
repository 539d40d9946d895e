"""The short list of a search: its winner and the simple rules of the same size, trained for real.

The supernet's word is enough to find good tables among thousands, and not to say which of a few
different ones is best: it underrates tables whose large fields are narrow. So the few are trained,
from the same initial values and in the same order of rows.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from etils.epath import Path

from experiments.run import processes
from experiments.run.progress import clock
from experiments.run.records import read_json, run_again, write_json
from experiments.run.search_phase import chosen, picked
from experiments.run.search_setup import (
    Masks,
    limit_of,
    masks_of,
    rule_names,
    space_of,
    supernet_of,
)
from experiments.run.trained import Run
from experiments.run.training_phases import retrain_as
from optembed_jax.serving.kept_table import KeptTable, RowsAndDims
from optembed_jax.storage import barrier, state_manifest


@dataclasses.dataclass(frozen=True)
class Finalist:
    """A table to be trained.

    Attributes:
      name: ``search``, or the simple rule that it is of; ``retrained`` or ``supernet``, where
        nothing was searched.
      rules: all simple rules that come to these dimensions, none of a winner of its own.
      kept: its rows and dimensions.
    """

    name: str
    rules: tuple[str, ...]
    kept: KeptTable


def winner_of(run: Run, wanted_by: str) -> KeptTable:
    """The rows and dimensions that the search found, as ``--pick`` chooses."""
    supernet = supernet_of(run)
    point = picked(run, wanted_by)
    return chosen(supernet, masks_of(run, supernet), point, run.prepared.fields).kept


def short_list(run: Run, winner: KeptTable) -> tuple[list[Finalist], int]:
    """The winner, then the simple rules over the winner's rows; and what each may cost at most.

    The rules have the budget of the search; without one, or where a table of a front was picked,
    the size of the winner's table. Those that come to the same dimensions are one finalist.
    """
    rows = winner.rows if run.settings.model.prunes_rows else None
    masks = Masks((rows,), (None,))
    limit = limit_of(run)
    if limit is None or run.settings.pick != "best":
        limit = int(space_of(run, masks, None).cost(winner.dims))
    found = {winner.dims.tobytes(): Finalist("search", (), winner)}
    for rule, candidates in rule_names(space_of(run, masks, limit), limit):
        dims = candidates[0]
        other = Finalist(rule, (), RowsAndDims(winner.rows, dims))
        same = found.setdefault(dims.tobytes(), other)
        found[dims.tobytes()] = dataclasses.replace(same, rules=(*same.rules, rule))
    return list(found.values()), limit


@dataclasses.dataclass(frozen=True)
class Training:
    """A finished training of a finalist.

    Attributes:
      finalist: what was trained.
      folder: its folder.
      record: of the training.
    """

    finalist: Finalist
    folder: Path
    record: dict[str, Any]

    def forget(self) -> None:
        """Remove the trained model; the record stays."""
        if processes.is_first():
            state_manifest.remove(self.folder / "state")


def train_each(
    run: Run, folder: Path, phase: str, trainings: Sequence[tuple[Finalist, int]]
) -> Iterator[Training]:
    """Train finalists, each with a seed; what is finished in the folder is not trained again.

    The model of each is in its ``state`` until it is forgotten.
    """
    spent: list[float] = []
    for number, (finalist, seed) in enumerate(trainings):
        place = folder / f"{finalist.name}_{seed}"
        result = place / "result.json"
        if not result.exists():
            left = (len(trainings) - number) * float(np.mean(spent)) if spent else None
            run.progress.say(
                f"{phase}  table {number + 1} of {len(trainings)}: {finalist.name}, seed {seed}"
                f"{'' if left is None else f'  ETA {clock(left)}'}"
            )
            processes.stop_if_asked(f"training {finalist.name}")
            started = time.monotonic()
            if processes.is_first():
                place.mkdir(parents=True, exist_ok=True)
            barrier.wait(f"{place} is there")
            seeded = dataclasses.replace(run.settings, seed=seed)
            record = retrain_as(dataclasses.replace(run, settings=seeded), place, finalist.kept)
            write_json(result, {**record, "seconds": round(time.monotonic() - started, 3)})
            barrier.wait(f"{result} is written")
        if processes.is_first():
            (place / "checkpoints").rmtree(missing_ok=True)
        record = read_json(result, run_again(place))
        spent.append(record.pop("seconds"))
        yield Training(finalist, place, record)


def best_of(trainings: Sequence[Training]) -> Training:
    """The one with the highest validation AUC, the first of equals. The test split has no say."""
    return max(trainings, key=lambda training: float(training.record["val_auc"]))
