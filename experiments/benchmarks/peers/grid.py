"""Which trainings there are: ladders of strengths, the rung that validation chooses, its seeds."""

import dataclasses
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
"""The only one by which a rung is chosen."""

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

    Attributes:
      places: in the order in which they are begun.
      rungs: numbers of the rungs to try, from 0; those that a ladder does not have are left out.
      seeds: of the chosen rung.
    """

    places: tuple[Place, ...]
    rungs: tuple[int, ...]
    seeds: tuple[int, ...]

    def ladder(self, place: Place) -> list[Rung]:
        """The rungs to try at a place."""
        ladder = LADDERS[place.side]
        return [ladder[number] for number in self.rungs if number < len(ladder)]

    @property
    def size(self) -> int:
        """Trainings in all."""
        later = sum(seed != FIRST_SEED for seed in self.seeds)
        ladders = [len(self.ladder(place)) for place in self.places]
        return sum(rungs + later for rungs in ladders if rungs)

    def finished(self, records: Iterable[Record]) -> int:
        """How many of them are there."""
        kept = list(records)
        count = 0
        for place in self.places:
            own = {(r["rung"], r["seed"]) for r in kept if place.has(r)}
            ladder = self.ladder(place)
            count += sum((rung.name, FIRST_SEED) in own for rung in ladder)
            rung = chosen(ladder, place, kept)
            if rung is not None:
                count += sum((rung.name, seed) in own for seed in self.seeds if seed != FIRST_SEED)
        return count

    def wanted(self, records: Iterable[Record]) -> list[Run]:
        """What can be trained now: what is left of ladders, and seeds of the rungs chosen.

        A place whose ladder is not finished has no rung chosen, and none of its other seeds.
        """
        kept = list(records)
        finished = {tuple(record[name] for name in KEY) for record in kept}
        wanted = []
        for place in self.places:
            ladder = [Run(place, rung, FIRST_SEED) for rung in self.ladder(place)]
            left = [run for run in ladder if run.key not in finished]
            if not left:
                rung = chosen(self.ladder(place), place, kept)
                if rung is None:
                    continue  # None of its rungs is to be tried.
                runs = [Run(place, rung, seed) for seed in self.seeds]
                left = [run for run in runs if run.key not in finished]
            wanted += left
        return wanted


def chosen(ladder: Sequence[Rung], place: Place, records: Iterable[Record]) -> Rung | None:
    """The rung with the best validation AUC of the first seed; None unless each has one.

    Of equals it is the earlier one.
    """
    aucs = {
        record["rung"]: record["val_auc"]
        for record in records
        if place.has(record) and record["seed"] == FIRST_SEED and "val_auc" in record
    }
    if any(rung.name not in aucs for rung in ladder) or not ladder:
        return None
    return max(ladder, key=lambda rung: aucs[rung.name])


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
