"""How trees are put on the devices of a mesh, and taken from there."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from optembed_jax.devices.layout import Tree, filled_from_host, filled_up, layout, rows_of
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.models.model_config import ModelConfig


@dataclasses.dataclass(frozen=True)
class MeshPlacement:
    """Where the arrays of a model stand on a mesh; the methods are those of ``parallel.Steps``.

    Attributes:
      model: the model.
      mesh: of one axis, over all devices of all processes.
      shards: how the table's rows, and all that is kept per row, are sharded over the devices; None
        copies them to each, as all else.
    """

    model: ModelConfig
    mesh: Mesh
    shards: RowShards | None = None

    def layout(self, tree: Tree) -> Tree:
        """``jax.ShapeDtypeStruct`` with sharding of each leaf, as :meth:`place` puts it."""
        return layout(self.model, tree, self.mesh, self.shards)

    def create(self, make: Callable[..., Tree], *arguments: Tree) -> Tree:
        """What ``make(*arguments)`` is on one device, made where it is to stand."""
        shardings = jax.tree.map(
            lambda leaf: leaf.sharding, self.layout(jax.eval_shape(make, *arguments))
        )
        return jax.jit(
            lambda *arguments: filled_up(self.model, make(*arguments), self.shards),
            out_shardings=shardings,
        )(*arguments)

    def place(self, tree: Tree) -> Tree:
        """The tree where it is to stand; what stands there stays."""
        wanted = self.layout(tree)
        tree = jax.tree.map(
            lambda leaf, like: (
                filled_from_host(leaf, like) if isinstance(leaf, np.ndarray) else leaf
            ),
            tree,
            wanted,
        )
        stands = jax.tree.map(
            lambda leaf, like: (
                leaf.shape == like.shape
                and leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)
            ),
            tree,
            wanted,
        )
        return tree if all(jax.tree.leaves(stands)) else self.create(lambda tree: tree, tree)

    def whole(self, tree: Tree) -> Tree:
        """A copy of a placed tree as one device would have it, on the host, in every process."""
        return jax.tree.map(self._on_host, tree, rows_of(self.model, tree, self.shards))

    def _on_host(self, leaf: jax.Array, rows: int) -> np.ndarray:
        if leaf.is_fully_addressable or leaf.is_fully_replicated:
            array = np.asarray(leaf)
        else:
            # A block at a time, so that no device has to hold the whole table.
            blocks = self.mesh.size
            array = np.concatenate([self._block_of(leaf, number) for number in range(blocks)])
        return array[:rows] if rows and self.shards is not None else array

    @functools.cached_property
    def _block_of(self) -> Callable[[jax.Array, int], jax.Array]:
        everywhere = NamedSharding(self.mesh, PartitionSpec())

        def block_of(leaf: jax.Array, number: int) -> jax.Array:
            size = leaf.shape[0] // self.mesh.size
            return jax.lax.dynamic_slice_in_dim(leaf, number * size, size)

        return jax.jit(block_of, out_shardings=everywhere)
