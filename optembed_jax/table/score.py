"""Which rows to keep under a budget: a score per row, gathered while training, and an exact cut.

A row is kept when its score exceeds its threshold. Thresholds are learned (``threshold``), or a
budget sets one for all rows, at the quantile that keeps exactly as many rows as it pays for. Rows
that training never read come last, in the whole table or, with the last score, in their field.

=======================  ===================================================================
``norm``                 The row's norm at the end (the paper).
``mean_norm``            Its norm, averaged over the steps of the last epoch. A row that decay
                         takes to zero between two visits scores low, however large it is when
                         it is visited.
``taylor``               ``sum |g . e|`` over the steps that read it: what the loss would change
                         by without the row, to first order.
``frequency``            How often training read it, or what the rows weigh that did.
``frequency_per_field``  The same share of every field, its most frequent rows.
=======================  ===================================================================
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.row_axis import PER_ROW, WithRows
from optembed_jax.method.threshold import by_block, row_norm
from optembed_jax.table.decay import RowRule, lasso_share, ridge_per_step
from optembed_jax.table.lookup import IdleSteps
from optembed_jax.table.moments import MomentRows
from optembed_jax.table.shrinkage import sum_of_left
from optembed_jax.table.update import RowStep

ROW_SCORES = ("norm", "mean_norm", "taylor", "frequency", "frequency_per_field")

FREQUENCY_BANDS = ((0, 0), (1, 1), (2, 9), (10, 99), (100, None))
"""Occurrences in the training split, from and to, by which kept rows are reported."""


@flax.struct.dataclass
class ScoreState(WithRows):
    """What a score has gathered so far.

    Attributes:
      reads: int32 ``[V]``, ids that read each row.
      total: float32 ``[V]``, sum of norms or of Taylor terms; None for the other scores.
      since: int32 scalar, the step after which the epoch began.
      kind: one of ``ROW_SCORES``.
      order: of the norm, 1 or 2.
    """

    reads: jax.Array = flax.struct.field(metadata=PER_ROW)
    total: jax.Array | None = flax.struct.field(metadata=PER_ROW)
    since: jax.Array
    kind: str = flax.struct.field(pytree_node=False)
    order: int = flax.struct.field(pytree_node=False)


def init_scores(kind: str, num_features: int, order: int = 1) -> ScoreState:
    """Nothing gathered.

    Args:
      kind: one of ``ROW_SCORES``.
      num_features: ``V``.
      order: of the norm, 1 or 2.
    """
    total = None
    if kind in ("mean_norm", "taylor"):
        total = jnp.zeros((num_features,), jnp.float32)
    return ScoreState(
        reads=jnp.zeros((num_features,), jnp.int32),
        total=total,
        since=jnp.zeros((), jnp.int32),
        kind=kind,
        order=order,
    )


def begin_epoch(scores: ScoreState, step: jax.Array) -> ScoreState:
    """Forget the norms of the epoch before; all rows must be up to date with ``step``."""
    if scores.kind != "mean_norm" or scores.total is None:
        return scores
    # A copy, because a training step donates both, and a buffer can be given away only once.
    return dataclasses.replace(scores, total=jnp.zeros_like(scores.total), since=jnp.copy(step))


def score_of_idle_steps(
    scores: ScoreState, rule: RowRule
) -> Callable[[IdleSteps], jax.Array] | None:
    """What idle steps add to the score of each row, float32 ``[R]``; None for nothing.

    Args:
      scores: before them; only its kind matters.
      rule: by which rows are updated.
    """

    def norms(idle: IdleSteps) -> jax.Array:
        return sum_of_idle_norms(
            rule, idle.found, idle.after, idle.steps, idle.visits, scores.order
        )

    return norms if scores.kind == "mean_norm" else None


def score_of_step(scores: ScoreState) -> Callable[[RowStep], jax.Array] | None:
    """What a step adds to the score of each row that it reads, float32 ``[R]``; None for nothing.

    Of ``scores``, as they are before the step, only the kind matters.
    """

    def norm(step: RowStep) -> jax.Array:
        return row_norm(step.after, scores.order)

    def taylor(step: RowStep) -> jax.Array:
        return jnp.abs(jnp.sum(step.gradient * step.value, axis=-1))

    return {"mean_norm": norm, "taylor": taylor}.get(scores.kind)


def after_step(
    scores: ScoreState, rows: jax.Array | None, reads: jax.Array, terms: jax.Array | None
) -> ScoreState:
    """Gather from a step.

    Args:
      scores: before the step.
      rows: int32 ``[R]``, the distinct rows of the step, out of range where unused; None for all
        rows of the table in order.
      reads: int32 ``[R]``, ids that read each.
      terms: float32 ``[R]``, of :func:`score_of_idle_steps` and :func:`score_of_step`.
    """

    def add(whole: jax.Array, term: jax.Array) -> jax.Array:
        if rows is None:
            return whole + term
        return whole.at[rows].add(term, mode="drop", unique_indices=True)

    total = scores.total
    if total is not None and terms is not None:
        total = add(total, terms)
    return dataclasses.replace(scores, reads=add(scores.reads, reads), total=total)


def sum_of_idle_norms(
    rule: RowRule,
    before: MomentRows,
    after: jax.Array,
    steps: jax.Array,
    visits: jax.Array | None,
    order: int,
) -> jax.Array:
    """A row's norms after each of its idle steps, summed, without taking them.

    Exact where idle rows stand still or shrink (``group_lasso``); under the other decays the norm
    is taken to change evenly from ``before`` to ``after``.

    Args:
      rule: the rule.
      before: rows float ``[R, D]`` with their moments.
      after: float ``[R, D]``, after the idle steps.
      steps: int32 ``[R]``, how many.
      visits: int32 ``[R]``; only read where they are counted.
      order: of the norm, 1 or 2.

    Returns:
      float32 ``[R]``.
    """
    norm = row_norm(before.value, order)
    count = steps.astype(jnp.float32)
    if rule.shrinks:
        share, ridge = lasso_share(rule, before, visits), ridge_per_step(rule, before, visits)
        return norm * sum_of_left(share, ridge, steps)
    change = row_norm(after, order) - norm
    return jnp.where(steps > 0, count * norm + change * (count + 1) / 2, 0.0)


def row_scores(
    scores: ScoreState,
    table_rows: jax.Array,
    fields: Fields,
    step: int,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """The score of each row, float64 ``[V]``; higher is kept first.

    Args:
      scores: after training, up to date.
      table_rows: float ``[V, D]``, up to date.
      fields: the data set's fields.
      step: steps taken.
      weights: float ``[V]``, what the training rows that read each row weigh; None where all count
        alike.
    """
    reads = np.asarray(scores.reads, np.float64)
    if weights is not None:
        reads = np.where(reads > 0, weights, 0.0)
    if scores.kind == "frequency":
        return reads
    if scores.kind == "frequency_per_field":
        return _share_of_field_below(reads, fields)
    if scores.kind == "norm":
        norm = functools.partial(row_norm, order=scores.order)
        value = by_block(norm, table_rows).astype(np.float64)
    else:
        value = np.asarray(scores.total, np.float64)
        if scores.kind == "mean_norm":
            value = value / max(step - int(scores.since), 1)
    return np.where(reads > 0, value, 0.0)


def with_memory(
    scores: np.ndarray, before: np.ndarray, source: np.ndarray, memory: float
) -> np.ndarray:
    """The mean of scores now and of an earlier training, float64 ``[V]``.

    Both are shares of what all rows score, so that a day of few steps counts as one of many. Where
    the earlier ones are such a mean, too, what a row scored ``n`` trainings ago counts by
    ``memory**n``: of rows that scored alike, those go first that were not read for longer.

    Args:
      scores: float64 ``[V]`` at least 0, of this training.
      before: float ``[W]`` at least 0, of the one before.
      source: int ``[V]``, each row's number there; -1 of new ones, which scored nothing.
      memory: what the earlier ones count, in [0, 1); those of now count the rest.
    """

    def share(values: np.ndarray) -> np.ndarray:
        return values / max(float(values.sum()), np.finfo(np.float64).tiny)

    carried = np.where(source < 0, 0.0, share(before)[np.maximum(source, 0)])
    return (1 - memory) * share(scores) + memory * carried


def keep_best(scores: np.ndarray, count: int) -> np.ndarray:
    """Mask of exactly the ``count`` best rows, bool ``[V]``.

    Rows of equal score (many, where it is a frequency) are taken in an order that is arbitrary but
    fixed: by row number, the first fields would get them all.

    Args:
      scores: numbers ``[V]`` of any dtype, higher is better: compared as float64. Infinities are
        kept before, or after, all other rows.
      count: rows to keep, 0..``V``.

    Raises:
      InputError: scores that are no numbers or not ``[V]``, or another count.
    """
    order = _best_first(scores)
    mask = np.zeros(len(order), bool)
    mask[order[: _checked_count(count, len(order))]] = True
    return mask


def keep_within(
    scores: np.ndarray, least: int, most: int, fits: Callable[[np.ndarray], bool]
) -> np.ndarray:
    """Mask of the best rows, bool ``[V]``: as many as fit, taken to fit up to some number.

    Args:
      scores: as of :func:`keep_best`.
      least: rows that are kept in any case, whether they fit or not.
      most: rows that are kept at most, 0..``V``.
      fits: whether what a mask keeps does; asked some ``log2 V`` times.
    """
    order = _best_first(scores)
    most = _checked_count(most, len(order))

    def best(count: int) -> np.ndarray:
        mask = np.zeros(len(order), bool)
        mask[order[:count]] = True
        return mask

    low, high = min(least, most), most
    if fits(best(high)):
        return best(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(best(middle)) else (low, middle)
    return best(low)


def kept_by_frequency(counts: np.ndarray, mask: np.ndarray) -> list[dict[str, object]]:
    """Of the rows seen 0, 1, 2-9, 10-99 and 100+ times, how many are kept.

    Args:
      counts: int ``[V]``, occurrences in the training split.
      mask: bool ``[V]``, rows kept.

    Returns:
      One record per band: ``seen``, ``rows``, ``rows_kept``.
    """
    records: list[dict[str, object]] = []
    for low, high in FREQUENCY_BANDS:
        band = (counts >= low) if high is None else (counts >= low) & (counts <= high)
        name = f"{low}+" if high is None else str(low) if low == high else f"{low}-{high}"
        records.append(
            {"seen": name, "rows": int(band.sum()), "rows_kept": int((band & mask).sum())}
        )
    return records


def _share_of_field_below(reads: np.ndarray, fields: Fields) -> np.ndarray:
    """Share of its field's rows that come after each row, so that one cut suits every field."""
    share = np.empty(len(reads))
    ties = _tie_breaks(len(reads))
    for offset, size in zip(fields.offsets, fields.sizes, strict=True):
        block = slice(offset, offset + size)
        order = np.lexsort((-ties[block], reads[block]))
        share[offset + order] = (np.arange(size) + 0.5) / size
    return share


def _best_first(scores: Any) -> np.ndarray:
    """All rows, that of the highest score first, int64 ``[V]``."""
    try:
        numbers = np.asarray(scores, np.float64)  # Unsigned ones would wrap when negated.
    except (TypeError, ValueError) as error:
        raise InputError(f"scores must be numbers [V], one of each row: {error}") from error
    if numbers.ndim != 1:
        raise InputError(f"scores have shape {list(numbers.shape)}; one of each row is wanted, [V]")
    unknown = np.flatnonzero(np.isnan(numbers))
    if len(unknown):
        raise InputError(
            f"the score of row {unknown[0]:,} is not a number, as are {len(unknown):,} of "
            f"{len(numbers):,}; a number is wanted of each"
        )
    return np.lexsort((_tie_breaks(len(numbers)), -numbers))


def _checked_count(count: Any, rows: int) -> int:
    try:
        number = operator.index(count)
    except TypeError as error:
        raise InputError(f"rows to keep must be an integer in 0..{rows}, not {count!r}") from error
    if not 0 <= number <= rows:
        raise InputError(f"rows to keep must be in 0..{rows}, not {number}")
    return number


def _tie_breaks(rows: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(rows)
