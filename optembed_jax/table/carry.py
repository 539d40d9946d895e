"""A trained table carried over to another vocabulary: rows are renumbered, new ones stand in.

A value that is new starts as what the earlier model read of it: the row of its field that values
without one of their own read. So the model that is carried over scores every example as the earlier
one did, until it is trained; fresh rows at random would begin by unlearning.

So would fresh columns, and those that the earlier model had not begin at zero. But a backbone that
reads products of fields alone has no gradient in a column where all fields have zeros, and none of
them would ever move. There one field begins at random (:func:`with_columns_begun`): the products
are zeros still, and the others have gradients.
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


def with_columns_begun(
    table: Table,
    fields: Fields,
    draws: np.random.Generator,
    rows: np.ndarray | None = None,
    dims: np.ndarray | None = None,
) -> Table:
    """A table in which no column that is read is zeros in all fields.

    Of such a column one field gets values at random, that with the most rows of those that read it,
    as large as what it has in other columns. All products of two fields stay as they are, also of
    fields that are pooled of several values. A column that one field alone reads has no products.

    Args:
      table: full, on the host.
      fields: its fields.
      draws: what is random.
      rows: bool ``[V]``, rows that are read; None: all.
      dims: int ``[F]``, columns of each field that are read; None: all.

    Returns:
      The table; the same object where nothing is to be begun.
    """
    is_read = np.ones(fields.num_features, bool) if rows is None else np.asarray(rows) != 0
    values: Any = np.asarray(table.rows)
    vectors: Any = table.oov
    widths = np.full(fields.num_fields, values.shape[1]) if dims is None else np.asarray(dims)
    counts = fields.rows_per_field(is_read)
    blocks = [slice(o, o + n) for o, n in zip(fields.offsets, fields.sizes, strict=True)]

    def has_any(field: int, column: int) -> bool:
        block = blocks[field]
        own = bool(values[block, column][is_read[block]].any())
        return own or (vectors is not None and bool(vectors[field, column] != 0))

    begun: dict[int, list[int]] = {}
    for column in range(int(widths.max())):
        # Of a field without rows its vector is read.
        is_reader = (widths > column) & ((counts > 0) | (vectors is not None))
        readers = np.flatnonzero(is_reader).tolist()
        if len(readers) > 1 and not any(has_any(field, column) for field in readers):
            begun.setdefault(max(readers, key=counts.__getitem__), []).append(column)
    if not begun:
        return table
    values, vectors = values.copy(), None if vectors is None else np.array(vectors)
    for field, columns in begun.items():
        block = values[blocks[field]]
        bound = np.sqrt(3.0) * _size(block, values.shape)
        block[:, columns] = draws.uniform(-bound, bound, (len(block), len(columns)))
        if vectors is not None:
            vectors[field, columns] = draws.uniform(-bound, bound, len(columns))
    return dataclasses.replace(table, rows=values, oov=vectors)


def _size(block: np.ndarray, shape: tuple[int, ...]) -> float:
    """The root of the mean square of what a field's rows have; of a field of zeros, as if fresh."""
    there = block[:, (block != 0).any(axis=0)]
    if not there.size:
        return float(np.sqrt(2 / sum(shape)))  # Xavier's.
    return float(np.sqrt(np.square(there, dtype=np.float64).mean()))
