"""The compact table's optimiser, where rows that are not read have a rule of their own.

Under most decays the moments of an idle row stand still, which Optax cannot do. All rows take every
step, as in the dense form of ``update``: a compact table is small. What a kept row goes through
is the same as in the masked model.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax.table.compact import CompactIndex, CompactTable, linear_positions, positions
from optembed_jax.table.decay import AdamRows, RowRule, step_all, visit

MOST_NUMBERS = 10_000_000
"""Numbers of a compact table up to which ``auto`` trains it: its dense step of 8 million was faster
than the sparse step of the masked table of a million rows (docs/serving.md)."""


def trains_compact(table_update: str, numbers: int) -> bool:
    """Whether retraining runs on a compact table of so many numbers, or with masks on the full one.

    Args:
      table_update: ``auto``, ``sparse`` or ``dense``; only masked tables are updated sparsely.
      numbers: rows kept times their dims, over all fields.
    """
    return table_update == "dense" or (table_update == "auto" and numbers <= MOST_NUMBERS)


@flax.struct.dataclass
class CompactRowState:
    """The optimiser's memory beside a compact table.

    Attributes:
      mu: Adam's first moments, of the table's shapes.
      nu: the second moments.
      visits: int32, steps that read each row and each linear weight: ``[K]`` where the table has
        ``[K, d]``.
    """

    mu: CompactTable
    nu: CompactTable
    visits: CompactTable


def init_compact_row_state(table: CompactTable) -> CompactRowState:
    """The state before the first step; of the table, only the shapes matter."""
    return CompactRowState(
        mu=jax.tree.map(jnp.zeros_like, table),
        nu=jax.tree.map(jnp.zeros_like, table),
        visits=jax.tree.map(lambda a: jnp.zeros(a.shape[:1], jnp.int32), table),
    )


def update_compact(
    rule: RowRule,
    table: CompactTable,
    state: CompactRowState,
    index: CompactIndex,
    ids: jax.Array,
    gradient: CompactTable,
    step: jax.Array,
) -> tuple[CompactTable, CompactRowState]:
    """One step on the whole compact table.

    Args:
      rule: with lazy moments.
      table: in float32.
      state: before the step.
      index: of the table.
      ids: int32 ``[B, F]``, rows of the full table; of a batch that is split over devices, all.
      gradient: of the loss, of the table's shapes.
      step: int32 scalar, steps taken before this one.
    """
    places, tables = positions(index, ids), (table, state.mu, state.nu, state.visits, gradient)

    def one_step(arrays: Any, places: jax.Array, rows: int) -> tuple[AdamRows, jax.Array]:
        *found, visits, gradient = arrays
        if not len(visits):
            return AdamRows(*found), visits
        reads = jnp.zeros(visits.shape, jnp.int32).at[places.reshape(-1)].add(1, mode="drop")
        is_read = reads > 0
        visits = visits + is_read
        before = AdamRows(*found)
        after = step_all(rule, before, gradient, step + 1, is_read, visits)
        if len(visits) == rows:
            return after, visits
        # Behind the kept rows stands the field's OOV vector, which as in the full table is no row:
        # it steps with every batch, and pays nothing.
        oov, steps = jax.tree.map(lambda a: a[rows:], before), jnp.broadcast_to(step + 1, (1,))
        stepped = visit(rule.free, oov, gradient[rows:], step + 1, steps)
        return jax.tree.map(lambda a, b: a.at[rows:].set(b), after, stepped), visits

    done: Any = [
        one_step(arrays, places[field], index.kept[field])
        for field, *arrays in zip(index.fields_with_columns, *(t.rows for t in tables), strict=True)
    ]
    linear: Any = None, None
    if table.linear is not None:
        linear = one_step(
            [t.linear for t in tables], linear_positions(index, ids), len(table.linear)
        )

    def table_of(name: str) -> CompactTable:
        return CompactTable(
            rows=tuple(getattr(rows, name) for rows, _ in done),
            linear=None if table.linear is None else getattr(linear[0], name),
        )

    visits = CompactTable(rows=tuple(visits for _, visits in done), linear=linear[1])
    return table_of("value"), CompactRowState(table_of("mu"), table_of("nu"), visits)
