"""What a row of the table pays per step, visited or idle: its optimiser's step, and five kinds of
decay.

A row is *visited* by a step when an example of the batch reads it, and *idle* otherwise. The rules
differ in what an idle row does; each has a form that takes many idle steps at once. They are
described here with Adam; ``moments`` has the optimisers.

===============  =========================================================================
``l2_coupled``   L2 in the gradient, ``g + l2 * e``, inside Adam (the reference). An idle row moves
                 towards zero by about ``lr`` per element and step, whatever the weight. No closed
                 form: the idle steps are carried out.
``l2_visited``   The same gradient, in the steps that read the row; an idle row stands still. A rare
                 row is held no tighter than a frequent one.
``decoupled``    AdamW (Loshchilov and Hutter, 2019): weights shrink by ``lr * l2`` and drift on
                 with the moments they have. Closed form.
``group_lasso``  Moments of an idle row stand still. Every step, the row's norm is lowered by
                 ``lr * group_lasso / h``, ``h`` being the root of its mean second moment: a group
                 soft-threshold in Adam's own metric; then the row is divided by
                 ``1 + lr * l2 / h``, the proximal step of ``l2 / 2 * ||e||**2`` in the same metric
                 (``shrinkage``). Closed form, exact. Norm and mean are those of the columns that
                 were ever read; the others shrink in proportion.
``none``         Idle rows stand still.
===============  =========================================================================

``l2_coupled`` and ``decoupled`` count all steps, as dense Adam does. With the others moments are
corrected for their start by the row's own number of visits, so that a row's first step is ``lr``
per element however late it comes, and ``h`` does not change while the row is idle. A row that was
never visited pays nothing under ``group_lasso``: there is no gradient to say what it is worth.

With row-wise moments, ``h`` is the root of the one second moment that a row has, under Adagrad of
its sum; ``l2_visited`` reaches the columns that the step reads; ``decoupled`` under Adagrad shrinks
idle rows and nothing more, for there is no first moment to drift with. ``l2_coupled`` is Adam's
alone: its idle steps follow no closed form.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.method.embedding import cut
from optembed_jax.table.decoupled import idle_decoupled
from optembed_jax.table.moments import (
    EPSILON,
    TABLE_OPTIMISERS,
    MomentRows,
    TableOptimiser,
    columns_read,
    per_row,
    power,
)
from optembed_jax.table.shrinkage import shrink

ROW_DECAYS = ("l2_coupled", "l2_visited", "decoupled", "group_lasso", "none")


@dataclasses.dataclass(frozen=True)
class RowRule:
    """How rows are updated; hashable, static under jit.

    Attributes:
      decay: one of ``ROW_DECAYS``.
      lr: learning rate, above 0.
      l2: weight of the squared norm of rows, at least 0; ``none`` has no use for it.
      group_lasso: weight of the norm of rows under ``group_lasso``, at least 0.
      optimiser: one of ``moments.TABLE_OPTIMISERS``.
      device: the kind that the steps are for, of ``device_form``, which decides how fast they are
        and nothing else; None: that of the first device.

    Raises:
      InputError: no such decay or optimiser, two that do not go together, or a decoupled decay so
        strong that its closed form diverges (``lr * l2`` of 0.09 and more).
    """

    decay: str
    lr: float
    l2: float = 0.0
    group_lasso: float = 0.0
    optimiser: str = "adam"
    device: str | None = None

    def __post_init__(self) -> None:
        if self.decay not in ROW_DECAYS:
            raise InputError(
                f"row_decay must be one of {', '.join(ROW_DECAYS)}, not {self.decay!r}"
            )
        if self.optimiser not in TABLE_OPTIMISERS:
            raise InputError(
                f"table_optimiser must be one of {', '.join(TABLE_OPTIMISERS)}, not "
                f"{self.optimiser!r}"
            )
        if self.decay == "l2_coupled" and self.moments.is_rowwise:
            raise InputError(
                f"row_decay=l2_coupled has no closed form of idle rows with table_optimiser="
                f"{self.optimiser}; use row_decay=group_lasso, l2_visited, decoupled or none, or "
                "table_optimiser=adam"
            )
        if self.decay == "decoupled" and self.lr * self.l2 >= 0.09:
            raise InputError(
                f"row_decay=decoupled needs lr * l2 below 0.09, not {self.lr} * {self.l2}"
            )

    @property
    def moments(self) -> TableOptimiser:
        """What is remembered of gradients."""
        return TABLE_OPTIMISERS[self.optimiser]

    @property
    def counts_visits(self) -> bool:
        """Whether the visits of each row have to be counted, to correct its moments."""
        return self.lazy_moments and self.moments.counts_visits

    @property
    def lazy_moments(self) -> bool:
        """Whether the moments of an idle row stand still."""
        return self.decay in ("l2_visited", "group_lasso", "none")

    @property
    def shrinks(self) -> bool:
        """Whether rows shrink in every step, as ``shrinkage`` has it."""
        return self.decay == "group_lasso"

    @property
    def free(self) -> "RowRule":
        """The optimiser alone, where moments are lazy: of what is no row, and pays nothing."""
        if not self.lazy_moments:
            return self
        return RowRule("none", self.lr, optimiser=self.optimiser, device=self.device)


def visit(
    rule: RowRule, rows: MomentRows, gradient: jax.Array, step: jax.Array, visits: jax.Array | None
) -> MomentRows:
    """The step that visits these rows: the optimiser's, and the decay of the same step.

    Args:
      rule: the rule.
      rows: as the step found them, all idle steps before it taken.
      gradient: of the loss, of the shape of ``rows.value``.
      step: int32 scalar, the number of this step, from 1.
      visits: int32 ``[R]``, visits of each row with this one; only read where they are counted.
    """
    if rule.decay in ("l2_coupled", "l2_visited"):
        gradient = gradient + rule.l2 * _read_now(rule, rows.value, gradient)

    def correction(beta: float, moments: jax.Array) -> jax.Array:
        if rule.lazy_moments:
            assert visits is not None
            return per_row(_start(beta, visits), moments)
        if rule.moments.is_rowwise:
            return _start(beta, step)
        # As Optax rounds it, to whose dense steps these have to be equal.
        return 1 - power(beta, step)

    update, after = rule.moments.step(rows, gradient, correction)
    if rule.decay == "decoupled":
        update = update + rule.l2 * rows.value
    after = dataclasses.replace(after, value=rows.value - rule.lr * update)
    if rule.shrinks:
        return _shrunk(rule, after, jnp.ones(after.value.shape[:1], jnp.int32), visits)
    return after


def _read_now(rule: RowRule, value: jax.Array, gradient: jax.Array) -> jax.Array:
    """What of the rows L2 in the gradient reaches: all, or where moments are row-wise the columns
    that the step reads, so that the others are no part of the mean.
    """
    if not rule.moments.is_rowwise or value.ndim == 1:
        return value
    return cut(value, columns_read(gradient))


def step_all(
    rule: RowRule,
    rows: MomentRows,
    gradient: jax.Array,
    step: jax.Array,
    is_read: jax.Array,
    visits: jax.Array | None,
) -> MomentRows:
    """One step of all rows, the dense form: those that are read are visited, the others idle.

    Args:
      rule: the rule.
      rows: after the step before.
      gradient: of the loss, of the shape of ``rows.value``; zeros where nobody reads.
      step: int32 scalar, the number of this step, from 1.
      is_read: bool ``[R]``; only looked at with lazy moments, the other rules take an idle step
        as a visit without gradient.
      visits: as of :func:`visit`.
    """
    visited = visit(rule, rows, gradient, step, visits)
    if not rule.lazy_moments:
        return visited
    once = jnp.ones(is_read.shape, jnp.int32)
    idled = idle(rule, rows, once, step - once, visits)
    return jax.tree.map(lambda a, b: jnp.where(per_row(is_read, a), a, b), visited, idled)


def idle(
    rule: RowRule,
    rows: MomentRows,
    steps: jax.Array,
    last: jax.Array,
    visits: jax.Array | None,
) -> MomentRows:
    """Idle steps, as many as each row is behind.

    Args:
      rule: the rule.
      rows: as they were after step ``last``.
      steps: int32 ``[R]``, idle steps to take, at least 0. With ``l2_coupled`` the time is
        proportional to the largest.
      last: int32 ``[R]``, the step that each row is at.
      visits: int32 ``[R]``, visits of each row; only read with lazy moments.
    """
    if rule.shrinks:
        return _shrunk(rule, rows, steps, visits)
    if rule.decay == "decoupled":
        return idle_decoupled(rows, steps, last, lr=rule.lr, l2=rule.l2)
    if rule.decay == "l2_coupled":
        return _idle_l2_coupled(rule, rows, steps, last)
    return rows


def lasso_per_step(rule: RowRule, rows: MomentRows, visits: jax.Array | None) -> jax.Array:
    """What :func:`norm_read` of each row is lowered by in one step, float32 ``[R]``.

    ``lr * group_lasso / h``; 0 for a row that was never visited.
    """
    return _in_metric(rule, rule.lr * rule.group_lasso, rows, visits)


def lasso_share(rule: RowRule, rows: MomentRows, visits: jax.Array | None) -> jax.Array:
    """``share`` of ``shrinkage``: what one step's group lasso takes of each row, ``[R]``, 0..1."""
    # A norm of 0 with nothing owed, of a row that was never read, loses none of it.
    share = lasso_per_step(rule, rows, visits) / jnp.maximum(norm_read(rule, rows), 1e-30)
    return jnp.minimum(share, 1.0)


