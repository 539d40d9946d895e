"""What a bundle's manifest says of its arrays, compared with them; no JAX is needed.

The manifest describes each field, counts the bytes, and keeps a few rows of ids with the logits
that they got when the bundle was written. Checksums show that files are those that were written;
this shows that they belong together and are still read as they were meant.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving import network_storage
from optembed_jax.serving.bundle_format import BundleError
from optembed_jax.table import packing
from optembed_jax.table.composition import Composition, composition_of, rows_read
from optembed_jax.table.elements import ELEMENTS, are_packed, unpack
from optembed_jax.table.sharing import join, sharing
from optembed_jax.values.cells import MOST_WEIGHT

SAMPLES = 8
"""Rows of ids in a manifest that is written."""

TOLERANCE = 1e-4
"""Largest difference in a sample's logit, relative to the larger of 1 and the logit, where both
sides compute in float32."""

COMPOSITION = "composition"
"""What a manifest has where values read products of stored rows."""

_FLOATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


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
    return [(_composition(manifest).rows, fields[0]["dim"])]


def _composition(manifest: Mapping[str, Any]) -> Composition:
    return composition_of([field["ids"] for field in manifest["fields"]], manifest[COMPOSITION])


def count_bytes(
    tables: Sequence[tuple[int, int]],
    tensors: Mapping[str, np.ndarray],
    full_rows: int,
    latent_dim: int,
) -> dict[str, int]:
    """Bytes of a bundle's arrays, and of the full table that they were cut from.

    Args:
      tables: what :func:`tables_of` gave.
      tensors: all arrays by name, as they are stored.
      full_rows: of the full table.
      latent_dim: its columns.

    Returns:
      ``rows`` with stand-ins and scales, ``rows_padded`` in float32 with each dim rounded up to a
      multiple of 8 as SparseCore stores them, ``linear``, ``remap``, ``network``, and
      ``full_table`` in float32.
    """
    counted = dict.fromkeys(("rows", "linear", "remap", "network", "rows_padded"), 0)
    groups = {"scale": "rows", "elements": "rows", "linear_scale": "linear"}
    for name, tensor in tensors.items():
        group = name.split("/")[0]
        counted[groups.get(group, group)] += tensor.nbytes
    counted["rows_padded"] = sum(4 * rows * -(-dim // 8) * 8 for rows, dim in tables)
    return counted | {"full_table": 4 * full_rows * latent_dim}


def draw_samples(fields: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Ids int32 ``[SAMPLES, F]``, uniform in each field, the same ones for the same fields.

    Of fields with several values ``[SAMPLES, S]``, in the n-th row n of them, as many as there are;
    behind them the bits of weights, where values have some.
    """
    rng, sizes = np.random.default_rng(0), np.array([field["ids"] for field in fields])
    offsets = np.cumsum(sizes) - sizes
    slots = np.array([field.get("slots", 1) for field in fields])
    of_slot = np.repeat(np.arange(len(fields)), slots)
    ids = rng.integers(0, sizes[of_slot], (SAMPLES, len(of_slot))) + offsets[of_slot]
    number = np.arange(len(of_slot)) - (np.cumsum(slots) - slots)[of_slot]
    nothing = (number >= np.arange(SAMPLES)[:, None]) & (slots > 1)[of_slot]
    ids = np.where(nothing, sizes.sum(), ids).astype(np.int32)
    is_weighted = np.array([field.get("weighted", False) for field in fields], bool)[of_slot]
    weights = rng.random((SAMPLES, int(is_weighted.sum())), np.float32) * 2
    weights[nothing[:, is_weighted]] = 0
    return np.concatenate([ids, weights.view(np.int32)], axis=1)


def check_weights(
    ids: np.ndarray,
    is_value: np.ndarray,
    slots: np.ndarray,
    names: Sequence[str],
    field_of_slot: np.ndarray,
) -> None:
    """Compares the weights that stand behind ids with what a weight may be.

    Args:
      ids: int ``[N, S + W]``.
      is_value: bool ``[N, S]``.
      slots: those with weights, ``[W]``.
      names: of the fields.
      field_of_slot: int ``[S]``.

    Raises:
      InputError: naming row and field.
    """
    bits = ids[:, is_value.shape[1] :].astype(np.int32)
    weights = bits.view(np.float32)
    usable = (weights == 0) | ((weights > 0) & (weights <= np.float32(MOST_WEIGHT)))
    bad = is_value[:, slots] & ~usable
    if bad.any():
        row, place = np.argwhere(bad)[0]
        raise InputError(
            f"row {row}: a value of field {names[field_of_slot[slots[place]]]!r} has the weight "
            f"{weights[row, place]}; float32 weights of 0 or more, at most 1e12, stand behind the "
            "ids as the bits of int32 (ids, weights.view(np.int32))"
        )


