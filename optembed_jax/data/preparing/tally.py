"""What is counted of rows while they are read, block by block.

The blocks' tallies are summed in the blocks' order, wherever each of them was made: sums of
floats depend on it.
"""

import dataclasses
import functools
from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from optembed_jax.data import bins, splits
from optembed_jax.data.options import DataOptions
from optembed_jax.data.raw.columns import NUMERIC
from optembed_jax.data.raw.sources import RawData, Reject
from optembed_jax.data.splits import SPLITS
from optembed_jax.errors import InputError

_Forms = TypeVar("_Forms", bound=Hashable)


class SplitTally(NamedTuple):
    """What is counted of a block's rows once their splits are known; as of `RowsRead`.

    Attributes:
      labels: int64 ``[3, 2]``.
      weights: float64 ``[3, 2, 2]``; None where all rows count alike.
      negatives: float64 ``[2]``.
      numbers: the training values of each numeric field, by its position.
    """

    labels: np.ndarray
    weights: np.ndarray | None
    negatives: np.ndarray
    numbers: Mapping[int, bins.Drawn]


class Tally(NamedTuple):
    """What is known of a block's rows when they are coded.

    Attributes:
      file: the number of theirs.
      rows: how many there are.
      end: rows of the raw files up to here, usable or not.
      position: of the block, for progress.
      rejects: rows set aside.
      weightless: rows left out because they count nothing.
      sizes: values in the dictionary of each field, int64 ``[F]``; 0 of numeric ones.
      slots: the most values of a cell of each field, int64 ``[F]``.
      cut: values of cells of each field that were left out, int64 ``[F]``.
      forms: the ways in which the values of each field are written in a file that training rows
        come from; nothing for fields of which that is not asked.
      times: the distinct times and the rows at each of them, where splits wait for these.
      time_forms: as of `CodedRows`.
      split: the rest, where splits are known.
    """

    file: int
    rows: int
    end: int
    position: int
    rejects: tuple[Reject, ...]
    weightless: int
    sizes: np.ndarray
    slots: np.ndarray
    cut: np.ndarray
    forms: tuple[frozenset[str], ...]
    times: tuple[np.ndarray, np.ndarray] | None
    time_forms: Mapping[int, str]
    split: SplitTally | None


@dataclasses.dataclass
class RowsRead:
    """What reading leaves behind besides the coded blocks: the sum of their tallies.

    Attributes:
      rejects: rows set aside.
      samples: of the training values of each numeric field, by its position.
      labels: rows of each split with label 0 and 1, int64 ``[3, 2]``.
      weights: of the rows of each split with label 0 and 1, their sum and that of their squares,
        float64 ``[3, 2, 2]``.
      weightless: rows left out because they count nothing.
      negatives: training rows with label 0, or what they weigh: those drawn, and all, float64 [2].
      slots: the most values of a cell of each field; 1 where it is no field of several.
      cut: values of cells of each field that were left out, int64 ``[F]``.
      forms: by number of the file, as of `Tally`.
      sizes: values in each block's dictionary of each field, int64 ``[F]`` a block.
      rows_in_all: of the raw files, usable or not.
      time_forms: as of `CodedRows`.
      time_limits: where validation and test begin, if the rows are split by time.
    """

    rejects: list[Reject]
    samples: dict[int, bins.NumericSample]
    labels: np.ndarray
    weights: np.ndarray
    weightless: int
    negatives: np.ndarray
    slots: np.ndarray
    cut: np.ndarray
    forms: dict[int, tuple[frozenset[str], ...]]
    sizes: list[np.ndarray]
    rows_in_all: int = 0
    time_forms: Mapping[int, str] = dataclasses.field(default_factory=dict)
    time_limits: tuple[int, int] | None = None

    def add(self, tally: Tally) -> None:
        """Adds the next block."""
        self.rejects.extend(tally.rejects)
        self.rows_in_all = tally.end
        self.weightless += tally.weightless
        self.slots = np.maximum(self.slots, tally.slots)
        self.cut += tally.cut
        so_far = self.forms.get(tally.file, tally.forms)
        of_file = (a | b for a, b in zip(so_far, tally.forms, strict=True))
        self.forms[tally.file] = _one_of(tuple(map(_one_of, of_file)))
        self.sizes.append(tally.sizes)
        self.time_forms = {**self.time_forms, **tally.time_forms, **self.time_forms}
        if tally.split is not None:
            self.add_split(tally.split)

    def add_split(self, tally: SplitTally) -> None:
        """Adds what is known of the next block by its rows' splits."""
        self.labels += tally.labels
        self.negatives += tally.negatives
        if tally.weights is not None:
            self.weights += tally.weights
        for field, numbers in tally.numbers.items():
            self.samples[field].take(numbers)


