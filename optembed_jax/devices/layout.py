"""Which arrays of a state have a line for each row of the table, and where each array stands."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.method.row_axis import row_counts
from optembed_jax.models.model_config import ModelConfig

Tree = Any
"""A pytree: a ``TrainState``, ``Params``, batch statistics, a ``Reading``, or a tuple of those."""


def rows_of(model: ModelConfig, tree: Tree, shards: RowShards | None = None) -> Tree:
    """For each leaf of a tree the rows that it has a line for, 0 where it has none.

    Args:
      model: the model, which says what thresholds there are.
      tree: of arrays, or their shapes.
      shards: of the full table, whose rows count where a stack has none of its own.
    """
    return row_counts(tree, 1 if shards is None else shards.rows, model.mode_threshold)


def per_row(model: ModelConfig, tree: Tree) -> Tree:
    """Whether each leaf of a tree has a table's rows as its first axis: a bool in its place."""
    return jax.tree.map(bool, rows_of(model, tree))


def specs(model: ModelConfig, tree: Tree, axis: str | None) -> Tree:
    """``PartitionSpec`` of each leaf: rows over the axis, if there is one, all else everywhere."""
    return jax.tree.map(
        lambda rows: PartitionSpec(axis) if rows else PartitionSpec(), per_row(model, tree)
    )


def layout(model: ModelConfig, tree: Tree, mesh: Mesh, shards: RowShards | None) -> Tree:
    """``jax.ShapeDtypeStruct`` with sharding of each leaf, its rows filled up to even blocks."""

    def of(leaf: Any, rows: int) -> jax.ShapeDtypeStruct:
        shape, spec = leaf.shape, PartitionSpec()
        if rows and shards is not None:
            padded = shards.of_rows(rows).padded
            shape, spec = (padded, *leaf.shape[1:]), PartitionSpec(shards.axis)
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(of, tree, rows_of(model, tree, shards))


def filled_up(model: ModelConfig, tree: Tree, shards: RowShards | None) -> Tree:
    """The tree with zeros behind the table's rows, which stay in order, to make even blocks."""

    def of(leaf: jax.Array, rows: int) -> jax.Array:
        return padded(leaf, shards.of_rows(rows) if rows and shards is not None else None)

    return jax.tree.map(of, tree, rows_of(model, tree, shards))


def padded(leaf: jax.Array, shards: RowShards | None) -> jax.Array:
    """An array with zeros behind its rows; as it is where they are not sharded."""
    missing = 0 if shards is None else shards.padded - leaf.shape[0]
    return jnp.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1)) if missing else leaf


def bytes_of(model: ModelConfig, tree: Tree) -> tuple[int, int]:
    """Bytes of the leaves that have the table's rows, and of all others; shapes are enough."""
    of_rows = others = 0
    for leaf, rows in zip(
        jax.tree.leaves(tree), jax.tree.leaves(per_row(model, tree)), strict=True
    ):
        size = leaf.size * leaf.dtype.itemsize
        of_rows, others = of_rows + rows * size, others + (not rows) * size
    return of_rows, others


def filled_from_host(
    leaf: np.ndarray, like: jax.ShapeDtypeStruct, shards: RowShards | None
) -> jax.Array:
    """An array of the host put where a layout wants it, block by block.

    Args:
      leaf: with its rows in the order of their ids.
      like: of the layout.
      shards: how its rows are sharded; None where they are not, or it has none.
    """

    def block(place: tuple[slice, ...] | None) -> np.ndarray:
        if shards is None or not place:
            return leaf if place is None else leaf[place]
        ids = shards.ids_of(np.arange(*place[0].indices(shards.padded)))
        own = np.zeros((len(ids), *leaf.shape[1:]), leaf.dtype)
        own[ids < shards.rows] = leaf[ids[ids < shards.rows]]
        return own

    assert like.sharding is not None
    return jax.make_array_from_callback(like.shape, like.sharding, block)
