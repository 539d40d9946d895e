"""How rows shrink under the decay ``group_lasso``, step by step or many steps at once: an elastic
net.

With ``h`` the root of the mean, over the columns that were ever read, of a row's corrected second
moment (Adam's own metric), every step ends with

    e <- e * max(1 - lr * group_lasso / (h * ||e||), 0) / (1 + lr * l2 / h)

a group soft-threshold, and what the proximal step of ``l2 / 2 * ||e||**2`` leaves of that. Where a
row neither grows nor shrinks, the mean gradient over all steps is ``-l2 * e``, as with the penalty
in the loss, but for what single columns' moments differ from their mean.

While a row is idle its ``h`` stands still, so that two numbers tell what any number of steps leaves
of it: ``share``, what the group lasso of the next step takes of the row as it is, and ``ridge``,
``lr * l2 / h``. One step leaves ``r <- max(r - share, 0) / (1 + ridge)`` of it, and ``k`` of them

    max(1 - (share + ridge) * p, 0),        p = (1 - q**k) / ridge,        q = 1 / (1 + ridge)

where ``p`` without ridge is ``k``.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

_NO_RIDGE = 1e-30  # Below it, 1 / ridge is no number to reckon with; it is 0 to any row.
_ALL = 1 - 1e-6  # As near to a whole row as rounding is to it: nothing is left.
_FEW = 0.03  # ridge * steps up to which a series is more exact than a difference.


def shrink(
    value: jax.Array, share: jax.Array, ridge: jax.Array | None, steps: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rows, and what the group lasso of one more step takes of them, after steps that read none of
    them.

    Args:
      value: ``[R, D]``, or ``[R]`` of linear weights.
      share: float32 ``[R]``, 0..1.
      ridge: float32 ``[R]``, at least 0; None without.
      steps: int32 ``[R]``, how many, at least 0.
    """
    if ridge is None:
        taken = steps * share
    else:
        gone = -jnp.expm1(steps * -jnp.log1p(ridge))
        taken = (share + ridge) * _where_ridge(ridge, lambda b: gone / b, steps)
        taken = jnp.where(taken < _ALL, taken, 1.0)
    left = jnp.maximum(1 - taken, 0.0)
    # Of what is left the same group lasso is a larger share; of nothing, all.
    grown = jnp.where(share > 0, jnp.minimum(share / jnp.maximum(left, 1e-30), 1.0), 0.0)
    taken = jnp.minimum(taken, 1.0)
    # What is taken of a row in one step can be less than the spacing of numbers below 1.
    return value - value * (taken if value.ndim == 1 else taken[:, None]), grown


def sum_of_left(share: jax.Array, ridge: jax.Array | None, steps: jax.Array) -> jax.Array:
    """What is left of a row after each of ``steps`` steps, summed up: float32 ``[R]``.

    The arguments are those of :func:`shrink`.
    """
    count, share = steps.astype(jnp.float32), jnp.maximum(share, 1e-30)
    if ridge is None:
        alive = jnp.minimum(count, jnp.floor(1 / share))
        return alive - share * alive * (alive + 1) / 2
    log_of_q = -jnp.log1p(ridge)
    # The last step that leaves something: q**k > share / (share + ridge).
    last = _where_ridge(ridge, lambda b: -jnp.log1p(b / share) / log_of_q, 1 / share)
    alive = jnp.minimum(count, jnp.floor(last))
    gone = _sum_of_gone(ridge, log_of_q, alive)
    return alive - ridge * gone - share * gone


def _sum_of_gone(ridge: jax.Array, log_of_q: jax.Array, steps: jax.Array) -> jax.Array:
    """``sum_{j=1..k} (1 - q**j) / ridge``, float32 ``[R]``."""
    pairs = steps * (steps + 1) / 2
    triples = pairs * (steps + 2) / 3
    few = pairs - ridge * triples + jnp.square(ridge) * triples * (steps + 3) / 4
    b = jnp.maximum(ridge, _FEW / jnp.maximum(steps, 1.0))
    many = (steps + jnp.expm1(steps * log_of_q) / b) / b
    return jnp.where(ridge * steps < _FEW, few, many)


def _where_ridge(
    ridge: jax.Array, function: Callable[[jax.Array], jax.Array], without: jax.Array
) -> jax.Array:
    """``function(ridge)``, and ``without`` where there is none to speak of."""
    there = ridge > _NO_RIDGE
    return jnp.where(there, function(jnp.where(there, ridge, 1.0)), without)
