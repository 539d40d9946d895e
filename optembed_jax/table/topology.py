"""What the SparseCores of a topology pad a table to.

A table's rows are dealt to the SparseCores of all chips by their number, so that each has as many;
newer chips have wider lanes.
"""

import dataclasses
import re
from collections.abc import Iterable

from optembed_jax.errors import InputError

ROWS = 8
"""A SparseCore's rows of a table are a multiple of so many."""

# SparseCores that a number of the name stands for, and lanes. The numbers of v5p and tpu7x count
# TensorCores, of which a chip has two beside its four SparseCores, those of v6e count chips.
_CHIPS = {"v5p": (2, 8), "v6e": (2, 8), "tpu7x": (2, 16)}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips with SparseCores.

    Attributes:
      sparse_cores: ``S``, of all chips.
      lanes: numbers that one handles at a time; columns are padded to a multiple.
    """

    sparse_cores: int
    lanes: int = 8

    def padded(self, rows: int, dim: int) -> tuple[int, int]:
        """Rows and columns that a table ``[rows, dim]`` takes."""
        return rounded(rows, ROWS * self.sparse_cores), rounded(dim, self.lanes)

    def padded_bytes(self, rows: Iterable[int], dims: Iterable[int]) -> int:
        """Bytes of float32 that tables take, of those that have columns."""
        tables = [self.padded(r, d) for r, d in zip(rows, dims, strict=True) if d]
        return 4 * sum(r * d for r, d in tables)


def topology_of(name: str) -> Topology:
    """A slice by its accelerator type, such as ``v5p-256``, ``v6e-64`` or ``tpu7x-128``.

    Raises:
      InputError: it is none that is known, or has no SparseCores.
    """
    found = re.fullmatch(r"([a-z0-9]+)-([1-9]\d{0,5})", name)
    if found is None or found[1] not in _CHIPS:
        raise InputError(
            f"a topology is one of {', '.join(f'{c}-N' for c in _CHIPS)}, not {name!r}"
        )
    each, lanes = _CHIPS[found[1]]
    return Topology(each * int(found[2]), lanes)


def rounded(number: int, multiple: int) -> int:
    """The least multiple that is not below a number."""
    return -(-number // multiple) * multiple
