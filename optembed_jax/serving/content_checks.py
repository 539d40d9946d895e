"""A bundle's arrays against what its manifest says of them. NumPy alone."""

import itertools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving import network_storage
from optembed_jax.serving.bundle_format import BundleError
from optembed_jax.serving.bundle_manifest import (
    COMPOSITION,
    PAD_FOR,
    composition_in,
    count_bytes,
    tables_of,
)
from optembed_jax.table import packing
from optembed_jax.table.composition import rows_read
from optembed_jax.table.elements import ELEMENTS, are_packed

_FLOATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def check_arrays(
    path: pathlib.Path,
    manifest: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    types: Mapping[str, str],
) -> None:
    """Compare arrays with what the manifest says of fields, storage and bytes.

    Args:
      path: the bundle, for messages.
      manifest: what it says.
      tensors: as they are stored; bfloat16 as the uint16 of its bits.
      types: of each tensor, of ``bundle_format.DTYPES``.

    Raises:
      BundleError: rows, columns, remaps, types or bytes are not as described.
    """
    try:
        fields, latent_dim = manifest["fields"], manifest["model"]["latent_dim"]
        if not isinstance(manifest["model"]["model"], str):
            raise ValueError(f"the model is {manifest['model']['model']!r}")
        if not fields or type(latent_dim) is not int or latent_dim < 1:
            raise ValueError(f"there are {len(fields)} fields of up to {latent_dim} columns")
        is_composed = COMPOSITION in manifest
        if manifest["format_version"] != layout.version_of(fields, is_composed):
            raise ValueError(f"format version {manifest['format_version']} is of other fields")
        if manifest["model"].get("pooling", "mean") not in ("mean", "sum"):
            raise ValueError(f"cells are pooled by {manifest['model']['pooling']!r}")
        known: set[str] = set()
        for number, field in enumerate(fields):
            _check_described(number, field, latent_dim)
            if not is_composed:
                known |= _check_field(number, field, tensors, types)
        # Before composed rows are reckoned, which takes as much memory as there are ids.
        ids = sum(field["ids"] for field in fields)
        if ids >= 2**31:
            raise ValueError("there are more ids than int32 can tell apart")
        if type(manifest["full_rows"]) is not int or not ids <= manifest["full_rows"] < 2**31:
            raise ValueError(f"{ids} ids are of a table of {manifest['full_rows']!r} rows")
        tables = tables_of(manifest)
        if is_composed:
            known |= _check_composed(manifest, tables[0], tensors, types)
        known |= _check_linear(manifest, sum(rows for rows, _ in tables), tensors, types)
        known |= _check_network(manifest, tensors, types)
        if known != set(tensors):
            raise ValueError(f"{sorted(set(tensors) - known)[:3]} belong to nothing")
        counted = count_bytes(
            tables, tensors, manifest["full_rows"], latent_dim, manifest.get(PAD_FOR)
        )
        if manifest["bytes"] != counted:
            raise ValueError(f"bytes are {counted}, not {manifest['bytes']}")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BundleError(f"{path}: the manifest does not fit the arrays: {error}") from error


def _check_described(number: int, field: Mapping[str, Any], latent_dim: int) -> None:
    """That a field is described by numbers that there can be."""
    name, ids, rows, dim = (field[k] for k in ("name", "ids", "rows", "dim"))
    if not isinstance(name, str) or any(type(n) is not int for n in (ids, rows, dim)):
        raise ValueError(f"field {number} is described by other types than expected")
    slots = field.get("slots", 1)
    if type(slots) is not int or not 1 <= slots < 2**15:
        raise ValueError(f"field {name!r} has {slots!r} slots")
    if type(field.get("weighted", False)) is not bool:
        raise ValueError(f"field {name!r} is weighted {field['weighted']!r}")
    if not (1 <= rows <= ids < 2**31 and 0 <= dim <= latent_dim):
        raise ValueError(f"field {name!r} has {rows} rows of {dim} columns for {ids} ids")


