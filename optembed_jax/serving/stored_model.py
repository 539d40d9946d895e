"""A compact model as it is stored: rows, linear weights and kernels in few bits, and by name.

stored = store(params, batch_stats, index, Storage.uniform("int8", num_fields))
stored.live()  # what it gives: the same model with the numbers that the bits stand for
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from optembed_jax.errors import InputError
from optembed_jax.models.params import Params
from optembed_jax.serving import network_storage
from optembed_jax.serving.compact_model import fold_for_serving, with_norms
from optembed_jax.table import elements
from optembed_jax.table.compact import CompactIndex, CompactTable, quantize_linear, quantize_table
from optembed_jax.table.composed import ComposedIndex
from optembed_jax.table.elements import ELEMENTS
from optembed_jax.table.packing import bits_of, code_bits, pack
from optembed_jax.table.quantize import STORAGES, ScaledRows, quantize_rows, storage_of

LINEAR_STORAGES = ("float32", "float16", "bfloat16", "int8")


@dataclasses.dataclass(frozen=True)
class Storage:
    """In how many bits the parts of a model are stored.

    Attributes:
      rows: of each field, one of ``quantize.STORAGES``, or ``elements.ELEMENTS``.
      linear: one of ``LINEAR_STORAGES``; codes have a scale for each field.
      kernels: of the network's kernels by name (``mlp/Dense_0/kernel``), one of
        ``network_storage.KERNEL_STORAGES``; those that are not named are float32.

    Raises:
      InputError: an unknown storage.
    """

    rows: tuple[str, ...]
    linear: str = "float32"
    kernels: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, given, known in (
            ("rows", self.rows, (*STORAGES, ELEMENTS)),
            ("linear weights", (self.linear,), LINEAR_STORAGES),
            ("kernels", self.kernels.values(), network_storage.KERNEL_STORAGES),
        ):
            if unknown := [storage for storage in given if storage not in known]:
                raise InputError(
                    f"storage of {what} must be one of {', '.join(known)}, not {unknown[0]!r}"
                )

    @classmethod
    def uniform(
        cls,
        storage: str,
        num_fields: int,
        kernels: Sequence[str] = (),
        *,
        is_composed: bool = False,
    ) -> "Storage":
        """All rows in one storage, linear weights and kernels likewise, but in no less than 8 bits.

        Linear weights of composed rows are in no less than 16: quotients and remainders, which
        differ in size, would share a scale.

        Raises:
          InputError: an unknown storage.
        """
        if storage not in STORAGES:
            raise InputError(f"storage must be one of {', '.join(STORAGES)}, not {storage!r}")
        has_codes = bits_of(storage) is not None
        of_kernels = "int8" if has_codes else "float16" if storage != "float32" else "float32"
        return cls(
            rows=(storage,) * num_fields,
            linear=("float16" if is_composed else "int8") if has_codes else storage,
            kernels=dict.fromkeys(kernels, of_kernels),
        )


@dataclasses.dataclass(frozen=True)
class StoredModel:
    """A compact model in its storage.

    Attributes:
      table: rows and linear weights as they are stored.
      network: arrays by name as they are stored.
      storage: of all parts.
      inputs: of each kernel that is stored in codes.
    """

    table: CompactTable
    network: Mapping[str, np.ndarray]
    storage: Storage
    inputs: Mapping[str, int]

    def restored_network(self) -> dict[str, np.ndarray]:
        """The network's arrays as they take part in products, float32 by name."""
        return network_storage.restored(self.network, self.storage.kernels, self.inputs)

    def live(self) -> tuple[Params, Any]:
        """Parameters and batch statistics that give what the stored model gives."""
        nested = traverse_util.unflatten_dict(self.restored_network(), sep="/")
        network, batch_stats = with_norms(jax.tree.map(jnp.asarray, nested))
        return Params(table=self.table, thresholds=None, network=network), batch_stats


def served_network(params: Params, batch_stats: Any) -> dict[str, np.ndarray]:
    """The arrays of a compact model's network as they are served, folded, float32 by name."""
    flat = traverse_util.flatten_dict(fold_for_serving(params, batch_stats).network, sep="/")
    return {name: np.asarray(flat[name], np.float32) for name in sorted(flat)}


