"""Fitness of candidates: how well the frozen supernet does under given dimensions (section 3.3.2).

Either its AUC with the batch statistics it was trained with, or minus its logloss with statistics
taken anew for each candidate: fewer columns shift every unit, which the ranking of the rows
survives and the logloss does not.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields, mask_array
from optembed_jax.fitness.candidate_logits import GROUP
from optembed_jax.fitness.split_scorer import MEASURES, Scorer
from optembed_jax.fitness.validation_parts import (
    checked_labels,
    checked_weights,
    part_sizes,
    stratified_order,
)
from optembed_jax.method.bag import Bags
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Selection, check_selection, check_table, view_of
from optembed_jax.search.successive_halving import Fitness

LEAST_PARTIAL = 16_384
"""Rows of a part that candidates are judged by: the difference of two has less noise there than one
retraining has (docs/search.md, "Partial evaluations").
"""
_LANES = 128
"""Numbers that processors take at once, or a multiple of them."""


@dataclasses.dataclass(frozen=True)
class ValidationFitness:
    """The fitness function of a search; call it with dims int32 ``[C, F]``.

    Attributes:
      parts: fitness on nested parts of the validation rows, the smallest first, all rows last;
        for :func:`successive_halving.successive_halving` and partial evaluations. All rows alone
        where the smallest part would be too small.
      part_rows: rows of each part.
      without_linear: of a field's number the fitness on all rows of a model without that field's
        linear weights, which no dimension takes away; None: there are none, or which rows a
        candidate reads is not known.
    """

    parts: tuple[Fitness, ...]
    part_rows: tuple[int, ...]
    without_linear: Callable[[int], Fitness] | None = None

    def __call__(self, dims: np.ndarray) -> np.ndarray:
        """Fitness float64 ``[C]`` of candidates ``[C, F]`` on all rows."""
        return self.parts[-1](dims)

    @property
    def partial(self) -> Fitness | None:
        """On the smallest part with ``LEAST_PARTIAL`` rows or more; None where none has so many."""
        enough = (
            part
            for part, rows in zip(self.parts[:-1], self.part_rows[:-1], strict=True)
            if rows >= LEAST_PARTIAL
        )
        return next(enough, None)


def make_fitness(
    model: ModelConfig,
    params: Params,
    batch_stats: Any,
    rows: np.ndarray | None,
    ids: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    measure: str = "auc",
    candidates_per_pass: int = 32,
    batch_size: int | None = None,
    least_part: int = 1000,
    calibration_rows: int = 8192,
    bags: Bags | None = None,
    fields: Fields | None = None,
) -> ValidationFitness:
    """The fitness function of a search, on the validation split.

    Args:
      model: the model.
      params: of the supernet.
      batch_stats: of the supernet.
      rows: bool ``[V]``, the frozen row mask; None keeps every row.
      ids: int32 ``[N, F]``, the validation split; a row at least.
      labels: 0/1 ``[N]``, with both classes.
      weights: float32 ``[N]``, above 0, how much each row counts; None counts all alike.
      measure: ``auc``, with the batch statistics as they are, or ``logloss``, recalibrated for
        each candidate; its negative is the fitness.
      candidates_per_pass: candidates scored together, at least 1; more have more in common.
      batch_size: rows scored together; None takes :func:`default_batch_size`.
      least_part: rows that the smallest part for successive halving must have; with fewer there is
        no part.
      calibration_rows: rows over which batch statistics are recalibrated at the most.
      bags: how slots of ``ids`` are pooled to fields; None where each field has one value.
      fields: of the ids, which are checked by them, as is the table; None takes both as they are.

    The function raises ``DivergedError`` when the supernet's logits are not numbers, and
    ``InputError`` where candidates are not ``[C, F]`` of integers in 0..``D``.

    Raises:
      InputError: an unknown measure, ids or a table that are not of ``fields``, no rows, labels or
        weights of another number or kind, a mask that is not of the table, or a logloss of a
        backbone of one's own with batch statistics, which only its own code can take anew.
    """
    if measure not in MEASURES:
        raise InputError(f"fitness must be one of {', '.join(MEASURES)}, not {measure!r}")
    if model.has_own_backbone and batch_stats and measure == "logloss":
        raise InputError(
            f"fitness logloss takes batch statistics anew for each candidate, and those of "
            f"{model.model_name} can only be taken in training; use fitness auc"
        )
    if fields is not None:
        check_table(model, params.table, fields)
        ids = fields.check_ids(ids)
    labels = checked_labels(labels, len(ids))
    weights = checked_weights(weights, len(ids))
    mask = None
    if rows is not None:
        mask = jax.device_put(mask_array(rows, len(params.table.rows)))
    selection = Selection(rows=mask, bags=bags)
    check_selection(model, params, selection, ids)
    view_of(model, params, selection)  # Which refuses what it cannot see.
    order = stratified_order(labels)
    sizes = part_sizes(len(ids), least_part)
    scorer = Scorer(
        model=model,
        params=params,
        batch_stats=batch_stats,
        rows=mask,
        ids=ids[order],
        is_positive=labels[order] != 0,
        weights=None if weights is None else weights[order],
        measure=measure,
        steps=-(-candidates_per_pass // GROUP) * GROUP,
        batch_size=batch_size or default_batch_size(model, sizes[0]),
        calibration_rows=calibration_rows,
        bags=bags,
    )
    return ValidationFitness(
        tuple(functools.partial(scorer, size) for size in sizes),
        sizes,
        None
        if params.table.linear is None
        else lambda field: functools.partial(scorer.without_linear(field), sizes[-1]),
    )


def default_batch_size(model: ModelConfig, smallest_part: int) -> int:
    """Rows scored together: so many that what is made of them fits a processor's cache.

    512 to 1,024, or a little less to leave the smallest part little padding; a multiple of
    ``_LANES``, since rows of an array that begin at odd places cost half of the speed.

    Args:
      model: the model.
      smallest_part: rows of the smallest part.
    """
    widest = max((model.latent_dim, *model.mlp_dims))
    batches = -(-smallest_part // int(np.clip(2**19 // widest, 512, 1024)))
    return -(-smallest_part // (batches * _LANES)) * _LANES
