"""Which trainings there are: ladders of strengths, the rung that validation chooses, its seeds."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.benchmarks.runs_file import Record

DATASETS = ("flights", "movielens")
MODELS = ("dcnv2", "deepfm")
SIDES = ("ours", "fuxictr", "deepctr", "lightgbm")
TREES = "lightgbm"
"""The side that has one model of its own, named like it."""

_LONGEST_FIRST = ("fuxictr", "deepctr", "ours")

FIRST_SEED = 0
"""The one with which whole ladders are climbed."""

KEY = ("dataset", "model", "side", "rung", "seed")
"""What tells records apart."""

_STRENGTHS = (0.0, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)


@dataclasses.dataclass(frozen=True)
class Rung:
    """A strength of the regulariser.

    Attributes:
      settings: pairs of name and value; of ours flags, of a peer ``strength``.
    """

    settings: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, **settings: Any) -> "Rung":
        """A rung by its settings."""
        return cls(tuple(settings.items()))

    @property
    def name(self) -> str:
        """The settings in a word, by which records know the rung."""
        parts = (
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in self.settings
        )
        return ",".join(parts)


_L2_OF_PEERS = tuple(Rung.of(strength=strength) for strength in _STRENGTHS)

LADDERS: Mapping[str, tuple[Rung, ...]] = {
    "ours": (
        *(Rung.of(row_decay="group_lasso", group_lasso=w) for w in (3e-4, 1e-3, 3e-3)),
        Rung.of(row_decay="group_lasso", group_lasso=1e-3, table_l2=3e-2),
        *(Rung.of(row_decay="l2_coupled", table_l2=l2) for l2 in (1e-2, 3e-2, 1e-1, 3e-1)),
    ),
    "fuxictr": _L2_OF_PEERS,
    "deepctr": _L2_OF_PEERS,
    TREES: tuple(Rung.of(strength=leaves) for leaves in (31, 63, 127, 255)),
}
"""What each side chooses from. Of ours, values of flags (those of ``TrainConfig``, an attribute
each); of FuxiCTR and deepctr-torch, a weight of the squared norm of all embeddings; of LightGBM,
leaves of a tree. The three neural sides have as many rungs each."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where sides meet, or one side there.

    Attributes:
      dataset, model, side: by name.
    """

    dataset: str
    model: str
    side: str

    def has(self, record: Record) -> bool:
        """Whether a record was made here."""
        return all(record[name] == getattr(self, name) for name in ("dataset", "model", "side"))


@dataclasses.dataclass(frozen=True)
class Run:
    """A training.

    Attributes:
      place: where.
      rung: its strength.
      seed: of initial values and of the order of rows.
    """

    place: Place
    rung: Rung
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        """As ``KEY`` names it."""
        return (*dataclasses.astuple(self.place), self.rung.name, self.seed)

    def record(self, outcome: Mapping[str, Any]) -> Record:
        """The line that is kept of it."""
        return dict(zip(KEY, self.key, strict=True)) | dict(outcome)


@dataclasses.dataclass(frozen=True)
class Grid:
    """All that is to be trained.

    A ladder is climbed with the first seed. By one seed, though, a rung is chosen that was lucky:
    two rungs next to each other differ by less than two seeds of one. So the rungs that are close
    to the best, the contenders, are trained with further seeds, and the best mean of those decides.

    Attributes:
      places: in the order in which they are begun.
      rungs: numbers of the rungs to try, from 0; those that a ladder does not have are left out.
      seeds: of the chosen rung; ``FIRST_SEED`` comes first.
      choosing: by so many of the first seeds a contender is chosen, at least 1.
      margin: of validation AUC with the first seed, by which a contender may be behind the best.
    """

    places: tuple[Place, ...]
    rungs: tuple[int, ...]
    seeds: tuple[int, ...]
    choosing: int = 3
    margin: float = 0.005

    def ladder(self, place: Place) -> list[Rung]:
        """The rungs to try at a place."""
        ladder = LADDERS[place.side]
        return [ladder[number] for number in self.rungs if number < len(ladder)]

    def size(self, records: Iterable[Record]) -> int:
        """Trainings in all, as far as it is known: contenders are, once a ladder is finished."""
        kept, total = list(records), 0
        for place in self.places:
            known = len(self._known(place, kept))
            if self.chosen(place, kept) is None and known:
                known += len(self.seeds) - len(self._choosing_seeds)
                if not self._contenders(place, self._val_aucs(place, kept)):
                    known += len(self._choosing_seeds) - 1
            total += known
        return total

    def finished(self, records: Iterable[Record]) -> int:
        """How many of them are there."""
        kept = list(records)
        there = {tuple(record[name] for name in KEY) for record in kept}
        return sum(run.key in there for place in self.places for run in self._known(place, kept))

    def wanted(self, records: Iterable[Record]) -> list[Run]:
        """What can be trained now: what is left of ladders, of contenders, of the rungs chosen.

        A place whose ladder is not finished has no contenders, and without their seeds none is
        chosen.
        """
        kept = list(records)
        there = {tuple(record[name] for name in KEY) for record in kept}
        return [
            run for place in self.places for run in self._known(place, kept) if run.key not in there
        ]

    def chosen(self, place: Place, records: Iterable[Record]) -> Rung | None:
        """The contender with the best mean validation AUC; None before each has its seeds.

        Of equals it is the earlier one.
        """
        aucs = self._val_aucs(place, records)
        contenders, seeds = self._contenders(place, aucs), self._choosing_seeds
        means = {}
        for rung in contenders:
            of_rung = [aucs[rung.name, seed] for seed in seeds if (rung.name, seed) in aucs]
            if len(of_rung) < len(seeds):
                return None
            means[rung] = statistics.mean(of_rung)
        return max(means, key=lambda rung: means[rung], default=None)

    def _known(self, place: Place, records: list[Record]) -> list[Run]:
        """The trainings of a place, as far as what is finished says which they are."""
        known = {Run(place, rung, FIRST_SEED): None for rung in self.ladder(place)}
        for rung in self._contenders(place, self._val_aucs(place, records)):
            known |= {Run(place, rung, seed): None for seed in self._choosing_seeds}
        best = self.chosen(place, records)
        if best is not None:
            known |= {Run(place, best, seed): None for seed in self.seeds}
        return list(known)

    def _contenders(self, place: Place, aucs: Mapping[tuple[str, int], float]) -> list[Rung]:
        """In the ladder's order; none before the ladder is finished."""
        ladder = self.ladder(place)
        if any((rung.name, FIRST_SEED) not in aucs for rung in ladder):
            return []
        of_first = {rung: aucs[rung.name, FIRST_SEED] for rung in ladder}
        least = max(of_first.values(), default=0.0) - self.margin
        return [rung for rung in ladder if of_first[rung] >= least]

    @property
    def _choosing_seeds(self) -> tuple[int, ...]:
        return self.seeds[: self.choosing]

    @staticmethod
    def _val_aucs(place: Place, records: Iterable[Record]) -> dict[tuple[str, int], float]:
        return {
            (record["rung"], record["seed"]): record["val_auc"]
            for record in records
            if place.has(record) and "val_auc" in record
        }


def places(
    datasets: Sequence[str], models: Sequence[str], sides: Sequence[str]
) -> tuple[Place, ...]:
    """Every side at every model and data set; trees once for each data set.

    Within a model the sides that take longest come first, so that few are left to wait for.
    """
    found = [
        Place(dataset, model, side)
        for dataset in datasets
        for model in models
        for side in _LONGEST_FIRST
        if side in sides
    ]
    trees = [Place(dataset, TREES, TREES) for dataset in datasets if TREES in sides]
    return (*found, *trees)
