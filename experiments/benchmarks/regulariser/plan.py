"""Which runs there are and in what order: ladders, the rung that validation chooses, its seeds.

The plan is asked again after each finished run, since what is finished decides what comes next: a
rung is chosen once its ladder has been climbed, and rows are pruned by the scores of a model that
has been trained with all of them.
"""

import dataclasses
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments.benchmarks.regulariser.variants import Family
from experiments.benchmarks.runs_file import Record
from experiments.benchmarks.workers import Job

KEY = ("dataset", "family", "rung", "keep", "seed")
"""What tells runs apart; ``keep`` is the share of the rows, 1 without pruning."""

UNPRUNED = 1.0

CORE_SECONDS_PER_CELL = 6.0e-6
"""Of one core, for an id of the training split in all epochs, until runs have been timed."""

START_SECONDS = 4.0
"""Of one core, to compile what a run needs: likewise."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """All that is to be run.

    Attributes:
      datasets: by name, the first ones first.
      families: likewise.
      keeps: shares of the rows, below 1.
      seeds: of the chosen rung, from 0.
      tuning_seeds: the first of them, by whose mean validation AUC a rung is chosen.
    """

    datasets: tuple[str, ...]
    families: tuple[Family, ...]
    keeps: tuple[float, ...]
    seeds: int
    tuning_seeds: int = 1

    def wanted(self, records: Iterable[Record]) -> list[Job]:
        """What can be run now and is not finished, the most telling first."""
        finished = Finished(records)
        found: dict[tuple[Any, ...], None] = {}
        for key in self._keys(finished):
            if key in finished.by_key:
                continue
            dataset, family, rung, _, seed = key
            # Rows are chosen by scores that the unpruned model gathers.
            needed = (dataset, family, rung, UNPRUNED, seed)
            found[key if needed in finished.by_key else needed] = None
        return [dict(zip(KEY, key, strict=True)) for key in found]

    def rest(self, records: Iterable[Record]) -> list[Job]:
        """All that is left, as if of ladders that are not finished the weakest rung were best."""
        known, found = list(records), []
        while jobs := self.wanted(known):
            found += jobs
            known += [{**job, "val_auc": 0.0} for job in jobs]
        return found

    def _keys(self, finished: "Finished") -> Iterator[tuple[Any, ...]]:
        basic = [f for f in self.families if f.tuned_as is None and "+" not in f.name]
        derived = [f for f in self.families if f.tuned_as is not None]
        tuned = [f for f in self.families if f.tuned_as is None and "+" in f.name]
        pruned = [f for f in self.families if f.pruned]
        yield from self._ladders(basic, UNPRUNED)
        yield from self._best(basic, UNPRUNED, finished)
        for keep in self.keeps:
            yield from self._ladders(pruned, keep)
        yield from self._best(derived, UNPRUNED, finished)
        yield from self._ladders(tuned, UNPRUNED)
        yield from self._best(tuned, UNPRUNED, finished)
        for keep in self.keeps:
            yield from self._best(pruned, keep, finished)

    def _ladders(self, families: Sequence[Family], keep: float) -> Iterator[tuple[Any, ...]]:
        for seed in range(min(self.tuning_seeds, self.seeds)):
            for dataset in self.datasets:
                for family in families:
                    for rung in family.rungs:
                        yield dataset, family.name, rung.name, keep, seed

    def _best(
        self, families: Sequence[Family], keep: float, finished: "Finished"
    ) -> Iterator[tuple[Any, ...]]:
        for seed in range(self.seeds):
            for dataset in self.datasets:
                for family in families:
                    rung = self.chosen(finished, dataset, family, keep)
                    if rung is not None:
                        yield dataset, family.name, rung, keep, seed

    def chosen(self, finished: "Finished", dataset: str, family: Family, keep: float) -> str | None:
        """The rung with the best mean validation AUC of the tuning seeds; of equals the weakest.

        None until each rung has been run, or where no training of the ladder came to an end.
        """
        climbed = family.name if family.tuned_as is None else family.tuned_as
        best: tuple[float, str] | None = None
        for rung in family.rungs:
            aucs = []
            for seed in range(min(self.tuning_seeds, self.seeds)):
                record = finished.by_key.get((dataset, climbed, rung.name, keep, seed))
                if record is None:
                    return None
                aucs.append(record.get("val_auc"))
            if None in aucs:  # It diverged.
                continue
            mean = statistics.mean(auc for auc in aucs if auc is not None)
            if best is None or mean > best[0]:
                best = mean, rung.name
        return None if best is None else best[1]


class Finished:
    """Finished runs by their key; of equal keys the first."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.by_key: dict[tuple[Any, ...], Record] = {}
        for record in records:
            self.by_key.setdefault(tuple(record[name] for name in KEY), record)


def expected_seconds(
    jobs: Iterable[Job], records: Iterable[Record], cells: Mapping[str, int]
) -> float:
    """How long runs take on one core.

    Args:
      jobs: the runs.
      records: finished ones; those of the same data set, pruned or not, tell best.
      cells: ids of each data set's training split, rows times fields.
    """
    seconds: dict[tuple[str, bool], list[float]] = {}
    for record in records:
        seconds.setdefault(_kind(record), []).append(record["seconds"])
    return sum(
        statistics.mean(seconds[_kind(job)])
        if _kind(job) in seconds
        else START_SECONDS + cells[job["dataset"]] * CORE_SECONDS_PER_CELL
        for job in jobs
    )


def _kind(run: Mapping[str, Any]) -> tuple[str, bool]:
    return run["dataset"], run["keep"] == UNPRUNED
