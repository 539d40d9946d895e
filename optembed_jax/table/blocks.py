"""A batch's rows, block by block: what is behind the rows in use costs nothing.

How many distinct rows a batch reads is known only when it is there, and on skewed data they are a
third of the most that there could be. On a CPU a loop over blocks does the work of those alone, in
arrays that stay in a core's cache; the table goes through it in place. An accelerator does all in
one block, without a loop or a branch, for each of which it would ask the host (``device_form``).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optembed_jax.table.catch_up import DatedRows
from optembed_jax.table.device_form import is_cpu, rows_at_once
from optembed_jax.table.stochastic_rounding import kept_as, widened
from optembed_jax.table.view import Seen, of_columns

Tree = Any
"""A pytree."""

_PIECE = 4  # float32, 16 bytes: a register.
_WHOLE = 16  # float32, a cache line: rows up to it are read whole.
_SUMMED = 8192  # As fast as fewer at a time.


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
    count: jax.Array,
    size: int,
    one_block: Callable[[Part, Tree], Tree],
    start: Tree,
    *,
    most: int | None = None,
    device: str | None = None,
) -> Tree:
    """Go through ``count`` lines, block by block; blocks behind them cost nothing.

    Args:
      count: int32 scalar.
      size: of a block; 0 is of blocks of no lines.
      one_block: what becomes of what is carried by a block, of which lines may be unused.
      start: what is carried.
      most: lines that there are at most; None where that is not known. Where one block has them
        all, only a CPU makes a loop of it.
      device: of ``RowRule``.
    """
    if not size:
        return start
    if most is not None and size >= most and not is_cpu(device):
        return one_block(Part(jnp.int32(0), size), start)

    def body(number: jax.Array, carried: Tree) -> Tree:
        return one_block(Part(number * size, size), carried)

    return jax.lax.fori_loop(0, -(-count // size), body, start)


def summed_at(
    winners: jax.Array, terms: Seen, dims: jax.Array | None, device: str | None = None
) -> Seen:
    """Terms of equal winners cut and summed up, each sum in the place of its winner, in place.

    Beside the terms nothing of their size is made, which would cost more than the sums.

    Args:
      winners: int32 ``[N]``, for each term the position of the first that it is to be added to;
        for those themselves their own; ``N`` and above for terms to leave out.
      terms: arrays ``[N, ...]``.
      dims: int32 ``[N]``, columns kept of each term; None keeps all.
      device: of ``RowRule``.

    Returns:
      Arrays ``[N, ...]``; in other places than those of winners, the terms, cut.
    """
    most = winners.size
    size = min(rows_at_once(device, _SUMMED), most)

    def one_block(part: Part, terms: Seen) -> Seen:
        # The last block is moved back, onto terms that have been cut and added already.
        position = jnp.minimum(part.start, most - size) + jnp.arange(size, dtype=jnp.int32)
        is_new = position >= part.start
        if dims is not None:
            # A winner comes before what is added to it, and is cut by then.
            columns = jnp.where(is_new, part.of(dims), terms.rows.shape[-1])
            lines = of_columns(jax.tree.map(part.of, terms), columns)
            terms = jax.tree.map(part.put, terms, lines)
        winner = part.of(winners)
        place = jnp.where(is_new & (winner != position), winner, most)
        # Read from where they were put: XLA would cut them anew, out of a copy of all terms.
        return jax.tree.map(lambda whole: whole.at[place].add(part.of(whole), mode="drop"), terms)

    done: Seen = for_blocks(jnp.int32(most), size, one_block, terms, most=most, device=device)
    return done


def rows_once(tree: Tree, places: jax.Array, device: str | None = None) -> Tree:
    """Rows of arrays ``[V, ...]``, read there and then, before the arrays are written to.

    Args:
      tree: arrays of the same ``V``, at least 1.
      places: int32 of any shape; those out of range are moved in.
      device: of ``RowRule``.
    """
    if not is_cpu(device):  # It asks memory for many rows anyway.
        last = len(jax.tree.leaves(tree)[0]) - 1
        inside = jnp.clip(places, 0, last)
        read = jax.tree.map(lambda whole: whole.at[inside].get(mode="promise_in_bounds"), tree)
        return jax.lax.optimization_barrier(read)
    flat = places.reshape(-1)
    pieces = jax.tree.map(_in_pieces, tree)

    def gather(pieces: Tree) -> Tree:
        leaves, structure = jax.tree.flatten(pieces)
        found = [_gather(whole, flat, number) for number, whole in enumerate(leaves)]
        return jax.tree.unflatten(structure, found)

    def nothing(pieces: Tree) -> Tree:
        return jax.tree.map(jnp.zeros_like, jax.eval_shape(gather, pieces))

    # Always true, which XLA must not see: the branch keeps it from gathering anew wherever the rows
    # are used, number by number, or after the writing. Shaped as pieces, rows leave the branch
    # without a copy of each number.
    is_true = jnp.all(jax.lax.population_count(flat[:1]) <= 32)
    found = jax.lax.cond(is_true, gather, nothing, pieces)
    return jax.tree.map(
        lambda pieces, whole: pieces.reshape(*places.shape, *whole.shape[1:]), found, tree
    )


def taken(
    dated: DatedRows, rows: jax.Array, step: jax.Array, device: str | None = None
) -> DatedRows:
    """Some rows of all; in unused places some row or other, up to date with ``step``."""
    found: DatedRows = rows_once(dated, rows, device)
    last = jnp.where(rows < len(dated.last), found.last, step)
    return dataclasses.replace(found, value=widened(found.value), last=last)


def put_rows(
    whole: DatedRows, rows: jax.Array, lines: DatedRows, step: jax.Array, where: int, part: Part
) -> DatedRows:
    """All rows, with other lines at some, which are distinct; those out of range are left out.

    ``step``, ``where`` and ``part`` say which, to draw by where rows are rounded
    (``stochastic_rounding``).
    """
    lines = dataclasses.replace(
        lines, value=kept_as(whole.value, lines.value, step, where, part.start)
    )
    put: DatedRows = jax.tree.map(
        lambda whole, lines: whole.at[rows].set(lines, mode="drop", unique_indices=True),
        whole,
        lines,
    )
    return put


def _in_pieces(whole: jax.Array) -> jax.Array:
    """``[V, D]`` as ``[V, D / 4, 4]``, where rows are long and come out even."""
    if whole.ndim == 1 or whole.shape[1] <= _WHOLE or whole.shape[1] % _PIECE:
        return whole
    return whole.reshape(len(whole), -1, _PIECE)


def _gather(whole: jax.Array, rows: jax.Array, number: int) -> jax.Array:
    """Some rows of :func:`_in_pieces`, piece by piece; those out of range are moved in.

    So a core asks memory for many rows before the first is there. Of rows copied whole, one after
    another, each would have to be waited for.

    Arrays that are gathered beside each other have a ``number`` each, which changes nothing but how
    the places are reckoned. Otherwise XLA would find the pieces' places once for all of them, and
    read them from memory for each number of a piece.
    """
    last = len(whole) - 1
    rows = jnp.clip(rows + number, number, last + number) - number
    places = (rows,) if whole.ndim < 3 else (rows[:, None], jnp.arange(whole.shape[1]))
    return whole.at[places].get(mode="promise_in_bounds")