def _check_composed(
    manifest: Mapping[str, Any],
    table: tuple[int, int],
    tensors: Mapping[str, np.ndarray],
    types: Mapping[str, str],
) -> set[str]:
    """The name of the only table's tensor, which is as described."""
    fields = manifest["fields"]
    read, storage = rows_read(composition_in(manifest)).tolist(), fields[0]["storage"]
    for field, rows in zip(fields, read, strict=True):
        if (field["rows"], field["dim"], field["storage"]) != (rows, table[1], storage):
            raise ValueError(
                f"field {field['name']!r} reads {rows} rows of {table[1]} columns in {storage!r}"
            )
    if manifest["linear"] == "int8":
        raise ValueError("linear weights of all fields together have no scale for each field")
    return _check_rows("rows/0", "scale/0", table, storage, tensors, types)


def _check_field(
    number: int,
    field: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    types: Mapping[str, str],
) -> set[str]:
    """Names of the field's tensors, which are as described."""
    name, ids, rows, dim, storage = (field[k] for k in ("name", "ids", "rows", "dim", "storage"))
    found = set()
    if storage == ELEMENTS:
        found = _check_elements(number, (rows, dim, field["numbers"]), tensors, types)
    elif dim:
        found = _check_rows(
            f"rows/{number}", f"scale/{number}", (rows, dim), storage, tensors, types
        )
    elif storage != "float32":
        raise ValueError(f"field {name!r} has no columns, and {storage!r} of them")
    remap = tensors.get(f"remap/{number}")
    if remap is None:
        if ids != rows:
            raise ValueError(f"field {name!r} has {rows} rows for {ids} ids, and no remap")
        return found
    if types[f"remap/{number}"] not in ("U8", "U16", "I32") or remap.shape != (ids,):
        raise ValueError(f"the remap of field {name!r} is {remap.dtype} {remap.shape}")
    if not np.array_equal(np.unique(remap), np.arange(rows)):
        raise ValueError(f"the remap of field {name!r} does not lead to its {rows} rows")
    return found | {f"remap/{number}"}


def _check_elements(
    number: int,
    counts: tuple[int, int, int],
    tensors: Mapping[str, np.ndarray],
    types: Mapping[str, str],
) -> set[str]:
    """Names of the tensors that hold single numbers of a field's rows, which are as described."""
    names = f"rows/{number}", f"elements/{number}"
    if any(name not in tensors for name in names):
        raise ValueError(f"{names[0]} or {names[1]} is missing")
    (rows, dim, kept), (numbers, bits) = counts, (tensors[name] for name in names)
    is_typed = (types[names[0]], types[names[1]]) == ("F32", "U8")
    if not is_typed or len(bits) != rows or not are_packed(numbers, bits, dim):
        raise ValueError(f"{names[0]} holds no numbers of {rows} rows of {dim} columns")
    if kept != len(numbers):
        raise ValueError(f"{names[0]} holds {len(numbers)} numbers, not {kept!r}")
    return set(names)


def _check_rows(
    name: str,
    scale: str,
    shape: tuple[int, int],
    storage: Any,
    tensors: Mapping[str, np.ndarray],
    types: Mapping[str, str],
) -> set[str]:
    """Names of the tensors that hold rows ``[K, d]`` in a storage, which are as described."""
    rows, dim = shape
    if name not in tensors:
        raise ValueError(f"{name} is missing")
    array = tensors[name]
    if storage in _FLOATS:
        if array.shape != shape or types[name] != _FLOATS[storage]:
            raise ValueError(f"{name} is {types[name]} {array.shape}, not {storage} {shape}")
        return {name}
    if storage not in packing.INT_STORAGES:
        raise ValueError(f"{name} is in a storage {storage!r}, which there is not")
    bits = packing.code_bits(storage)
    wanted = (rows, packing.packed_bytes(dim, bits))
    if types[name] != "U8" or array.shape != wanted or not packing.has_only_codes(array, bits, dim):
        raise ValueError(f"{name} holds no {rows} rows of {dim} codes of {bits} bits")
    scales = (1 if packing.is_by_field(storage) else rows,)
    if scale not in tensors or types[scale] != "F16" or tensors[scale].shape != scales:
        raise ValueError(f"{scale} is missing, or is not float16 {scales}")
    return {name, scale}