def store(
    params: Params,
    batch_stats: Any,
    index: CompactIndex | ComposedIndex,
    storage: Storage | None = None,
) -> StoredModel:
    """A compact model in few bits.

    Args:
      params: compact, in float32.
      batch_stats: its running batch statistics.
      index: of the compact table.
      storage: of its parts; None stores float32.

    Raises:
      InputError: parameters that are not compact or not finite, or too large for their storage.
    """
    if not isinstance(params.table, CompactTable):
        raise InputError("a bundle holds a compact model; call compact_model.compact first")
    storage = storage or Storage(("float32",) * len(index.dims))
    network = served_network(params, batch_stats)
    for name, array in network.items():
        if not np.isfinite(array).all():
            raise InputError(f"{name} holds values that are not finite; such a model serves nobody")
    rows = [storage.rows[field] for field in index.fields_with_columns]
    # In elements there are the same numbers, in fewer bytes.
    table = quantize_table(params.table, ["float32" if s == ELEMENTS else s for s in rows])
    if params.table.linear is not None:
        if storage.linear == "int8":
            assert isinstance(index, CompactIndex), "composed rows have no scale for each field"
            table = quantize_linear(table, index)
        else:
            linear = quantize_rows(params.table.linear[:, None], storage.linear)
            assert not isinstance(linear, ScaledRows)
            table = dataclasses.replace(table, linear=linear[:, 0])
    return StoredModel(
        table=table,
        network=network_storage.stored(network, storage.kernels),
        storage=storage,
        inputs={name: network[name].shape[0] for name in storage.kernels},
    )


def tensors_of(stored: StoredModel, index: CompactIndex | ComposedIndex) -> dict[str, np.ndarray]:
    """All arrays of a stored model by name.

    Returns:
      ``rows/f``, ``scale/f`` (of codes), ``elements/f`` (of single numbers) and ``remap/f`` of
      field number ``f``, ``linear`` and
      ``linear_scale``, and ``network/...``.
    """
    tensors: dict[str, Any] = {}
    for field, rows in zip(index.fields_with_columns, stored.table.rows, strict=True):
        if isinstance(rows, ScaledRows):
            bits = code_bits(rows.storage)
            tensors[f"rows/{field}"] = pack(np.asarray(rows.values), bits)
            tensors[f"scale/{field}"] = rows.scale
        elif stored.storage.rows[field] == ELEMENTS:
            numbers, mask = elements.pack(np.asarray(rows))
            tensors |= {f"rows/{field}": numbers, f"elements/{field}": mask}
        else:
            tensors[f"rows/{field}"] = rows
    for field, remap in enumerate(index.remap):
        if remap is not None:
            tensors[f"remap/{field}"] = remap
    for name in ("linear", "linear_scale"):
        if getattr(stored.table, name) is not None:
            tensors[name] = getattr(stored.table, name)
    tensors |= {f"network/{name}": array for name, array in stored.network.items()}
    # Not ascontiguousarray, which gives scalars an axis.
    return {name: np.asarray(value, order="C") for name, value in tensors.items()}


def describe_fields(
    names: Sequence[str], index: CompactIndex | ComposedIndex, stored: StoredModel
) -> list[dict[str, Any]]:
    """What the manifest says of each field."""
    rows = index.by_field(stored.table.rows)
    slots = (1,) * len(names) if index.bags is None else index.bags.slots
    weighted = (index.bags.weighted if index.bags else ()) or (False,) * len(names)
    several = [
        ({"slots": own} if own > 1 else {}) | ({"weighted": True} if is_weighted else {})
        for own, is_weighted in zip(slots, weighted, strict=True)
    ]
    return [
        {
            "name": name,
            "ids": index.sizes[field],
            "rows": index.kept[field],
            "dim": index.dims[field],
            "storage": storage_of(rows[field]) if field in rows else "float32",
            **several[field],
            **_elements(stored, field, rows),
        }
        for field, name in enumerate(names)
    ]


def _elements(stored: StoredModel, field: int, rows: Mapping[int, Any]) -> dict[str, Any]:
    """What more is said of a field of which single numbers are stored."""
    if field not in rows or stored.storage.rows[field] != ELEMENTS:
        return {}
    return {"storage": ELEMENTS, "numbers": int(np.count_nonzero(np.asarray(rows[field])))}
