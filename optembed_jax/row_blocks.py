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

    def gather(whole: jax.Array) -> jax.Array:
        return whole.at[rows].get(mode="clip", unique_indices=True)

    taken = jax.tree.map(gather, dated)
    last = jnp.where(rows < dated.last.shape[0], taken.last, step)
    return dataclasses.replace(taken, last=last)