def _check_linear(
    manifest: Mapping[str, Any],
    rows: int,
    tensors: Mapping[str, np.ndarray],
    types: Mapping[str, str],
) -> set[str]:
    fields, storage, by_id = (manifest[k] for k in ("fields", "linear", "linear_by_id"))
    if type(by_id) is not bool:
        raise ValueError(f"linear_by_id is {by_id!r}")
    if "linear" not in tensors:
        if storage is not None or by_id:
            raise ValueError(f"linear weights in {storage} are missing")
        return set()
    if by_id and all(f"remap/{number}" not in tensors for number in range(len(fields))):
        raise ValueError("linear weights are by id, but no id is without a row")
    expected = (sum(field["ids"] for field in fields) if by_id else rows,)
    if tensors["linear"].shape != expected:
        raise ValueError(f"linear has shape {tensors['linear'].shape}, not {expected}")
    if storage != "int8":
        if types["linear"] != _FLOATS[storage]:
            raise ValueError(f"linear is {types['linear']}, not {storage}")
        return {"linear"}
    scale = tensors["linear_scale"]
    if types["linear"] != "I8" or tensors["linear"].min(initial=0) < -127:
        raise ValueError("linear holds no numbers of 8 bits")
    if types["linear_scale"] != "F16" or scale.shape != (len(fields),):
        raise ValueError(f"linear_scale is {scale.dtype} {scale.shape}, not one for each field")
    return {"linear", "linear_scale"}


def _check_network(
    manifest: Mapping[str, Any], tensors: Mapping[str, np.ndarray], types: Mapping[str, str]
) -> set[str]:
    """Names of the network's tensors, whose types and layers are as described."""
    kernels, found = manifest["kernels"], set()
    for name, (storage, inputs) in kernels.items():
        array, whole = tensors[f"network/{name}"], f"network/{name}"
        if not name.endswith(network_storage.KERNEL) or type(inputs) is not int or inputs < 0:
            raise ValueError(f"{name} is no kernel of {inputs!r} inputs")
        if storage not in network_storage.KERNEL_STORAGES or storage == "float32":
            raise ValueError(f"{name} is stored as {storage!r}")
        shape = (array.shape[0], inputs) if packing.bits_of(storage) else (inputs, array.shape[-1])
        found |= _check_rows(whole, whole + network_storage.SCALE, shape, storage, tensors, types)
    plain = {name for name in tensors if name.startswith("network/")} - found
    wrong = sorted(name for name in plain if types[name] != "F32")
    if wrong:
        raise ValueError(f"{wrong[0]} is {types[wrong[0]]}, not float32")
    stray = sorted(
        name for name in plain if name.endswith(network_storage.KERNEL + network_storage.SCALE)
    )
    if stray:
        raise ValueError(f"{stray[0]} is the scale of no kernel in codes")
    for within in ("", "stream_0/", "stream_1/"):
        widths = []
        for layer in itertools.count():
            name = f"{within}mlp/Dense_{layer}/kernel"
            if f"network/{name}" not in tensors:
                break
            by_output = name in kernels and packing.bits_of(kernels[name][0]) is not None
            widths.append(tensors[f"network/{name}"].shape[0 if by_output else -1])
        if widths and widths != manifest["model"]["mlp_dims"]:
            raise ValueError(f"there are layers of {widths}, not {manifest['model']['mlp_dims']}")
    return found | plain