@functools.lru_cache(4096)
def _one_of(forms: _Forms) -> _Forms:
    """Equal ones as one object: of thousands of part files most are written alike."""
    return forms


def nothing_read(data: RawData, options: DataOptions) -> RowsRead:
    """The sum of no tallies."""
    fields = len(data.columns)
    numeric = (f for f, column in enumerate(data.columns) if column.kind == NUMERIC)
    return RowsRead(
        rejects=[],
        samples={field: bins.NumericSample(options.data_seed) for field in numeric},
        labels=np.zeros((3, 2), np.int64),
        weights=np.zeros((3, 2, 2)),
        weightless=0,
        negatives=np.zeros(2),
        slots=np.ones(fields, np.int64),
        cut=np.zeros(fields, np.int64),
        forms={},
        sizes=[],
    )


def check_rejects(rejects: list[Reject], allowed: int) -> None:
    """Refuses more unusable rows than are allowed.

    Raises:
      InputError: there are; the first of them is named.
    """
    if len(rejects) <= allowed:
        return
    if allowed == 0:
        raise InputError(
            f"{rejects[0]}; correct the row, or set max_bad_rows to set such rows aside"
        )
    raise InputError(
        f"more than max_bad_rows={allowed} unusable rows; the first is {rejects[0]}; "
        f"the last so far is {rejects[-1]}"
    )


def check_times(result: RowsRead, data: RawData) -> None:
    """Refuses times in more than one form, which have no common order.

    Raises:
      InputError: naming a row of each of two forms.
    """
    if data.time is not None and len(result.time_forms) > 1:
        one, other, *_ = result.time_forms.values()
        raise InputError(
            f"column {data.time.source!r} has times in two forms, which cannot be put in order: "
            f"{one}; {other}; write all of them in one form"
        )


def check_labels(result: RowsRead, data: RawData, positive: str | None) -> None:
    """Refuses data on which training or its evaluation is undefined.

    Raises:
      InputError: saying which rows are missing.
    """
    labels, without = result.labels, ""
    if result.weightless and data.weight is not None:
        column = data.weight.source
        without = f"; {result.weightless} rows are left out, whose weight in {column!r} is 0"
    table = _shown_files(data)
    by_file = {file.split: str(file.path) for file in data.source.files if file.split is not None}
    if labels.sum() == 0:
        count = len(result.rejects)
        aside = f"; {count} rows are set aside, the first is {result.rejects[0]}" if count else ""
        raise InputError(f"{table} has no usable row{aside}{without}")
    if positive is not None and not labels[:, 1].any():
        raise InputError(
            f"no row has label_positive={positive} in column {data.label.source!r}; it is to be a "
            f"whole cell as it is written{without}"
        )
    where = [f" ({by_file.get(number, table)})" for number in range(len(SPLITS))]
    for number in np.flatnonzero(labels.sum(axis=1) == 0).tolist():
        raise InputError(
            f"the {SPLITS[number]} split{where[number]} has no rows, all splits together "
            f"{labels.sum():,}; give more rows (at least 10 where split=random draws them), or "
            f"another split{without}"
        )
    for number, name in enumerate(SPLITS):
        zeros, ones = labels[number].tolist()
        if zeros == 0 or ones == 0:
            what = "its AUC is undefined" if number else "nothing can be learned from it"
            if number == splits.TRAIN and zeros == 0 and result.negatives[1]:
                what = "draw_negatives left none of the others; draw more of them"
            raise InputError(
                f"all {zeros + ones} rows of the {name} split{where[number]} have label "
                f"{int(ones > 0)}: {what}; give more rows, or another split or data_seed{without}"
            )


def _shown_files(data: RawData) -> str:
    """What the rows come from, for messages."""
    files = data.source.files
    if not files:
        return "the data set"
    return f"{files[0].path}" + (f" and {len(files) - 1} more files" if len(files) > 1 else "")
