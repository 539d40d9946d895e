"""A trained table carried over to another vocabulary: rows are renumbered, new ones stand in.

A value that is new starts as what the earlier model read of it: the row of its field that values
without one of their own read. So the model that is carried over scores every example as the earlier
one did, until it is trained; fresh rows at random would begin by unlearning.
"""

import dataclasses
from typing import Any

import numpy as np

from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table


def rows_to_start_from(source: np.ndarray, fields: Fields, before: Fields) -> np.ndarray:
    """The earlier row that each row starts as, int64 ``[V]``: its own, or its field's stand-in.

    Args:
      source: int ``[V]``, the earlier row of each row; -1 of new ones.
      fields: of the table to be made.
      before: of the earlier table, the same fields with other rows.
    """
    return np.where(source < 0, before.oov_ids[fields.field_of_row], source).astype(np.int64)


def carried(table: Table, start: np.ndarray) -> Table:
    """The table of a later vocabulary, on the host, from an earlier one.

    Args:
      table: the earlier one, full, up to date.
      start: int ``[V]``, of :func:`rows_to_start_from`.
    """
    linear = None if table.linear is None else np.asarray(table.linear)[start]
    oov: Any = None if table.oov is None else np.asarray(table.oov)
    rows: Any = np.asarray(table.rows)[start]
    return Table(rows=rows, linear=linear, oov=oov)


def as_read(
    table: Table,
    fields: Fields,
    rows: np.ndarray | None,
    dims: np.ndarray,
    *,
    prunes_linear: bool,
) -> Table:
    """A full table with what a frozen selection reads of it in each row, on the host.

    Args:
      table: full.
      fields: its fields.
      rows: bool ``[V]``, rows kept, where the others read their field's OOV row; None keeps all.
      dims: int ``[F]``, columns kept; the others become zeros.
      prunes_linear: whether values whose rows are not kept read the OOV row's linear weight, too.
    """
    whole = table
    if rows is not None:
        own = np.arange(fields.num_features)
        whole = carried(table, np.where(rows, own, fields.oov_ids[fields.field_of_row]))
        if not prunes_linear:
            whole = dataclasses.replace(whole, linear=table.linear)
    is_kept = np.arange(whole.rows.shape[1]) < np.asarray(dims)[:, None]
    kept_rows: Any = np.where(is_kept[fields.field_of_row], whole.rows, np.float32(0))
    oov: Any = None if whole.oov is None else np.where(is_kept, whole.oov, np.float32(0))
    return dataclasses.replace(whole, rows=kept_rows, oov=oov)