def check_samples(
    path: pathlib.Path,
    manifest: Mapping[str, Any],
    logits_of: Callable[[np.ndarray], np.ndarray],
    tolerance: float = TOLERANCE,
) -> None:
    """Compare the logits of the manifest's samples with those that the loaded model gives.

    Args:
      path: the bundle, for messages.
      manifest: with ``samples``.
      logits_of: ids int32 ``[N, F]`` to logits ``[N]``.
      tolerance: largest difference, relative to the larger of 1 and the logit.

    Raises:
      BundleError: a logit differs, or there are no samples.
    """
    try:
        ids, expected = (np.asarray(manifest["samples"][name]) for name in ("ids", "logits"))
        if ids.dtype.kind != "i" or expected.dtype.kind != "f" or len(ids) != len(expected):
            raise ValueError(f"{ids.dtype} ids and {expected.dtype} logits")
        if not len(ids) or expected.shape != (len(ids),) or not np.isfinite(expected).all():
            raise ValueError(f"logits {expected}")
        with np.errstate(over="ignore", invalid="ignore"):  # It is what is looked for.
            found = logits_of(ids)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise BundleError(f"{path}: the manifest's samples cannot be scored: {error}") from error
    row = most_different(found, expected, tolerance)
    if row is not None:
        raise BundleError(
            f"{path} gives {found[row]:.6g} for its sample {row}, {expected[row]:.6g} when it was "
            "written: its files do not belong together, or are computed with otherwise here; "
            "export it again"
        )


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Click probabilities float32 ``[N]`` of logits: the sigmoid, which overflows nowhere."""
    wide = logits.astype(np.float64)
    return (0.5 * (1.0 + np.tanh(0.5 * wide))).astype(np.float32)


def most_different(found: np.ndarray, expected: np.ndarray, tolerance: float) -> int | None:
    """The row whose logit differs most, if by more than the tolerance; what is no number does.

    Args:
      found: logits ``[N]``.
      expected: logits ``[N]``.
      tolerance: relative to the larger of 1 and the expected logit.
    """
    difference = np.abs(found - expected) / np.maximum(np.abs(expected), 1.0)
    if (difference <= tolerance).all():
        return None
    return int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))


@dataclasses.dataclass(frozen=True)
class Content:
    """What is in a bundle, checked but for its samples.

    Attributes:
      manifest: what it is.
      tensors: as they are stored; bfloat16 as the uint16 of its bits.
      types: of each tensor, of ``bundle_format.DTYPES``.
      files: the content of each.
    """

    manifest: dict[str, Any]
    tensors: dict[str, np.ndarray]
    types: dict[str, str]
    files: Mapping[str, bytes]

    def served(self, of_bfloat16: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays that are served, see :func:`served`.

        Args:
          of_bfloat16: makes numbers of the bits of bfloat16, uint16.
        """
        tensors = {
            name: of_bfloat16(array) if self.types[name] == "BF16" else array
            for name, array in self.tensors.items()
        }
        return served(self.manifest, tensors)


def served(manifest: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that are served: kernels are float32, rows of codes int8, others as they are; and
    rows of fields that share an array (``table.sharing``) joined, as ``rows/n`` of array ``n``.
    Where rows are composed there is one array, ``rows/0``, and ``places`` and ``signs`` say what
    ids read of it.

    Unpacked once, when a bundle is loaded, and not at each request.
    """
    prefix, kernels = "network/", manifest["kernels"]
    restored = network_storage.restored(
        {n[len(prefix) :]: a for n, a in tensors.items() if n.startswith(prefix)},
        {name: storage for name, (storage, _) in kernels.items()},
        {name: inputs for name, (_, inputs) in kernels.items()},
    )
    found = {n: a for n, a in tensors.items() if not n.startswith(prefix)}
    network = {prefix + name: array for name, array in restored.items()}
    if COMPOSITION in manifest:
        composition = _composition(manifest)
        signs = {} if composition.signs is None else {"signs": composition.signs}
        bits = packing.bits_of(manifest["fields"][0]["storage"])
        if bits is not None:
            dim = manifest["fields"][0]["dim"]
            found["rows/0"] = packing.unpack(found["rows/0"], bits, dim)
        return {**found, "places": composition.places, **signs, **network}
    for number, field in enumerate(manifest["fields"]):
        bits = packing.bits_of(field["storage"])
        if bits is not None:
            name = f"rows/{number}"
            found[name] = packing.unpack(found[name], bits, field["dim"])
        if field["storage"] == ELEMENTS:
            kept = found.pop(f"elements/{number}")
            found[f"rows/{number}"] = unpack(found[f"rows/{number}"], kept, field["dim"])
    arrays = sharing(*zip(*((f["dim"], f["storage"]) for f in manifest["fields"]), strict=True))
    return join(arrays, found) | network


def read_content(path: pathlib.Path) -> Content:
    """Everything of a bundle, after all checks but of its samples.

    Raises:
      BundleError: anything in it is missing, changed, too new or too old, or not as described.
    """
    files = layout.read_files(path)
    manifest = layout.read_manifest(path, files)
    tensors, types = layout.read_tensors(path, files)
    content = Content(manifest, tensors, types, files)
    check_content(path, content)
    return content


def check_content(path: pathlib.Path, content: Content) -> None:
    """Compare arrays with what the manifest says of fields, storage and bytes.

    Raises:
      BundleError: rows, columns, remaps, types or bytes are not as described.
    """
    manifest, tensors, types = content.manifest, content.tensors, content.types
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
        tables = tables_of(manifest)
        if is_composed:
            known |= _check_composed(manifest, tables[0], tensors, types)
        ids = sum(field["ids"] for field in fields)
        if ids >= 2**31:
            raise ValueError("there are more ids than int32 can tell apart")
        if type(manifest["full_rows"]) is not int or not ids <= manifest["full_rows"] < 2**31:
            raise ValueError(f"{ids} ids are of a table of {manifest['full_rows']!r} rows")
        known |= _check_linear(manifest, sum(rows for rows, _ in tables), tensors, types)
        known |= _check_network(manifest, tensors, types)
        if known != set(tensors):
            raise ValueError(f"{sorted(set(tensors) - known)[:3]} belong to nothing")
        counted = count_bytes(tables, tensors, manifest["full_rows"], latent_dim)
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
    read, storage = rows_read(_composition(manifest)).tolist(), fields[0]["storage"]
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
