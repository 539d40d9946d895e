"""What the table's optimiser remembers of a row's gradients, and the direction it steps in.

===================  ========================  ==================================================
``adam``             2 numbers a number        Adam (Kingma and Ba, 2015): first and second moment
                                               of each number.
``rowwise_adam``     1 a number, 1 a row       the second moment is one number a row: that of the
                                               mean square of the gradient's columns.
``rowwise_adagrad``  1 a row                   Adagrad (Duchi et al., 2011) with the sum of those
                                               mean squares; no first moment.
===================  ========================  ==================================================

Both row-wise forms are those of FBGEMM's tables (``PARTIAL_ROWWISE_ADAM``,
``EXACT_ROWWISE_ADAGRAD``), with one departure: the mean is over the columns that the step read, not
over all. Ids read a prefix of their row's columns, behind which gradients are zeros; so a row that
is masked to its first columns steps as the same row does in a compact table. Beside the moments
each row keeps how many columns were ever read of it (``columns``), by which ``group_lasso`` knows
what to judge it by; under ``adam`` the second moments tell.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax.method.dimension import prefix_mask

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's constants, those of the reference and of ``optax.adam``."""

Correction = Callable[[float, jax.Array], jax.Array]
"""``(beta, moments)``: how much of its weight a moment has by now, ``1 - beta**steps``, shaped to
divide the moments."""


@flax.struct.dataclass
class MomentRows:
    """Some rows with their moments.

    Attributes:
      value: float32 ``[R, D]``, or ``[R]`` of linear weights.
      mu: first moments, of the same shape; None where the optimiser has none.
      nu: second moments, of the same shape, or ``[R]`` where they are row-wise.
      columns: int32 ``[R]``, columns of ``[R, D]`` that were ever read, where moments are
        row-wise; else None.
    """

    value: jax.Array
    mu: jax.Array | None
    nu: jax.Array
    columns: jax.Array | None = None


class TableOptimiser(Protocol):
    """Moments of rows, by one of the rules above; static under jit."""

    @property
    def has_first(self) -> bool:
        """Whether there is a first moment of each number."""

    @property
    def is_rowwise(self) -> bool:
        """Whether there is one second moment for a row."""

    @property
    def counts_visits(self) -> bool:
        """Whether moments have to be corrected for their start."""

    def step(
        self, rows: MomentRows, gradient: jax.Array, correction: Correction
    ) -> tuple[jax.Array, MomentRows]:
        """The direction to step in, of the gradient's shape, to be taken ``lr`` times; and the
        rows with their new moments, their values as they were.

        Args:
          rows: before the step.
          gradient: of the loss, of the shape of ``rows.value``.
          correction: of the moments for their start.
        """

    def mean_square(self, rows: MomentRows, correction: Correction) -> jax.Array:
        """Of each row, the square of what its steps are divided by, float32 ``[R]``: its second
        moment, the mean of those of the columns that were ever read.
        """

    def read_part(self, rows: MomentRows) -> jax.Array:
        """The values, with zeros for those that never were read."""


@dataclasses.dataclass(frozen=True)
class Adam:
    """Both moments of each number."""

    has_first = True
    is_rowwise = False
    counts_visits = True

    def step(
        self, rows: MomentRows, gradient: jax.Array, correction: Correction
    ) -> tuple[jax.Array, MomentRows]:
        """As Optax rounds it, to whose dense steps these have to be equal."""
        mu = _first(rows, gradient)
        nu = (1 - BETA2) * jnp.square(gradient) + BETA2 * rows.nu
        direction = (mu / correction(BETA1, mu)) / (jnp.sqrt(nu / correction(BETA2, nu)) + EPSILON)
        return direction, dataclasses.replace(rows, mu=mu, nu=nu)

    def mean_square(self, rows: MomentRows, correction: Correction) -> jax.Array:
        """Of the columns with a second moment to speak of."""
        mean = rows.nu
        if mean.ndim == 2:
            read = jnp.sum(_is_more_than_rounding(rows.nu), axis=-1)
            mean = jnp.sum(rows.nu, axis=-1) / jnp.maximum(read, 1)
        return mean / correction(BETA2, mean)

    def read_part(self, rows: MomentRows) -> jax.Array:
        """The values with a second moment to speak of."""
        return jnp.where(_is_more_than_rounding(rows.nu), rows.value, 0.0)


