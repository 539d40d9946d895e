"""Which arrays of a state have a line for each row of the table, and where each array stands."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.models.model_config import ModelConfig

Tree = Any
"""A pytree: a ``TrainState``, ``Params``, batch statistics, a ``Reading``, or a tuple of those."""


_PER_ROW = {
    *("rows", "linear"),  # Table, also as moments; Selection
    *("last", "visits", "scratch"),  # RowState
    *("reads", "total"),  # ScoreState
}


def per_row(model: ModelConfig, tree: Tree) -> Tree:
    """Whether each leaf of a tree has the table's rows as its first axis: a bool in its place.

    Args:
      model: the model, which says what thresholds there are.
      tree: whose table, if any, is a full one.
    """
    attributes = _PER_ROW | ({"thresholds"} if model.mode_threshold == "feature" else set())

    def is_per_row(path: tuple[Any, ...], _: Any) -> bool:
        return bool(path) and getattr(path[-1], "name", None) in attributes

    return jax.tree_util.tree_map_with_path(is_per_row, tree)


def specs(model: ModelConfig, tree: Tree, axis: str | None) -> Tree:
    """``PartitionSpec`` of each leaf: rows over the axis, if there is one, all else everywhere."""
    return jax.tree.map(
        lambda rows: PartitionSpec(axis) if rows else PartitionSpec(), per_row(model, tree)
    )


def layout(model: ModelConfig, tree: Tree, mesh: Mesh, shards: RowShards | None) -> Tree:
    """``jax.ShapeDtypeStruct`` with sharding of each leaf, its rows filled up to even blocks."""

    def of(leaf: Any, rows: bool) -> jax.ShapeDtypeStruct:
        shape, spec = leaf.shape, PartitionSpec()
        if rows and shards is not None:
            shape, spec = (shards.padded, *leaf.shape[1:]), PartitionSpec(shards.axis)
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(of, tree, per_row(model, tree))


def filled_up(model: ModelConfig, tree: Tree, shards: RowShards | None) -> Tree:
    """The tree with zeros behind the table's rows, so that they make even blocks."""

    def of(leaf: jax.Array, rows: bool) -> jax.Array:
        missing = shards.padded - leaf.shape[0] if rows and shards is not None else 0
        return jnp.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1)) if missing else leaf

    return jax.tree.map(of, tree, per_row(model, tree))


def bytes_of(model: ModelConfig, tree: Tree) -> tuple[int, int]:
    """Bytes of the leaves that have the table's rows, and of all others; shapes are enough."""
    of_rows = others = 0
    for leaf, rows in zip(
        jax.tree.leaves(tree), jax.tree.leaves(per_row(model, tree)), strict=True
    ):
        size = leaf.size * leaf.dtype.itemsize
        of_rows, others = of_rows + rows * size, others + (not rows) * size
    return of_rows, others


def filled_from_host(leaf: np.ndarray, like: jax.ShapeDtypeStruct) -> jax.Array:
    """An array of the host put where a layout wants it, zeros behind its rows, block by block."""

    def block(place: tuple[slice, ...] | None) -> np.ndarray:
        own = leaf if place is None else leaf[place]
        if not place or leaf.shape == like.shape:
            return own
        wanted = len(range(*place[0].indices(like.shape[0])))
        return np.pad(own, [(0, wanted - len(own))] + [(0, 0)] * (leaf.ndim - 1))

    assert like.sharding is not None
    return jax.make_array_from_callback(like.shape, like.sharding, block)
