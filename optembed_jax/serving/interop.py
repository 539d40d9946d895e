"""A compact table in the words of other libraries: plain keyword arguments, nothing imported.

Each field that is left becomes a table of its own with the rows and columns that were kept:

===================  ======================================  ============================
library              table                                   feature
===================  ======================================  ============================
jax-tpu-embedding    ``TableSpec(**table, initializer=...,   ``FeatureSpec(**feature,
                     optimizer=...)``                        table_spec=...)``
keras-rs             ``TableConfig(**table)``                ``FeatureConfig(**feature,
                                                             table=...)``
RecML                ``EmbeddingSpec(**table)``
===================  ======================================  ============================

Optimizers and initialisers are objects of those libraries, and stay the caller's choice. Ids have
to be remapped first (``positions``), as the compact table does itself.
"""

import dataclasses
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.table.compact import CompactIndex


@dataclasses.dataclass(frozen=True)
class FieldTable:
    """A field's table as others count it.

    Attributes:
      name: the field's name.
      rows: rows to look up: the kept ones, and those of ids without one.
      dim: columns.
      field: its number.
      slots: the most values of a cell.
      combiner: what is made of their rows.
    """

    name: str
    rows: int
    dim: int
    field: int
    slots: int = 1
    combiner: str = "sum"


def field_tables(fields: Fields, index: CompactIndex) -> tuple[FieldTable, ...]:
    """The tables of the fields that have columns, in order.

    What ids without a row read (an OOV vector, or zeros) is a row like the others.
    """
    return tuple(
        FieldTable(
            name=fields.names[field],
            rows=index.kept[field],
            dim=index.dims[field],
            field=field,
            slots=fields.slots[field],
            combiner="sum"
            if index.bags is None or fields.slots[field] == 1
            else index.bags.pooling,
        )
        for field in index.fields_with_columns
    )


def tpu_embedding(
    fields: Fields, index: CompactIndex, batch_size: int
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Arguments of jax-tpu-embedding's ``TableSpec`` and ``FeatureSpec``, by field.

    Add ``initializer`` and ``optimizer`` to the table's, ``table_spec`` to the feature's.

    Args:
      fields: the data set's fields.
      index: of the compact table.
      batch_size: rows of a batch over all devices.
    """
    _check_batch(batch_size)
    return {
        table.name: (
            {
                "name": table.name,
                "vocabulary_size": table.rows,
                "embedding_dim": table.dim,
                "combiner": table.combiner,
            },
            {
                "name": table.name,
                "input_shape": (batch_size, table.slots),
                "output_shape": (batch_size, table.dim),
            },
        )
        for table in field_tables(fields, index)
    }


def keras_rs(
    fields: Fields, index: CompactIndex, batch_size: int
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Arguments of keras-rs' ``TableConfig`` and ``FeatureConfig``, by field.

    The table's are complete (optimizer and initializer have defaults there); add ``table`` to the
    feature's. Arguments as of :func:`tpu_embedding`.
    """
    # The two libraries took over the same names.
    return tpu_embedding(fields, index, batch_size)


def recml(fields: Fields, index: CompactIndex) -> dict[str, dict[str, Any]]:
    """Arguments of RecML's ``EmbeddingSpec``, by field; the mapping is its ``specs``."""
    return {
        table.name: {
            "input_dim": table.rows,
            "embedding_dim": table.dim,
            "combiner": table.combiner,
        }
        for table in field_tables(fields, index)
    }


def positions(index: CompactIndex, ids: np.ndarray) -> dict[int, np.ndarray]:
    """Rows of the tables of :func:`field_tables` that ids of the full table read.

    Args:
      index: of the compact table.
      ids: int ``[N, F]``, of fields with several values ``[N, S]``.

    Returns:
      For each field number with columns, int32 ``[N]``; of one with several slots ``[N, S_f]``, -1
      in those without a value.
    """
    found, slots = {}, (1,) * len(index.dims) if index.bags is None else index.bags.slots
    cells = np.split(np.asarray(ids), np.cumsum(slots)[:-1], axis=1)
    for field in index.fields_with_columns:
        own = cells[field] if slots[field] > 1 else cells[field][:, 0]
        local = own - index.offsets[field]
        is_value = own < sum(index.sizes)
        local = np.where(is_value, local, 0)
        remap = index.remap[field]
        if remap is not None:
            local = np.asarray(remap)[local]
        found[field] = np.where(is_value, local, -1).astype(np.int32)
    return found


def _check_batch(batch_size: int) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