def ridge_per_step(rule: RowRule, rows: MomentRows, visits: jax.Array | None) -> jax.Array | None:
    """``ridge`` of ``shrinkage``, ``lr * l2 / h``: float32 ``[R]``; None without L2.

    Args:
      rule: the rule.
      rows: of which only the moments matter.
      visits: int32 ``[R]``, where they are counted; a row without any pays nothing.
    """
    return _in_metric(rule, rule.lr * rule.l2, rows, visits) if rule.l2 > 0 else None


def _in_metric(
    rule: RowRule, weight: jax.Array | float, rows: MomentRows, visits: jax.Array | None
) -> jax.Array:
    """``weight / h`` of each row, ``[R]``; 0 for one that was never visited."""

    def correction(beta: float, moments: jax.Array) -> jax.Array:
        assert visits is not None
        return per_row(_start(beta, jnp.maximum(visits, 1)), moments)

    square = rule.moments.mean_square(rows, correction)
    was_visited = square > 0 if visits is None else visits > 0
    return jnp.where(was_visited, weight / (jnp.sqrt(square) + EPSILON), 0.0)


def norm_read(rule: RowRule, rows: MomentRows) -> jax.Array:
    """Euclidean norm of each row over the columns that were ever read, float32 ``[R]``.

    So a row under a mask of columns pays what it pays alone, and where dimensions are sampled, a
    row that few have read yet is judged by what they have read of it.
    """
    return euclidean(rule.moments.read_part(rows))


