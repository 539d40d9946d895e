"""Which arrays have the table's rows as their first axis: a fact of their type.

A dataclass of arrays that derives from :class:`WithRows` marks those of its attributes by
:data:`PER_ROW`. Whatever is put together of such dataclasses can then be asked array by array
(:func:`row_counts`): rows are sharded over devices by it, and filled up to even blocks.
"""

import dataclasses
from typing import Any

import jax

PER_ROW = {"per_row": True}
"""Metadata of an attribute whose arrays have a line for each row: ``flax.struct.field``'s."""


class WithRows:
    """A flax dataclass, some of whose attributes have a line for each row of a table."""

    def row_counts(self, rows: int, level: str) -> Any:
        """Itself with a number for each array, see :func:`row_counts`."""
        found = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if not field.metadata.get("pytree_node", True):
                continue
            value = getattr(self, field.name)
            if field.metadata.get("per_row"):
                found[field.name] = jax.tree.map(lambda _: rows, value)
            else:
                found[field.name] = row_counts(value, rows, level)
        return dataclasses.replace(self, **found)  # type: ignore[type-var]


def row_counts(tree: Any, rows: int, level: str) -> Any:
    """For each array of a tree the rows of the table that it has a line for; 0 where it has none.

    Args:
      tree: arrays, or their shapes.
      rows: of the table that the tree belongs to, as far as no part of it has a table of its own.
      level: of the thresholds, ``feature`` where there is one for each row.
    """

    def of(node: Any) -> Any:
        return node.row_counts(rows, level) if isinstance(node, WithRows) else 0

    return jax.tree.map(of, tree, is_leaf=lambda node: isinstance(node, WithRows))
