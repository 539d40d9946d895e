"""The stand-in of a field: the row that is read by whatever has no row of its own.

That is the field's OOV row (the first of its block): values never seen read it, those below
``min_count``, and with ``mode_oov=shared`` those that are pruned as well. Where hardly a row of the
training data reads it, training leaves it at its initial values, which say nothing but the seed:
then it becomes the mean of the field, weighted by how often each row was read, or by what the rows
weigh that did; and where some hundred rows read it, it lies between the two. A departure from the
paper, which does not say what a new value reads.
"""

import dataclasses
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table

SELDOM = 30
"""Training rows; with fewer, an epoch moves a row less than its initial values are apart."""

OFTEN = 1000
"""Training rows; with as many, what a stand-in has learned is left as it is."""

_MEAN_COUNTS = 100
"""Rows beyond SELDOM that count as much as the mean of the field. With 64 reads of a stand-in the
score of a new user varied more by the seed (.049) than that of any known one (.044)."""


def always_kept(scores: np.ndarray, fields: Fields) -> np.ndarray:
    """Scores float ``[V]`` under which the stand-ins are kept before all other rows."""
    raised = np.array(scores, np.float64)
    raised[fields.oov_ids] = np.inf
    return raised


def check_kept(rows: np.ndarray, fields: Fields) -> None:
    """Raises InputError unless a row mask bool ``[V]`` keeps every field's stand-in."""
    missing = np.flatnonzero(~rows[fields.oov_ids])
    if len(missing):
        raise InputError(
            f"the row mask prunes the OOV row of field {fields.names[missing[0]]!r}, which its "
            "pruned values are to read; keep it, or use mode_oov=zero or oov"
        )


def reads(counts: np.ndarray, fields: Fields, rows: np.ndarray | None) -> np.ndarray:
    """Training rows that read each stand-in, int64 ``[F]``.

    Args:
      counts: int ``[V]``, training rows that had each value.
      fields: the data set's fields.
      rows: bool ``[V]``, rows kept, where pruned values read the stand-in; None where they do not.
    """
    own = counts[fields.oov_ids].astype(np.int64)
    if rows is None:
        return own
    return own + np.bincount(
        fields.field_of_row, np.where(rows, 0, counts), minlength=fields.num_fields
    ).astype(np.int64)


def reckoned(
    table: Table,
    fields: Fields,
    counts: np.ndarray,
    rows: np.ndarray | None = None,
    *,
    is_shared: bool = False,
    weights: np.ndarray | None = None,
) -> Table:
    """A trained table whose stand-ins are drawn to the mean of their field, if hardly read at all.

    Of ``n`` reads beyond ``SELDOM`` the row counts ``n / (n + 100)``, below that nothing.

    Args:
      table: trained, full, up to date.
      fields: the data set's fields.
      counts: int ``[V]``, training rows that had each value.
      rows: bool ``[V]``, rows kept, which the mean is taken over; None keeps all.
      is_shared: whether pruned values read the stand-in, and trained it.
      weights: float ``[V]``, what those training rows weigh; None: as much as they are.

    Returns:
      The table; the same object where nothing is to be changed.
    """
    kept = np.ones(fields.num_features, bool) if rows is None else np.asarray(rows) != 0
    read = reads(counts, fields, kept if is_shared else None)
    beyond = np.maximum(read - SELDOM, 0)
    shares = np.where(kept, counts if weights is None else weights, 0)
    has_others = np.bincount(fields.field_of_row, shares, minlength=fields.num_fields) > 0
    chosen = (read < OFTEN) & kept[fields.oov_ids] & has_others
    return _with_means(table, fields, shares, chosen, beyond / (beyond + _MEAN_COUNTS))


def cut(
    table: Table,
    fields: Fields,
    counts: np.ndarray,
    rows: np.ndarray,
    *,
    prunes_linear: bool,
    weights: np.ndarray | None = None,
) -> Table:
    """A table that was trained with all rows, its pruned ones replaced by their field's stand-in.

    That is the mean of what reads it from now on, weighted by counts; where that is seldom read, of
    the field. Without a mask, the result gives what the kept rows and the stand-ins give.

    Args:
      table: trained, full, up to date.
      fields: the data set's fields.
      counts: int ``[V]``, training rows that had each value.
      rows: bool ``[V]``, rows kept, the stand-ins among them.
      prunes_linear: whether pruned values read the stand-in's linear weight too.
      weights: as of :func:`reckoned`.
    """
    kept = np.asarray(rows) != 0
    check_kept(kept, fields)
    is_reader = ~kept
    is_reader[fields.oov_ids] = True
    often = reads(counts, fields, kept) >= SELDOM
    # Of seldom read stand-ins all rows count, of the others those that read them.
    own = counts if weights is None else weights
    shares = np.where(is_reader | ~often[fields.field_of_row], own, 0)
    has_any = np.bincount(fields.field_of_row, shares, minlength=fields.num_fields) > 0
    return folded(_with_means(table, fields, shares, has_any), fields, kept, prunes_linear)


def _with_means(
    table: Table,
    fields: Fields,
    weights: np.ndarray,
    chosen: np.ndarray,
    own: np.ndarray | None = None,
) -> Table:
    """The weighted means of some fields in their first rows; these count ``own``, ``[F]``."""
    if not chosen.any():
        return table
    numbers = np.flatnonzero(chosen)
    places = fields.oov_ids[numbers]

    def with_means(whole: Any) -> Any:
        means = []
        for number in numbers:
            block = slice(fields.offsets[number], fields.offsets[number] + fields.sizes[number])
            weight = weights[block].astype(np.float64)
            rows = np.asarray(whole[block], np.float64)
            mean, share = weight @ rows / weight.sum(), 0.0 if own is None else own[number]
            means.append(share * rows[0] + (1 - share) * mean)
        return _written(whole, places, np.stack(means).astype(np.float32))

    linear = None if table.linear is None else with_means(table.linear)
    return dataclasses.replace(table, rows=with_means(table.rows), linear=linear)


def folded(table: Table, fields: Fields, rows: np.ndarray, prunes_linear: bool) -> Table:
    """A table with the OOV row of each field in the place of those of its rows that are pruned.

    Without a mask, it gives what ``mode_oov=shared`` promises with one.

    Args:
      table: full.
      fields: its fields.
      rows: bool ``[V]``, rows kept, the OOV rows among them.
      prunes_linear: whether pruned values read the OOV row's linear weight too.

    Raises:
      InputError: an OOV row is not kept.
    """
    kept = np.asarray(rows) != 0
    check_kept(kept, fields)
    pruned = np.flatnonzero(~kept)
    source = fields.oov_ids[fields.field_of_row[pruned]]

    def fold(whole: Any) -> Any:
        copied = np.array(whole)
        copied[pruned] = copied[source]
        return copied

    linear = table.linear
    if linear is not None and prunes_linear:
        linear = fold(linear)
    return dataclasses.replace(table, rows=fold(table.rows), linear=linear)


def _written(whole: Any, places: np.ndarray, values: np.ndarray) -> Any:
    """An array with rows replaced, where it stands: on its device, or on the host."""
    if isinstance(whole, np.ndarray):
        copied = whole.copy()
        copied[places] = values
        return copied
    return whole.at[places].set(values)