def euclidean(value: jax.Array) -> jax.Array:
    """Norm of each row, float ``[R]`` of ``[R, D]`` or ``[R]``."""
    return jnp.abs(value) if value.ndim == 1 else jnp.sqrt(jnp.sum(jnp.square(value), axis=-1))


def _shrunk(
    rule: RowRule, rows: MomentRows, steps: jax.Array, visits: jax.Array | None
) -> MomentRows:
    share, ridge = lasso_share(rule, rows, visits), ridge_per_step(rule, rows, visits)
    return dataclasses.replace(rows, value=shrink(rows.value, share, ridge, steps)[0])


def _idle_l2_coupled(
    rule: RowRule, rows: MomentRows, steps: jax.Array, last: jax.Array
) -> MomentRows:
    def one_step(done: jax.Array, rows: MomentRows) -> MomentRows:
        after = visit(
            rule,
            rows,
            jnp.zeros_like(rows.value),
            per_row(last + done + 1, rows.value),
            None,
        )
        behind = per_row(done < steps, rows.value)
        return jax.tree.map(lambda new, old: jnp.where(behind, new, old), after, rows)

    return jax.lax.fori_loop(0, jnp.max(steps, initial=0), one_step, rows)


def _start(beta: float, count: jax.Array) -> jax.Array:
    """``1 - beta**count``, without the 5e-5 that float32 loses of it where ``beta`` is 0.999."""
    return -jnp.expm1(count * jnp.float32(np.log(beta)))
