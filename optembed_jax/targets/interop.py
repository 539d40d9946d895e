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
to be remapped first (``positions``), as the compact table does itself; none of the libraries checks
them. ``table_values`` has the rows in the shape that ``DistributedEmbedding.set_embedding_tables``
of keras-rs and ``stack_and_shard_tables`` of jax-tpu-embedding take.
"""

import dataclasses
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.serving import forward_module
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_content import read_content
from optembed_jax.serving.bundle_manifest import why_no_plain_tables
from optembed_jax.serving.stored_rows import numbers, stored_rows
from optembed_jax.table.compact import CompactIndex, CompactTable
from optembed_jax.table.quantize import restore_rows
from optembed_jax.targets.sparse_core import Limits, limits_of


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


def index_of(bundle: Bundle) -> CompactIndex:
    """Where the ids of a bundle have their rows.

    Raises:
      InputError: it has no tables of whole rows.
    """
    manifest = bundle.manifest
    reason = why_no_plain_tables(manifest)
    if reason is not None:
        raise InputError(f"{bundle.path} has no table of whole rows for each field: {reason}")
    pooling = manifest["model"].get("pooling", "mean")
    return forward_module.index_of(
        bundle.weights, manifest["fields"], manifest["linear_by_id"], pooling
    )


def table_values(fields: Fields, index: CompactIndex, table: CompactTable) -> dict[str, np.ndarray]:
    """The rows of each table by its name, float32 ``[rows, dim]``, the stand-in's among them."""
    return {
        own.name: np.asarray(restore_rows(rows))
        for own, rows in zip(field_tables(fields, index), table.rows, strict=True)
    }


def bundle_values(bundle: Bundle) -> dict[str, np.ndarray]:
    """:func:`table_values` of a bundle, in the numbers that its bits stand for."""
    rows = stored_rows(read_content(bundle.path))
    return {
        own.name: numbers(rows, own.field) for own in field_tables(bundle.fields, index_of(bundle))
    }


def limits(
    fields: Fields,
    index: CompactIndex,
    batch_size: int,
    sparse_cores: int = 1,
    counts: np.ndarray | None = None,
) -> dict[str, Limits]:
    """How many ids of a batch reach a partition of each table, see ``sparse_core.limits_of``.

    A stack of several tables has the sum of theirs: both libraries put 256 in place of the tables'
    own limits there, unless they are told (``stack_to_max_ids_per_partition``, or
    ``embedding.update_preprocessing_parameters``).

    Args:
      fields: of the ids that the index takes.
      index: of the compact table.
      batch_size: rows of a batch over all devices.
      sparse_cores: of all chips; limits of fewer hold for more.
      counts: training rows that had each id, int ``[V]``; None: limits that hold for any batch.
    """
    blocks = None if counts is None else np.split(np.asarray(counts), fields.offsets[1:])
    found = {}
    for table in field_tables(fields, index):
        of_rows = None
        if blocks is not None:
            of_rows, remap = blocks[table.field], index.remap[table.field]
            if remap is not None:
                of_rows = np.bincount(np.asarray(remap), of_rows, table.rows)
        found[table.name] = limits_of(table.rows, batch_size * table.slots, sparse_cores, of_rows)
    return found


def tpu_embedding(
    fields: Fields,
    index: CompactIndex,
    batch_size: int,
    sparse_cores: int = 1,
    counts: np.ndarray | None = None,
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Arguments of jax-tpu-embedding's ``TableSpec`` and ``FeatureSpec``, by field.

    Add ``initializer`` and ``optimizer`` to the table's, ``table_spec`` to the feature's. Limits of
    ids per partition are among them, since what is above the default of 256 is dropped: one popular
    id of a batch is enough. Arguments as of :func:`limits`.
    """
    allowed = limits(fields, index, batch_size, sparse_cores, counts)
    return {
        table.name: (
            {
                "name": table.name,
                "vocabulary_size": table.rows,
                "embedding_dim": table.dim,
                "combiner": table.combiner,
                **dataclasses.asdict(allowed[table.name]),
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
    fields: Fields,
    index: CompactIndex,
    batch_size: int,
    sparse_cores: int = 1,
    counts: np.ndarray | None = None,
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Arguments of keras-rs' ``TableConfig`` and ``FeatureConfig``, by field.

    The table's are complete (optimizer and initializer have defaults there); add ``table`` to the
    feature's. Arguments as of :func:`limits`.
    """
    # The two libraries took over the same names.
    return tpu_embedding(fields, index, batch_size, sparse_cores, counts)


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


def positions(fields: Fields, index: CompactIndex, ids: np.ndarray) -> dict[int, np.ndarray]:
    """Rows of the tables of :func:`field_tables` that ids of the full table read.

    Args:
      fields: of the ids that the index takes.
      index: of the compact table.
      ids: int ``[N, F]``, of fields with several values ``[N, S]``.

    Returns:
      For each field number with columns, int32 ``[N]``; of one with several slots ``[N, S_f]``, -1
      in those without a value.

    Raises:
      InputError: another shape, other numbers than integers, an id of another field, or values with
        weights, which rows alone do not tell.
    """
    if any(fields.weighted):
        name = fields.names[fields.weighted.index(True)]
        raise InputError(
            f"values of field {name!r} have weights (value_weights), which positions do not tell; "
            "serve the bundle itself, with JAX or with NumPy"
        )
    cells = np.split(fields.check_ids(ids), np.cumsum(fields.slots)[:-1], axis=1)
    found = {}
    for field in index.fields_with_columns:
        own = cells[field] if fields.slots[field] > 1 else cells[field][:, 0]
        is_value = own < fields.num_features
        local = np.where(is_value, own - index.offsets[field], 0)
        remap = index.remap[field]
        if remap is not None:
            local = np.asarray(remap)[local].astype(np.int32)  # Stored in as few bytes as will do.
        found[field] = np.where(is_value, local, -1).astype(np.int32)
    return found
