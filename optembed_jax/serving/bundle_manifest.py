"""What a bundle's manifest says of its tables, and how their bytes are counted. NumPy alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.table.composition import Composition, composition_of
from optembed_jax.table.elements import ELEMENTS
from optembed_jax.table.topology import rounded, topology_of

COMPOSITION = "composition"
"""What a manifest has where values read products of stored rows."""

PAD_FOR = "pad_for"
"""What a manifest has where tables are counted as the SparseCores of these chips store them."""


def why_no_plain_tables(manifest: Mapping[str, Any]) -> str | None:
    """Why a bundle is not of tables that other runtimes have; None where it is."""
    if COMPOSITION in manifest:
        return f"values share rows ({manifest[COMPOSITION]['by']})"
    if any(field["storage"] == ELEMENTS for field in manifest["fields"]):
        return f"rows are stored as single numbers ({ELEMENTS}; another --storage is of whole rows)"
    return None


def tables_of(manifest: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Rows and columns of each table: of each field one, or one for all where rows are composed.

    Raises:
      ValueError: rows are composed as they cannot be.
    """
    fields = manifest["fields"]
    if COMPOSITION not in manifest:
        return [(field["rows"], field["dim"]) for field in fields]
    return [(composition_in(manifest).rows, fields[0]["dim"])]


def composition_in(manifest: Mapping[str, Any]) -> Composition:
    """Which stored rows values read products of.

    Raises:
      ValueError: rows are composed as they cannot be.
    """
    return composition_of([field["ids"] for field in manifest["fields"]], manifest[COMPOSITION])


def count_bytes(
    tables: Sequence[tuple[int, int]],
    tensors: Mapping[str, np.ndarray],
    full_rows: int,
    latent_dim: int,
    pad_for: str | None = None,
) -> dict[str, int]:
    """Bytes of a bundle's arrays, and of the full table that they were cut from.

    Args:
      tables: what :func:`tables_of` gave.
      tensors: all arrays by name, as they are stored.
      full_rows: of the full table.
      latent_dim: its columns.
      pad_for: chips whose SparseCores hold the tables, see ``table.topology``.

    Returns:
      ``rows`` with stand-ins and scales, ``rows_padded`` in float32 as SparseCores store them (rows
      and dims rounded up as those of ``pad_for`` ask for it; where there are none each dim to a
      multiple of 8), ``linear``, ``remap``, ``network``, and ``full_table`` in float32.

    Raises:
      InputError: no chips are called ``pad_for``.
    """
    counted = dict.fromkeys(("rows", "linear", "remap", "network", "rows_padded"), 0)
    groups = {"scale": "rows", "elements": "rows", "linear_scale": "linear"}
    for name, tensor in tensors.items():
        group = name.split("/")[0]
        counted[groups.get(group, group)] += tensor.nbytes
    if pad_for is None:
        counted["rows_padded"] = sum(4 * rows * rounded(dim, 8) for rows, dim in tables)
    else:
        rows, dims = zip(*tables, strict=True)
        counted["rows_padded"] = topology_of(pad_for).padded_bytes(rows, dims)
    return counted | {"full_table": 4 * full_rows * latent_dim}
