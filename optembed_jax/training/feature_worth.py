"""What each field is worth to a trained model: what scoring loses when its values are shuffled.

Permutation importance (Breiman, Random Forests, 2001): the values of one field are dealt to other
rows, so that each is as frequent as before but says nothing of its row, and the same rows are
scored again. Fields that say the same are each worth little: what one loses the other still tells.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

import optembed_jax.metrics as metrics
from optembed_jax.training.prediction import Batch, Batches


@dataclasses.dataclass(frozen=True)
class Worth:
    """What a field's values are worth.

    Attributes:
      auc: lost without them, may be below zero; None of rows that are all clicks, or none.
      logloss: how much higher it is without them, may be below zero.
    """

    auc: float | None
    logloss: float


@dataclasses.dataclass(frozen=True, eq=False)
class _Rows:
    """A batch with other ids."""

    ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class _Shuffled:
    """Batches in which some columns are those of other rows."""

    batches: Sequence[Batch]
    columns: Sequence[int] | np.ndarray
    order: np.ndarray
    is_weighted: bool

    @property
    def num_batches(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        del epoch
        rows = np.flatnonzero(np.concatenate([batch.weights > 0 for batch in self.batches]))
        ids = np.concatenate([batch.ids for batch in self.batches])
        for column in self.columns:
            ids[rows, column] = ids[rows[self.order], column]
        ends = np.cumsum([len(batch.ids) for batch in self.batches])
        for batch, own in list(zip(self.batches, np.split(ids, ends[:-1]), strict=True))[start:]:
            yield _Rows(own, batch.labels, batch.weights)


def feature_worth(
    score: Callable[[Batches], tuple[np.ndarray, np.ndarray]],
    batches: Sequence[Batch],
    columns: Sequence[Sequence[int] | np.ndarray],
    seed: int,
    *,
    is_weighted: bool = False,
) -> list[Worth]:
    """What each field is worth on some rows.

    Args:
      score: labels and logits of all rows that are no padding, as of ``prediction.predict``.
      batches: the rows.
      columns: of the ids, those of each field: its slots.
      seed: of the shuffling; each field has its own order.
      is_weighted: whether some rows count more than others.
    """
    counted = np.concatenate([batch.weights[batch.weights > 0] for batch in batches])
    rows, weights = len(counted), counted if is_weighted else None
    labels, logits = score(_Shuffled(batches, (), np.arange(rows), is_weighted))
    found = []
    for field, own in enumerate(columns):
        order = np.random.default_rng((seed, field)).permutation(rows)
        _, without = score(_Shuffled(batches, own, order, is_weighted))
        auc = None
        if 0 < labels.sum() < rows:
            auc = metrics.auc(labels, logits, weights) - metrics.auc(labels, without, weights)
        logloss = metrics.logloss(labels, without, weights)
        found.append(Worth(auc, logloss - metrics.logloss(labels, logits, weights)))
    return found
