"""A batch's rows, block by block: what is behind the rows in use costs nothing.

How many distinct rows a batch reads is known only when it is there, and on skewed data they are a
third of the most that there could be. A loop over blocks does the work of those alone, in arrays
that stay in a core's cache; the table goes through it in place.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optembed_jax.row_catch_up import DatedRows

Tree = Any
"""A pytree."""

_CACHE_LINE = 16  # float32, 64 bytes.


@dataclasses.dataclass(frozen=True)
class Part:
    """``size`` lines of an array, from line ``start``."""

    start: jax.Array
    size: int

    def of(self, whole: jax.Array) -> jax.Array:
        """These lines of an array."""
        return jax.lax.dynamic_slice_in_dim(whole, self.start, self.size)

    def put(self, whole: jax.Array, lines: jax.Array) -> jax.Array:
        """The array with other lines there."""
        return jax.lax.dynamic_update_slice_in_dim(whole, lines, self.start, 0)


def for_blocks(
    count: jax.Array, size: int, one_block: Callable[[Part, Tree], Tree], start: Tree
) -> Tree:
    """Go through ``count`` lines, block by block; blocks behind them cost nothing."""

    def body(number: jax.Array, carried: Tree) -> Tree:
        return one_block(Part(number * size, size), carried)

    return jax.lax.fori_loop(0, -(-count // size), body, start)


def taken(dated: DatedRows, rows: jax.Array, step: jax.Array) -> DatedRows:
    """Some rows of all; in unused places some row or other, up to date with ``step``."""
    most = dated.last.shape[0]
    places = jnp.minimum(rows, most - 1)
    lines = jax.tree.map(_as_lines, dated)

    def gather(lines: DatedRows) -> DatedRows:
        return jax.tree.map(lambda whole: _gather(whole, places), lines)

    def nothing(lines: DatedRows) -> DatedRows:
        return jax.tree.map(jnp.zeros_like, jax.eval_shape(gather, lines))

    # Always so: the branch keeps XLA from gathering anew where the rows are used, number by number.
    found = jax.lax.cond(rows[0] < most, gather, nothing, lines)
    taken = jax.tree.map(
        lambda lines, whole: lines.reshape(rows.size, *whole.shape[1:]), found, dated
    )
    last = jnp.where(rows < most, taken.last, step)
    return dataclasses.replace(taken, last=last)


def _as_lines(whole: jax.Array) -> jax.Array:
    """``[V, D]`` as ``[V, D / 16, 16]``, cache lines, where they come out even."""
    if whole.ndim == 1 or whole.shape[1] % _CACHE_LINE:
        return whole
    return whole.reshape(len(whole), -1, _CACHE_LINE)


def _gather(whole: jax.Array, rows: jax.Array) -> jax.Array:
    """Some rows of :func:`_as_lines`, line by line.

    So a core asks memory for many lines before the first is there. Of rows, copied whole one after
    another, each would have to be waited for.
    """
    places = (rows,) if whole.ndim < 3 else (rows[:, None], jnp.arange(whole.shape[1]))
    return whole.at[places].get(mode="promise_in_bounds")
