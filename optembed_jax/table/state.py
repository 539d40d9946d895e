"""What the table's optimiser keeps beside the table: moments, and how far each row is up to date.

A table is updated sparsely or densely, and its state is made for one of them; what a step does with
it is in ``update``.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.fields import Fields
from optembed_jax.method.embedding import OneStack, Table
from optembed_jax.method.row_axis import PER_ROW, WithRows
from optembed_jax.table.catch_up import DatedRows
from optembed_jax.table.decay import RowRule
from optembed_jax.table.memory import RowMemory


@flax.struct.dataclass
class RowState(OneStack, WithRows):
    """The table optimiser's memory beside the table.

    Attributes:
      mu: first moments, of the table's shapes; arrays of None where the optimiser has none.
      nu: second moments, of the table's shapes, or one number for each row and stand-in.
      last: int32 ``[V]``, the step that each row is up to date with; None in a dense state, where
        that is the current one.
      visits: int32 ``[V]``, steps that read the row; None where the rule does not ask for it.
      share: of ``shrinkage``, float32 ``[V]`` of rows and of linear weights, what one idle
        step's group lasso takes of each; None where rows do not shrink, and in a dense state.
      ridge: likewise, by how much one idle step's L2 divides each, less 1; None without L2, too.
      scratch: int32 ``[V]``, to find distinct rows with; None in a dense state.
      columns: int32 ``[V]``, columns that were ever read of each row, where moments are row-wise;
        else None.
      sizes: rows of each field, ``F``.
      slots: of each field, ``F``: how many columns of ids are its; empty: 1 of all.
    """

    mu: Table
    nu: Table
    last: jax.Array | None = flax.struct.field(metadata=PER_ROW)
    visits: jax.Array | None = flax.struct.field(metadata=PER_ROW)
    share: Table | None
    ridge: Table | None
    scratch: jax.Array | None = flax.struct.field(metadata=PER_ROW)
    columns: jax.Array | None = flax.struct.field(metadata=PER_ROW)
    sizes: tuple[int, ...] = flax.struct.field(pytree_node=False)
    slots: tuple[int, ...] = flax.struct.field(pytree_node=False, default=())

    @property
    def has_bags(self) -> bool:
        """Whether some field has several columns of ids."""
        return any(slots > 1 for slots in self.slots)

    @property
    def field_of_column(self) -> np.ndarray:
        """The field that each column of ids is of, int32: ``[F]``, of bags ``[S]``."""
        return np.repeat(np.arange(len(self.sizes), dtype=np.int32), self.slots or 1)

    @property
    def is_sparse(self) -> bool:
        """Whether a step touches only the rows that it reads."""
        return self.scratch is not None

    @property
    def memory(self) -> RowMemory:
        """What is remembered of rows that are up to date."""
        return RowMemory(self.mu, self.nu, self.visits, self.columns)

    def with_memory(self, memory: RowMemory, steps: int) -> Any:
        """The state with a memory, all rows up to date with so many steps, on the host.

        What rows owe per idle step is another matter: ``TableState.owing``.
        """
        parts = {name: getattr(memory, name) for name in ("mu", "nu", "visits", "columns")}
        last: Any = None if self.last is None else np.full(self.last.shape, steps, np.int32)
        return dataclasses.replace(self, **parts, last=last)


def init_row_state(rule: RowRule, table: Table, fields: Fields, *, sparse: bool) -> RowState:
    """The state before the first step: moments of zero, no visits.

    Args:
      rule: the rule.
      table: the table to be trained; only its shapes matter.
      fields: the data set's fields.
      sparse: whether steps touch only the rows that they read.
    """

    def of_rows(wanted: bool) -> jax.Array | None:
        return jnp.zeros((fields.num_features,), jnp.int32) if wanted else None

    def per_row_and_weight(wanted: bool) -> Table | None:
        if not wanted:
            return None
        rows, linear = (jnp.zeros((fields.num_features,), jnp.float32) for _ in range(2))
        return Table(rows, None if table.linear is None else linear)

    def second(value: jax.Array) -> jax.Array:
        return jnp.zeros(value.shape[:1] if rule.moments.is_rowwise else value.shape, value.dtype)

    nothing: Any = None
    return RowState(
        mu=jax.tree.map(jnp.zeros_like, table) if rule.moments.has_first else Table(nothing),
        nu=jax.tree.map(second, table),
        last=of_rows(sparse),
        visits=of_rows(rule.counts_visits),
        # Who was never read owes nothing.
        share=per_row_and_weight(sparse and rule.shrinks),
        ridge=per_row_and_weight(sparse and rule.shrinks and rule.l2 > 0),
        scratch=of_rows(sparse),
        columns=of_rows(rule.moments.is_rowwise and table.rows.ndim == 2),
        sizes=fields.sizes,
        slots=fields.slots,
    )


def with_dates(state: RowState, table: Table, step: jax.Array) -> DatedRows:
    """A table's rows with their moments and dates: ``step`` in a dense state."""
    last = state.last
    if last is None:
        last = jnp.broadcast_to(step, table.rows.shape[:1])
    return DatedRows(
        value=table,
        mu=state.mu,
        nu=state.nu,
        last=last,
        visits=state.visits,
        share=state.share,
        ridge=state.ridge,
        columns=state.columns,
    )


def without_dates(state: RowState, rows: DatedRows) -> tuple[Table, RowState]:
    """The table and the state of rows :func:`with_dates`."""
    last = None if state.last is None else rows.last
    return rows.value, dataclasses.replace(
        state,
        mu=rows.mu,
        nu=rows.nu,
        last=last,
        visits=rows.visits,
        share=rows.share,
        ridge=rows.ridge,
        columns=rows.columns,
    )
