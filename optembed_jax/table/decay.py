"""What a row of the table pays per step, visited or idle: Adam's step, and five kinds of decay.

A row is *visited* by a step when an example of the batch reads it, and *idle* otherwise. The rules
differ in what an idle row does; each has a form that takes many idle steps at once.

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
"""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.table.shrinkage import shrink

ROW_DECAYS = ("l2_coupled", "l2_visited", "decoupled", "group_lasso", "none")

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's constants, those of the reference and of ``optax.adam``."""

_RATIO = BETA1 / BETA2**0.5
_SETTLED = 20_000  # 0.999 ** 20_000 is 2e-9: from there on Adam's corrections are 1 in float32.


@dataclasses.dataclass(frozen=True)
class RowRule:
    """How rows are updated; hashable, static under jit.

    Attributes:
      decay: one of ``ROW_DECAYS``.
      lr: learning rate, above 0.
      l2: weight of the squared norm of rows, at least 0; ``none`` has no use for it.
      group_lasso: weight of the norm of rows under ``group_lasso``, at least 0.

    Raises:
      InputError: no such decay, or a decoupled one so strong that its closed form diverges
        (``lr * l2`` of 0.09 and more).
    """

    decay: str
    lr: float
    l2: float = 0.0
    group_lasso: float = 0.0

    def __post_init__(self) -> None:
        if self.decay not in ROW_DECAYS:
            raise InputError(
                f"row_decay must be one of {', '.join(ROW_DECAYS)}, not {self.decay!r}"
            )
        if self.decay == "decoupled" and self.lr * self.l2 >= 0.09:
            raise InputError(
                f"row_decay=decoupled needs lr * l2 below 0.09, not {self.lr} * {self.l2}"
            )

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
        """Adam alone, where moments are lazy: of what is no row, and pays nothing."""
        return RowRule("none", self.lr) if self.lazy_moments else self


@flax.struct.dataclass
class AdamRows:
    """Some rows with their moments.

    Attributes:
      value: float32 ``[R, D]``, or ``[R]`` of linear weights.
      mu: first moments, of the same shape.
      nu: second moments, of the same shape.
    """

    value: jax.Array
    mu: jax.Array
    nu: jax.Array


def visit(
    rule: RowRule, rows: AdamRows, gradient: jax.Array, step: jax.Array, visits: jax.Array | None
) -> AdamRows:
    """The step that visits these rows: Adam, and the decay of the same step.

    Args:
      rule: the rule.
      rows: as the step found them, all idle steps before it taken.
      gradient: of the loss, of the shape of ``rows.value``.
      step: int32 scalar, the number of this step, from 1.
      visits: int32 ``[R]``, visits of each row with this one; only read with lazy moments.
    """
    if rule.decay in ("l2_coupled", "l2_visited"):
        gradient = gradient + rule.l2 * rows.value
    mu = (1 - BETA1) * gradient + BETA1 * rows.mu
    nu = (1 - BETA2) * jnp.square(gradient) + BETA2 * rows.nu
    if rule.lazy_moments:
        assert visits is not None
        mu_start, nu_start = (_per_row(_start(beta, visits), mu) for beta in (BETA1, BETA2))
    else:
        # As Optax rounds it, to whose dense steps these have to be equal.
        mu_start, nu_start = 1 - _power(BETA1, step), 1 - _power(BETA2, step)
    update = (mu / mu_start) / (jnp.sqrt(nu / nu_start) + EPSILON)
    if rule.decay == "decoupled":
        update = update + rule.l2 * rows.value
    after = AdamRows(value=rows.value - rule.lr * update, mu=mu, nu=nu)
    if rule.shrinks:
        assert visits is not None
        return _shrunk(rule, after, jnp.ones_like(visits), visits)
    return after


def step_all(
    rule: RowRule,
    rows: AdamRows,
    gradient: jax.Array,
    step: jax.Array,
    is_read: jax.Array,
    visits: jax.Array | None,
) -> AdamRows:
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
    return jax.tree.map(lambda a, b: jnp.where(_per_row(is_read, a), a, b), visited, idled)


def idle(
    rule: RowRule,
    rows: AdamRows,
    steps: jax.Array,
    last: jax.Array,
    visits: jax.Array | None,
) -> AdamRows:
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
        assert visits is not None
        return _shrunk(rule, rows, steps, visits)
    if rule.decay == "decoupled":
        return _idle_decoupled(rule, rows, steps, last)
    if rule.decay == "l2_coupled":
        return _idle_l2_coupled(rule, rows, steps, last)
    return rows


def lasso_per_step(rule: RowRule, rows: AdamRows, visits: jax.Array) -> jax.Array:
    """What :func:`norm_read` of each row is lowered by in one step, float32 ``[R]``.

    ``lr * group_lasso / h``; 0 for a row that was never visited.
    """
    return _in_metric(rule.lr * rule.group_lasso, rows.nu, visits)


def lasso_share(rule: RowRule, rows: AdamRows, visits: jax.Array) -> jax.Array:
    """``share`` of ``shrinkage``: what one step's group lasso takes of each row, ``[R]``, 0..1."""
    # A norm of 0 with nothing owed, of a row that was never read, loses none of it.
    share = lasso_per_step(rule, rows, visits) / jnp.maximum(norm_read(rows), 1e-30)
    return jnp.minimum(share, 1.0)


def ridge_per_step(rule: RowRule, nu: jax.Array, visits: jax.Array) -> jax.Array | None:
    """``ridge`` of ``shrinkage``, ``lr * l2 / h``: float32 ``[R]``; None without L2.

    Args:
      rule: the rule.
      nu: second moments ``[R, D]``, or ``[R]`` of linear weights.
      visits: int32 ``[R]``; a row without any pays nothing.
    """
    return _in_metric(rule.lr * rule.l2, nu, visits) if rule.l2 > 0 else None