@dataclasses.dataclass(frozen=True)
class RowwiseAdam:
    """A first moment of each number, a second one of each row."""

    has_first = True
    is_rowwise = True
    counts_visits = True

    def step(
        self, rows: MomentRows, gradient: jax.Array, correction: Correction
    ) -> tuple[jax.Array, MomentRows]:
        """Adam's, divided by one number for each row."""
        mu = _first(rows, gradient)
        square, columns = _mean_square_read(rows, gradient)
        nu = (1 - BETA2) * square + BETA2 * rows.nu
        scale = jnp.sqrt(nu / correction(BETA2, nu)) + EPSILON
        direction = (mu / correction(BETA1, mu)) / per_row(scale, mu)
        return direction, dataclasses.replace(rows, mu=mu, nu=nu, columns=columns)

    def mean_square(self, rows: MomentRows, correction: Correction) -> jax.Array:
        """The second moment itself."""
        return rows.nu / correction(BETA2, rows.nu)

    def read_part(self, rows: MomentRows) -> jax.Array:
        """The values in the first ``columns``."""
        return _first_columns(rows)


@dataclasses.dataclass(frozen=True)
class RowwiseAdagrad:
    """The sum of each row's mean squares."""

    has_first = False
    is_rowwise = True
    counts_visits = False

    def step(
        self, rows: MomentRows, gradient: jax.Array, correction: Correction
    ) -> tuple[jax.Array, MomentRows]:
        """The gradient, divided by one number for each row."""
        del correction
        square, columns = _mean_square_read(rows, gradient)
        nu = rows.nu + square
        direction = gradient / per_row(jnp.sqrt(nu) + EPSILON, gradient)
        return direction, dataclasses.replace(rows, nu=nu, columns=columns)

    def mean_square(self, rows: MomentRows, correction: Correction) -> jax.Array:
        """The sum: Adagrad's steps become smaller by its root."""
        del correction
        return rows.nu

    def read_part(self, rows: MomentRows) -> jax.Array:
        """The values in the first ``columns``."""
        return _first_columns(rows)


TABLE_OPTIMISERS: dict[str, TableOptimiser] = {
    "adam": Adam(),
    "rowwise_adam": RowwiseAdam(),
    "rowwise_adagrad": RowwiseAdagrad(),
}
"""By name."""


def columns_read(gradient: jax.Array) -> jax.Array:
    """Columns that a step read of each row, int32 ``[R]``: to the last with a gradient.

    ``gradient`` is ``[R, D]``; behind what was read it is zero.
    """
    number = jnp.arange(1, gradient.shape[-1] + 1, dtype=jnp.int32)
    return jnp.max(jnp.where(_is_more_than_rounding(jnp.square(gradient)), number, 0), axis=-1)


def per_row(of_row: jax.Array, like: jax.Array) -> jax.Array:
    """``[R]`` made to broadcast against ``[R]`` or ``[R, D]``."""
    return of_row if of_row.ndim == like.ndim else of_row[:, None]


def power(base: float, exponent: jax.Array) -> jax.Array:
    """``base**exponent`` of whole numbers, float32."""
    return jnp.power(jnp.float32(base), exponent.astype(jnp.float32))


def _first(rows: MomentRows, gradient: jax.Array) -> jax.Array:
    assert rows.mu is not None
    return (1 - BETA1) * gradient + BETA1 * rows.mu


def _mean_square_read(rows: MomentRows, gradient: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """Mean square ``[R]`` over the columns that a step read, and those ever read with them."""
    if gradient.ndim == 1:
        return jnp.square(gradient), rows.columns
    read = columns_read(gradient)
    square = jnp.sum(jnp.square(gradient), axis=-1) / jnp.maximum(read, 1)
    return square, None if rows.columns is None else jnp.maximum(rows.columns, read)


def _is_more_than_rounding(square: jax.Array) -> jax.Array:
    """Which squares, ``[R, D]`` or ``[R]``, are more than rounding leaves of the row's, bool.

    Those of second moments tell which numbers ever had a gradient.
    """
    largest = square if square.ndim == 1 else jnp.max(square, axis=-1, keepdims=True)
    return square > 1e-10 * largest


def _first_columns(rows: MomentRows) -> jax.Array:
    if rows.columns is None:
        return rows.value
    return rows.value * prefix_mask(rows.columns, rows.value.shape[-1], rows.value.dtype)
