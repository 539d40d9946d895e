"""What a rival is given, what it decides, and what the registry knows of it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from optembed_jax.errors import BudgetError
from optembed_jax.fields import Fields
from optembed_jax.serving.kept_table import KeptTable, RowsAndDims
from optembed_jax.table.score import keep_best
from optembed_jax.table.stand_in import always_kept


@dataclasses.dataclass(frozen=True)
class Relaxed:
    """What a rival has trained to choose by.

    Attributes:
      rows: float32 ``[V, D]``, of the table.
      layer: parameters of its layer by name, on the host.
    """

    rows: np.ndarray
    layer: Mapping[str, np.ndarray]


def _nothing_trained() -> Relaxed:
    raise ValueError("the rival has no layer to train")


@dataclasses.dataclass(frozen=True)
class Task:
    """A table to make smaller, and how small.

    Attributes:
      fields: the data set's fields.
      reads: float64 ``[V]``, training rows that read each row of the table, or what they weigh.
      latent_dim: ``D``, columns of the full table.
      limit: numbers that the table may keep, linear weights apart; at least 1.
      keeps_stand_ins: whether each field's OOV row has to be kept (``mode_oov=shared``).
      trained_norms: makes float64 ``[V]``, the norm of each row after a plain training.
      seed: of the run, for what is drawn.
      relaxed: gives what was trained with the rival's layer, of one that has any.
    """

    fields: Fields
    reads: np.ndarray
    latent_dim: int
    limit: int
    keeps_stand_ins: bool
    trained_norms: Callable[[], np.ndarray]
    seed: int = 0
    relaxed: Callable[[], Relaxed] = _nothing_trained


def one_row(fields: Fields, latent_dim: int) -> int:
    """Numbers of the smallest table that keeps whole rows: one."""
    del fields
    return latent_dim


def a_column_each(fields: Fields, latent_dim: int) -> int:
    """Numbers of the smallest table that keeps every row: one column."""
    del latent_dim
    return fields.num_features


@dataclasses.dataclass(frozen=True)
class Rival:
    """A way to make a table smaller.

    Attributes:
      name: as ``--method`` has it.
      mode: what it prunes, as ``ModelConfig.mode`` says it: ``feature`` rows, ``embed``
        dimensions.
      choose: decides.
      needs_baseline: whether it reads the plain model that was trained.
      kept: the form of what it keeps.
      layer: makes what it trains between table and backbone (``models.between``) before it
        decides, of ``D``; None of one that trains nothing.
      takes_several: whether fields may have several values in a cell.
      least: of the fields and ``D``, numbers of its smallest table, which no training makes
        smaller.
    """

    name: str
    mode: str
    choose: Callable[[Task], KeptTable]
    needs_baseline: bool = False
    kept: Any = RowsAndDims
    layer: Callable[[int], nn.Module] | None = None
    takes_several: bool = True
    least: Callable[[Fields, int], int] = one_row

    @property
    def carries(self) -> bool:
        """Whether its model has a full table, whose rows another run may begin with."""
        return self.kept is RowsAndDims and self.layer is None


def best_rows(task: Task, scores: np.ndarray) -> RowsAndDims:
    """All columns of as many rows as the budget pays for, those of the highest scores ``[V]``.

    Raises:
      BudgetError: it pays for no row, or not for one of each field where stand-ins are kept.
    """
    count = min(task.limit // task.latent_dim, task.fields.num_features)
    least = task.fields.num_fields if task.keeps_stand_ins else 1
    if count < least:
        raise BudgetError(
            f"a budget of {task.limit:,} parameters pays for {count} rows of {task.latent_dim} "
            f"columns, and at least {least} are kept; raise it"
        )
    if task.keeps_stand_ins:
        scores = always_kept(scores, task.fields)
    dims = np.full(task.fields.num_fields, task.latent_dim, np.int32)
    return RowsAndDims(keep_best(scores, count), dims)


def all_rows(task: Task, dims: np.ndarray) -> RowsAndDims:
    """Every row, with dimensions int ``[F]``."""
    return RowsAndDims(np.ones(task.fields.num_features, bool), np.asarray(dims, np.int32))


def check(task: Task, choice: KeptTable) -> KeptTable:
    """The choice, which keeps to the budget and to the table's shape.

    Raises:
      ValueError: it does not, which is a mistake in the rival.
    """
    fields = task.fields
    fits = choice.rows.shape == (fields.num_features,) and choice.dims.shape == (fields.num_fields,)
    if not fits or choice.dims.min() < 1 or choice.dims.max() > task.latent_dim:
        raise ValueError(f"a choice of rows {choice.rows.shape} and dims {choice.dims}")
    kept = choice.numbers(fields)
    if kept > task.limit:
        raise ValueError(f"{kept:,} parameters are kept of {task.limit:,}")
    return choice
