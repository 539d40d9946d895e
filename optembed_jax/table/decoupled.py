"""Idle steps under AdamW: zero gradients, any number of them in closed form.

Idle step ``j`` moves a weight by ``mu / sqrt(nu) * r**j * a(last + j)``, ``r`` and ``a`` of Adam's
constants, and shrinks what was there before by ``q = 1 - lr * l2``. The sum of ``k`` such steps is
a difference of two tails of the infinite sum, and a tail depends on its first step alone: one table
serves. Epsilon is taken as it is at the first idle step. Without a first moment nothing drifts.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.table.moments import BETA1, BETA2, EPSILON, MomentRows, per_row, power

_RATIO = BETA1 / BETA2**0.5
_SETTLED = 20_000  # 0.999 ** 20_000 is 2e-9: from there on Adam's corrections are 1 in float32.


def idle_decoupled(
    rows: MomentRows, steps: jax.Array, last: jax.Array, *, lr: float, l2: float
) -> MomentRows:
    """Rows after idle steps.

    Args:
      rows: as they were after step ``last``.
      steps: int32 ``[R]``, how many, at least 0.
      last: int32 ``[R]``, the step that each row is at.
      lr: learning rate.
      l2: weight of the decay, ``lr * l2`` below 0.09.
    """
    # Not a power of ``1 - lr * l2``, which in float32 may be no different from 1.
    shrunk = jnp.exp(steps * jnp.float32(np.log1p(-lr * l2)))
    value = per_row(shrunk, rows.value) * rows.value
    if rows.mu is None:
        return dataclasses.replace(rows, value=value)
    kept = 1 - lr * l2
    tails = jnp.asarray(_decoupled_tails(kept))

    def tail(step: jax.Array) -> jax.Array:
        return tails[jnp.minimum(step, _SETTLED)]

    drift = shrunk * (tail(last) - power(_RATIO / kept, steps) * tail(last + steps))
    epsilon = EPSILON * jnp.sqrt(1 - power(BETA2, last + 1))
    scale = jnp.sqrt(rows.nu) + per_row(epsilon, rows.nu)
    return dataclasses.replace(
        rows,
        value=value - lr * per_row(drift, value) * (rows.mu / per_row(scale, rows.mu)),
        mu=per_row(power(BETA1, steps), rows.mu) * rows.mu,
        nu=per_row(power(BETA2, steps), rows.nu) * rows.nu,
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
