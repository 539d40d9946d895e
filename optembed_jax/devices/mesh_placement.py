"""How trees are put on the devices of a mesh, and taken from there."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from optembed_jax.devices.layout import (
    Tree,
    filled_from_host,
    filled_up,
    layout,
    padded,
    rows_of,
)
from optembed_jax.exchange.row_requests import moved
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
        """What ``make(*arguments)`` is on one device, made where it is to stand.

        Args:
          make: works on rows in the order of their ids.
          arguments: placed.
        """
        # Array by array, so that no more than one of them is there twice.
        arguments = jax.tree.map(
            functools.partial(self._moved, to_order=True),
            arguments,
            rows_of(self.model, arguments, self.shards),
        )
        shardings = jax.tree.map(
            lambda leaf: leaf.sharding, self.layout(jax.eval_shape(make, *arguments))
        )
        made: Tree = jax.jit(
            lambda *arguments: filled_up(self.model, make(*arguments), self.shards),
            out_shardings=shardings,
        )(*arguments)
        return jax.tree.map(
            functools.partial(self._moved, to_order=False),
            made,
            rows_of(self.model, made, self.shards),
        )

    def _moved(self, leaf: jax.Array, rows: int, *, to_order: bool) -> jax.Array:
        """An array over the devices, its rows put where they are to stand, or in order."""
        shards = self.shards_of(rows)
        if shards is None:
            return leaf
        ordered = dataclasses.replace(shards, in_order=True)
        now, wanted = (shards, ordered) if to_order else (ordered, shards)
        return _mover(self.mesh, now, wanted)(leaf)

    def place(self, tree: Tree) -> Tree:
        """The tree where it is to stand; what stands there stays.

        Of other arrays rows are in the order of their ids. (On a mesh of one device, an array of
        that device that needs no filling up is taken to stand there.)
        """
        leaves, structure = jax.tree.flatten(tree)
        wanted = jax.tree.leaves(self.layout(tree))
        shards = [
            self.shards_of(rows) for rows in jax.tree.leaves(rows_of(self.model, tree, self.shards))
        ]
        elsewhere = []
        for number, (leaf, like) in enumerate(zip(leaves, wanted, strict=True)):
            if isinstance(leaf, np.ndarray):
                leaves[number] = filled_from_host(leaf, like, shards[number])
            elif leaf.shape != like.shape or not leaf.sharding.is_equivalent_to(
                like.sharding, leaf.ndim
            ):
                elsewhere.append(number)
        if elsewhere:
            there = jax.jit(
                lambda given: [
                    padded(leaf, shards[number])
                    for number, leaf in zip(elsewhere, given, strict=True)
                ],
                out_shardings=[wanted[number].sharding for number in elsewhere],
            )([leaves[number] for number in elsewhere])
            for number, leaf in zip(elsewhere, there, strict=True):
                own = shards[number]
                leaves[number] = self._moved(leaf, own.rows if own else 0, to_order=False)
        placed: Tree = jax.tree.unflatten(structure, leaves)
        return placed

    def whole(self, tree: Tree) -> Tree:
        """A copy of a placed tree as one device would have it, on the host, in every process."""
        return jax.tree.map(self._on_host, tree, rows_of(self.model, tree, self.shards))

    def shards_of(self, rows: int) -> RowShards | None:
        """How an array of so many rows is sharded; None of one that is copied to all devices."""
        return self.shards.of_rows(rows) if rows and self.shards is not None else None

    def _on_host(self, leaf: jax.Array, rows: int) -> np.ndarray:
        if leaf.is_fully_addressable or leaf.is_fully_replicated:
            array = np.asarray(leaf)
        else:
            # A block at a time, so that no device has to hold the whole table.
            blocks = self.mesh.size
            array = np.concatenate([self._block_of(leaf, number) for number in range(blocks)])
        shards = self.shards_of(rows)
        return array if shards is None else array[shards.stands(np.arange(rows))]

    @functools.cached_property
    def _block_of(self) -> Callable[[jax.Array, int], jax.Array]:
        everywhere = NamedSharding(self.mesh, PartitionSpec())

        def block_of(leaf: jax.Array, number: int) -> jax.Array:
            size = leaf.shape[0] // self.mesh.size
            return jax.lax.dynamic_slice_in_dim(leaf, number * size, size)

        return jax.jit(block_of, out_shardings=everywhere)


@functools.lru_cache(maxsize=64)
def _mover(mesh: Mesh, now: RowShards, wanted: RowShards) -> Callable[[jax.Array], jax.Array]:
    """``row_requests.moved``, compiled once for all arrays of the same shape."""
    split = PartitionSpec(now.axis)
    return jax.jit(
        jax.shard_map(
            functools.partial(moved, now=now, wanted=wanted),
            mesh=mesh,
            in_specs=split,
            out_specs=split,
            check_vma=False,
        )
    )
