"""Bring rows that were idle up to date: those of a batch, or the table, block by block, in place.

A ``Table`` stands here for its embeddings and its linear weights, or for their moments; its OOV
vectors belong to no row and are passed on as they are.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax.method.embedding import Table
from optembed_jax.table.decay import RowRule, idle, lasso_share, ridge_per_step
from optembed_jax.table.device_form import rows_at_once, swept_at_once
from optembed_jax.table.moments import MomentRows
from optembed_jax.table.shrinkage import shrink
from optembed_jax.table.stochastic_rounding import SWEPT, kept_as, widened

_CACHED_ROWS = 256  # With their moments, they fit a core's cache while idle steps are taken.
_NUMBERS = 8  # As cheap as a row, where a table has but one number in each.
_BLOCK_ROWS = 2048  # Few enough for a core's cache, enough for a loop's overhead not to show.


@flax.struct.dataclass
class DatedRows:
    """Rows, each as it was after a step of its own.

    Attributes:
      value: embeddings ``[R, D]`` and linear weights ``[R]``.
      mu: their first moments; of None where the optimiser has none.
      nu: their second moments, row-wise ``[R]`` of embeddings too.
      last: int32 ``[R]``, the step that each row is up to date with.
      visits: int32 ``[R]``, steps that read the row; None where the rule does not ask for it.
      share: of ``shrinkage``, of each row and of each linear weight, float32 ``[R]``, so that
        an idle row's moments need not be read; None where rows do not shrink, and in a dense state.
      ridge: likewise; None without L2, too.
      columns: of ``MomentRows``, of the embeddings.
    """

    value: Table
    mu: Table
    nu: Table
    last: jax.Array
    visits: jax.Array | None
    share: Table | None
    ridge: Table | None = None
    columns: jax.Array | None = None

    def groups(self) -> tuple[MomentRows, MomentRows | None]:
        """Embeddings and linear weights, with their moments."""
        of_rows = MomentRows(self.value.rows, self.mu.rows, self.nu.rows, self.columns)
        if self.value.linear is None:
            return of_rows, None
        assert self.nu.linear is not None
        return of_rows, MomentRows(self.value.linear, self.mu.linear, self.nu.linear)


def catch_up(rule: RowRule, rows: DatedRows, step: jax.Array) -> DatedRows:
    """The rows after ``step`` (int32 scalar), those that are later left as they are.

    Meant for :func:`block_of` rows at a time.
    """
    steps = jnp.maximum(step - rows.last, 0)
    # Of the old value, not the step alone, so that XLA reads it before it writes in its place.
    last = jnp.maximum(rows.last, step)
    if rule.lazy_moments:
        value, share = pay(rows.value, rows.share, rows.ridge, steps)
        return dataclasses.replace(rows, value=value, share=share, last=last)
    idled = per_group(lambda group: idle(rule, group, steps, rows.last, rows.visits), rows)
    return dataclasses.replace(idled, last=last)


def pay(
    value: Table, share: Table | None, ridge: Table | None, steps: jax.Array
) -> tuple[Table, Table | None]:
    """Rows whose moments stand still, and their shares, after idle steps.

    Args:
      value: embeddings ``[R, D]`` and linear weights ``[R]``.
      share: of ``DatedRows``; None where nothing is to be paid.
      ridge: of ``DatedRows``.
      steps: int32 ``[R]``, how many, at least 0.
    """
    if share is None:
        return value, None
    ridge_of_rows, ridge_of_linear = (None, None) if ridge is None else (ridge.rows, ridge.linear)
    rows, share_of_rows = shrink(value.rows, share.rows, ridge_of_rows, steps)
    linear = share_of_linear = None
    if value.linear is not None and share.linear is not None:
        linear, share_of_linear = shrink(value.linear, share.linear, ridge_of_linear, steps)
    return Table(rows, linear, value.oov), Table(share_of_rows, share_of_linear)


def shares(rule: RowRule, rows: DatedRows) -> Table | None:
    """``DatedRows.share`` of rows with these moments; None where rows do not shrink."""
    if not rule.shrinks:
        return None
    return _of_groups(lambda group: lasso_share(rule, group, rows.visits), rows)


def ridges(rule: RowRule, rows: DatedRows) -> Table | None:
    """``DatedRows.ridge`` of rows with these moments; None without any."""
    if not rule.shrinks or not rule.l2:
        return None
    return _of_groups(lambda group: ridge_per_step(rule, group, rows.visits), rows)


def _of_groups(number: Callable[[MomentRows], Any], rows: DatedRows) -> Table:
    """A number for each row, and for each linear weight."""
    of_rows, of_linear = rows.groups()
    return Table(number(of_rows), None if of_linear is None else number(of_linear))


def sweep(
    rule: RowRule, rows: DatedRows, step: jax.Array, first: jax.Array | int, blocks: int
) -> DatedRows:
    """Bring a part of the whole table up to date, in place where ``rows`` are donated.

    Args:
      rule: the rule.
      rows: all ``V`` of them.
      step: int32 scalar, the step that they are brought up to date with.
      first: number of the part's first block, of :func:`swept_block_of` rows. A block that would
        reach behind the table is moved back, onto rows that are up to date and stay as they are.
      blocks: of the part.
    """
    size = swept_block_of(rule, rows.last.shape[0], rows.value.rows)

    def one_block(index: jax.Array, rows: DatedRows) -> DatedRows:
        start = (first + index) * size

        def read(whole: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(whole, start, size)

        def write(whole: jax.Array, part: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice_in_dim(whole, part, start, 0)

        def caught_up(block: DatedRows) -> DatedRows:
            wide = dataclasses.replace(block, value=widened(block.value))
            after = catch_up(rule, wide, step)
            value = kept_as(block.value, after.value, step, SWEPT, start)
            return dataclasses.replace(after, value=value)

        found = jax.tree.map(read, rows)
        # Without the branch XLA reads the whole arrays on, past the writing, and so copies them.
        done = jax.lax.cond(
            jnp.any(found.last < step),
            caught_up,
            lambda block: block,
            found,
        )
        changed = ["value", "share", "last", *(() if rule.lazy_moments else ("mu", "nu"))]
        return dataclasses.replace(
            rows,
            **{
                name: jax.tree.map(write, getattr(rows, name), getattr(done, name))
                for name in changed
            },
        )

    return with_oov_of(rows, jax.lax.fori_loop(0, blocks, one_block, without_oov(rows)))


def block_of(rule: RowRule, rows: int, whole: jax.Array | None = None) -> int:
    """Rows of a batch to work on at once, of ``rows``: on a CPU as many as stay in cache.

    Of an array ``whole`` of single numbers, ``[V]``, those are more.
    """
    return min(rows_at_once(rule.device, _in_cache(rule)) * numbers_for_a_row(whole), rows)


def swept_block_of(rule: RowRule, rows: int, whole: jax.Array | None = None) -> int:
    """Likewise, of a whole table of ``rows``."""
    return min(swept_at_once(rule.device, _in_cache(rule)) * numbers_for_a_row(whole), rows)


def _in_cache(rule: RowRule) -> int:
    return _CACHED_ROWS if rule.decay == "l2_coupled" else _BLOCK_ROWS


def numbers_for_a_row(whole: jax.Array | None) -> int:
    """Single numbers that are worked on where otherwise a row is; 1 of an array of rows."""
    return _NUMBERS if whole is not None and whole.ndim == 1 else 1


def per_group(function: Callable[..., MomentRows], rows: DatedRows, *others: Table) -> DatedRows:
    """A function of embeddings and of linear weights, each with those of other tables."""
    of_rows, of_linear = rows.groups()
    embeddings = function(of_rows, *(table.rows for table in others))
    linear = None
    if of_linear is not None:
        linear = function(of_linear, *(table.linear for table in others))

    def part(name: str, of: Table) -> Table:
        return Table(
            rows=getattr(embeddings, name),
            linear=None if linear is None else getattr(linear, name),
            oov=of.oov,
        )

    return dataclasses.replace(
        rows,
        value=part("value", rows.value),
        mu=part("mu", rows.mu),
        nu=part("nu", rows.nu),
        columns=embeddings.columns,
    )


def without_oov(rows: DatedRows) -> DatedRows:
    """The rows alone."""
    value, mu, nu = (dataclasses.replace(t, oov=None) for t in (rows.value, rows.mu, rows.nu))
    return dataclasses.replace(rows, value=value, mu=mu, nu=nu)


def with_oov_of(old: DatedRows, rows: DatedRows) -> DatedRows:
    """The rows, with the OOV vectors of others."""
    value, mu, nu = (
        dataclasses.replace(new, oov=before.oov)
        for new, before in zip(
            (rows.value, rows.mu, rows.nu), (old.value, old.mu, old.nu), strict=True
        )
    )
    return dataclasses.replace(rows, value=value, mu=mu, nu=nu)
