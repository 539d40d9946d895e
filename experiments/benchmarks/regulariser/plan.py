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

Key = tuple[str, str, str, float, int]
"""What ``KEY`` names."""

UNPRUNED = 1.0

PRUNED_RUNGS = 3
"""Strengths among which one is chosen where rows are pruned."""

CORE_SECONDS_PER_CELL = 6.0e-6
"""Of one core, for an id of the training split in all epochs, until runs have been timed."""

START_SECONDS = 4.0
"""Of one core, to compile what a run needs: likewise."""

_FORETOLD = 1e-6  # A validation AUC that no run has, of one that is not yet run.


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
        found: dict[Key, None] = {}
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
            known += [{**job, "val_auc": _FORETOLD} for job in jobs]
        return found

    def _keys(self, finished: "Finished") -> Iterator[Key]:
        tuned = [family for family in self.families if family.tuned_as is None]
        derived = [family for family in self.families if family.tuned_as is not None]
        pruned = [family for family in self.families if family.pruned]
        yield from self._ladders(tuned, UNPRUNED, finished)
        yield from self._best(tuned, UNPRUNED, finished)
        for keep in self.keeps:
            yield from self._ladders(pruned, keep, finished)
        for keep in self.keeps:
            yield from self._best(pruned, keep, finished)
        yield from self._best(derived, UNPRUNED, finished)
        for keep in self.keeps:  # The rungs that are left, for the picture's sake.
            for dataset in self.datasets:
                for family in pruned:
                    for rung in family.rungs:
                        yield dataset, family.name, rung.name, keep, 0

    def _ladders(
        self, families: Sequence[Family], keep: float, finished: "Finished"
    ) -> Iterator[Key]:
        for seed in self._tuning:
            for dataset in self.datasets:
                for family in families:
                    for rung in self.ladder(finished, dataset, family, keep):
                        yield dataset, family.name, rung, keep, seed

    def _best(self, families: Sequence[Family], keep: float, finished: "Finished") -> Iterator[Key]:
        for seed in range(self.seeds):
            for dataset in self.datasets:
                for family in families:
                    rung = self.chosen(finished, dataset, family, keep)
                    if rung is not None:
                        yield dataset, family.name, rung, keep, seed

    def ladder(self, finished: "Finished", dataset: str, family: Family, keep: float) -> list[str]:
        """The rungs that have to be run before one is chosen, best first where that is known.

        Unpruned all; pruned, the ``PRUNED_RUNGS`` that validated best unpruned, once all have.
        """
        names = [rung.name for rung in family.rungs]
        if keep == UNPRUNED:
            return names
        merits = [self._merit(finished, dataset, family.name, name, UNPRUNED) for name in names]
        if None in merits:
            return []
        order = sorted(range(len(names)), key=lambda n: (-(merits[n] or 0.0), n))
        return [names[number] for number in order[:PRUNED_RUNGS]]

    def chosen(self, finished: "Finished", dataset: str, family: Family, keep: float) -> str | None:
        """The rung with the best mean validation AUC of the tuning seeds; of equals the weakest.

        None until the ladder has been climbed, or where no training of it came to an end.
        """
        if family.tuned_as is not None:
            family = dataclasses.replace(family, name=family.tuned_as)
        needed = self.ladder(finished, dataset, family, keep)
        names = [rung.name for rung in family.rungs]
        merits = {name: self._merit(finished, dataset, family.name, name, keep) for name in names}
        if not needed or any(merits[name] is None for name in needed):
            return None
        best = max(names, key=lambda name: merits[name] or 0.0)
        return best if merits[best] else None

    def _merit(
        self, finished: "Finished", dataset: str, family: str, rung: str, keep: float
    ) -> float | None:
        """Mean validation AUC of the tuning seeds; None before all are run, 0 if one diverged."""
        keys = [(dataset, family, rung, keep, seed) for seed in self._tuning]
        records = [finished.by_key.get(key) for key in keys]
        aucs = [record.get("val_auc", 0.0) for record in records if record is not None]
        if len(aucs) < len(keys):
            return None
        return statistics.mean(aucs) if min(aucs) > 0 else 0.0

    @property
    def _tuning(self) -> range:
        return range(min(self.tuning_seeds, self.seeds))


class Finished:
    """Finished runs by their key; of equal keys the first."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.by_key: dict[Key, Record] = {}
        for record in records:
            dataset, family, rung, keep, seed = (record[name] for name in KEY)
            self.by_key.setdefault((dataset, family, rung, keep, seed), record)


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
