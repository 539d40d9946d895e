"""Which of three ways updates each stack of a table, under one interface (``stack_read``).

===============================  ===============================================================
:class:`dense_rows.OptaxRows`    Optax updates all rows in every step
:class:`dense_rows.DenseRows`    so do the rules of ``table.decay``, which know idle rows
:class:`sparse_rows.SparseRows`  the same rules, but a step touches only the rows that it reads
===============================  ===============================================================

Where rows are sharded over devices (``Setup.shards``), each of them works on the rows that this
device holds.
"""

import dataclasses
import math
from typing import Any

from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.step.dense_rows import DenseRows, OptaxRows
from optembed_jax.step.optimisers import TrainConfig, make_optimisers
from optembed_jax.step.sparse_rows import SparseRows
from optembed_jax.step.stack_read import TableState
from optembed_jax.table.device_form import updates_sparsely
from optembed_jax.table.state import init_row_state


def init_table_state(train: TrainConfig, table: Any, fields: Fields) -> Any:
    """The state of a table's optimiser before the first step, for each of its stacks.

    Args:
      train: the optimiser settings.
      table: ``Table`` or ``Stacks``, of which only the shapes matter.
      fields: the data set's fields.
    """
    own = zip(table.stacks, table.fields_of_stacks(fields), strict=True)
    return table.with_stacks(tuple(_init_stack_state(train, *stack) for stack in own))


def _init_stack_state(train: TrainConfig, table: Table, fields: Fields) -> TableState:
    rule = train.row_rule
    numbers = sum(math.prod(leaf.shape) for leaf in (table.rows, table.linear) if leaf is not None)
    device = train.begun_on or train.device
    sparse = updates_sparsely(train.table_update, fields.num_features, numbers, device)
    if not sparse and not rule.lazy_moments and not rule.moments.is_rowwise:
        return OptaxRows(make_optimisers(train).table.init(table))
    state = init_row_state(rule, table, fields, sparse=sparse)
    parts = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return SparseRows(**parts) if sparse else DenseRows(**parts)