def _in_metric(weight: jax.Array | float, nu: jax.Array, visits: jax.Array) -> jax.Array:
    """``weight / h`` of each row, ``[R]``; 0 for one that was never visited."""
    mean = nu
    if nu.ndim == 2:
        mean = jnp.sum(nu, axis=-1) / jnp.maximum(jnp.sum(_was_read(nu), axis=-1), 1)
    h = jnp.sqrt(mean / _start(BETA2, jnp.maximum(visits, 1))) + EPSILON
    return jnp.where(visits > 0, weight / h, 0.0)


def norm_read(rows: AdamRows) -> jax.Array:
    """Euclidean norm of each row over the columns that were ever read, float32 ``[R]``.

    So a row under a mask of columns pays what it pays alone, and where dimensions are sampled, a
    row that few have read yet is judged by what they have read of it.
    """
    return euclidean(jnp.where(_was_read(rows.nu), rows.value, 0.0))


def _was_read(nu: jax.Array) -> jax.Array:
    """Which numbers ever had a gradient, bool: a second moment above the rounding of the row's."""
    largest = nu if nu.ndim == 1 else jnp.max(nu, axis=-1, keepdims=True)
    return nu > 1e-10 * largest


def euclidean(value: jax.Array) -> jax.Array:
    """Norm of each row, float ``[R]`` of ``[R, D]`` or ``[R]``."""
    return jnp.abs(value) if value.ndim == 1 else jnp.sqrt(jnp.sum(jnp.square(value), axis=-1))


def _shrunk(rule: RowRule, rows: AdamRows, steps: jax.Array, visits: jax.Array) -> AdamRows:
    share, ridge = lasso_share(rule, rows, visits), ridge_per_step(rule, rows.nu, visits)
    return dataclasses.replace(rows, value=shrink(rows.value, share, ridge, steps)[0])


def _idle_decoupled(rule: RowRule, rows: AdamRows, steps: jax.Array, last: jax.Array) -> AdamRows:
    """AdamW on zero gradients, summed up.

    Idle step ``j`` moves a weight by ``mu / sqrt(nu) * r**j * a(last + j)``, ``r`` and ``a`` from
    Adam's constants, and shrinks what was there before by ``q = 1 - lr * l2``. The sum of ``k``
    such steps is a difference of two tails of the infinite sum, and a tail depends on its first
    step alone: one table serves. Epsilon is taken as it is at the first idle step.
    """
    kept = 1 - rule.lr * rule.l2
    tails = jnp.asarray(_decoupled_tails(kept))

    def tail(step: jax.Array) -> jax.Array:
        return tails[jnp.minimum(step, _SETTLED)]

    # Not a power of ``kept``, which in float32 may be no different from 1.
    shrunk = jnp.exp(steps * jnp.float32(np.log1p(-rule.lr * rule.l2)))
    drift = shrunk * (tail(last) - _power(_RATIO / kept, steps) * tail(last + steps))
    epsilon = EPSILON * jnp.sqrt(1 - _power(BETA2, last + 1))
    direction = rows.mu / (jnp.sqrt(rows.nu) + _per_row(epsilon, rows.nu))
    value = _per_row(shrunk, rows.value) * rows.value
    return AdamRows(
        value=value - rule.lr * _per_row(drift, value) * direction,
        mu=_per_row(_power(BETA1, steps), rows.mu) * rows.mu,
        nu=_per_row(_power(BETA2, steps), rows.nu) * rows.nu,
    )


@functools.lru_cache(maxsize=32)
def _decoupled_tails(kept: float) -> np.ndarray:
    """``Z(l) = sum_{j>=1} (r / q)**j * a(l + j)`` for ``l`` = 0.._SETTLED, float32.

    ``a(t) = sqrt(1 - beta2**t) / (1 - beta1**t)``, and ``Z(l) = (r / q) * (a(l + 1) + Z(l + 1))``.
    """
    ratio = _RATIO / kept
    step = np.arange(1, _SETTLED + 1, dtype=np.float64)
    correction = np.sqrt(1 - BETA2**step) / (1 - BETA1**step)
    tails = np.empty(_SETTLED + 1)
    tails[-1] = ratio / (1 - ratio)
    for index in range(_SETTLED - 1, -1, -1):
        tails[index] = ratio * (correction[index] + tails[index + 1])
    return tails.astype(np.float32)


def _idle_l2_coupled(rule: RowRule, rows: AdamRows, steps: jax.Array, last: jax.Array) -> AdamRows:
    def one_step(done: jax.Array, rows: AdamRows) -> AdamRows:
        after = visit(
            rule,
            rows,
            jnp.zeros_like(rows.value),
            _per_row(last + done + 1, rows.value),
            None,
        )
        behind = _per_row(done < steps, rows.value)
        return jax.tree.map(lambda new, old: jnp.where(behind, new, old), after, rows)

    return jax.lax.fori_loop(0, jnp.max(steps, initial=0), one_step, rows)


def _start(beta: float, count: jax.Array) -> jax.Array:
    """``1 - beta**count``, without the 5e-5 that float32 loses of it where ``beta`` is 0.999."""
    return -jnp.expm1(count * jnp.float32(np.log(beta)))


def _power(base: float, exponent: jax.Array) -> jax.Array:
    return jnp.power(jnp.float32(base), exponent.astype(jnp.float32))


def _per_row(of_row: jax.Array, like: jax.Array) -> jax.Array:
    """``[R]`` made to broadcast against ``[R]`` or ``[R, D]``."""
    return of_row if of_row.ndim == like.ndim else of_row[:, None]
