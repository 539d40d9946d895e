"""What a bundle's manifest says of its arrays, compared with them; no JAX is needed.

The manifest describes each field, counts the bytes, and keeps a few rows of ids with the logits
that they got when the bundle was written. Checksums show that files are those that were written;
this shows that they belong together and are still read as they were meant.
"""

import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving.bundle_format import BundleError

SAMPLES = 8
"""Rows of ids in a manifest that is written."""

TOLERANCE = 1e-4
"""Largest difference in a sample's logit, relative to the larger of 1 and the logit, where both
sides compute in float32."""

_STORED_AS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}


def count_bytes(
    fields: Sequence[Mapping[str, Any]], tensors: Mapping[str, np.ndarray], latent_dim: int
) -> dict[str, int]:
    """Bytes of a bundle's arrays, and of the full table that they were cut from.

    Args:
      fields: of each field its ``rows`` and the like.
      tensors: all arrays by name.
      latent_dim: columns of the full table.

    Returns:
      ``rows`` with OOV vectors and scales, ``rows_padded`` with each dim rounded up to a multiple
      of 8 as SparseCore stores them, ``linear``, ``remap``, ``network`` with its statistics, and
      ``full_table`` in float32.
    """
    counted = dict.fromkeys(("rows", "linear", "remap", "network", "rows_padded"), 0)
    for name, tensor in tensors.items():
        group = name.split("/")[0]
        if group in ("rows", "scale"):
            counted["rows"] += tensor.nbytes
            counted["rows_padded"] += tensor.nbytes
        elif group in ("linear", "remap"):
            counted[group] += tensor.nbytes
        else:
            counted["network"] += tensor.nbytes
        if group == "rows":
            count, dim = tensor.shape
            counted["rows_padded"] += count * (-dim % 8) * tensor.itemsize
    return counted | {"full_table": 4 * sum(field["rows"] for field in fields) * latent_dim}


def draw_samples(fields: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Ids int32 ``[SAMPLES, F]``, uniform in each field, the same ones for the same fields."""
    rng, sizes = np.random.default_rng(0), np.array([field["rows"] for field in fields])
    offsets = np.cumsum(sizes) - sizes
    return (rng.integers(0, sizes, (SAMPLES, len(sizes))) + offsets).astype(np.int32)


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


def read_content(
    path: pathlib.Path,
) -> tuple[dict[str, bytes], dict[str, Any], dict[str, np.ndarray]]:
    """The files, the manifest and the tensors of a bundle, after all checks but of its samples.

    Raises:
      BundleError: anything in it is missing, changed, too new, or not as described.
    """
    files = layout.read_files(path)
    manifest = layout.read_manifest(path, files)
    tensors = layout.read_tensors(path, files, manifest)
    check_content(path, files, manifest, tensors)
    return files, manifest, tensors


def check_content(
    path: pathlib.Path,
    files: Mapping[str, bytes],
    manifest: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
) -> None:
    """Compare arrays and files with what the manifest says of fields, storage and bytes.

    Raises:
      BundleError: rows, columns, remap, types or bytes are not as described.
    """
    try:
        fields, latent_dim = manifest["fields"], manifest["model"]["latent_dim"]
        if not isinstance(manifest["model"]["model"], str):
            raise ValueError(f"the model is {manifest['model']['model']!r}")
        if not fields or type(latent_dim) is not int or latent_dim < 1:
            raise ValueError(f"there are {len(fields)} fields of up to {latent_dim} columns")
        for number, field in enumerate(fields):
            _check_field(number, field, tensors, latent_dim)
        if sum(field["rows"] for field in fields) >= 2**31:
            raise ValueError("there are more rows than int32 ids can tell apart")
        _check_types(manifest, tensors)
        if type(manifest["prunes_linear"]) is not bool:
            raise ValueError(f"prunes_linear is {manifest['prunes_linear']!r}")
        expected = sum(f["rows_kept"] if manifest["prunes_linear"] else f["rows"] for f in fields)
        if "linear" in tensors and tensors["linear"].shape != (expected,):
            raise ValueError(f"linear has shape {tensors['linear'].shape}, not ({expected},)")
        _check_layers(manifest["model"]["mlp_dims"], tensors)
        _check_bytes(files, manifest, count_bytes(fields, tensors, latent_dim))
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: the manifest does not fit the arrays: {error}") from error


def disk_bytes(files: Mapping[str, bytes]) -> dict[str, int]:
    """Bytes of each file but the two that say so."""
    told = set(files) - {layout.MANIFEST, layout.CARD}
    return {name: len(files[name]) for name in sorted(told)}


def _check_field(
    number: int, field: Mapping[str, Any], tensors: Mapping[str, np.ndarray], latent_dim: int
) -> None:
    name, rows, kept, dim = field["name"], field["rows"], field["rows_kept"], field["dim"]
    has_oov = field["has_oov_row"]
    if not (
        isinstance(name, str)
        and all(type(n) is int for n in (rows, kept, dim))
        and type(has_oov) is bool
    ):
        raise ValueError(f"field {number} is described by other types than expected")
    stored = kept + has_oov
    if not (0 <= kept <= rows and 1 <= rows < 2**31 and 0 <= dim <= latent_dim):
        raise ValueError(f"field {name!r} keeps {kept} of {rows} rows and {dim} columns")
    table, remap = tensors.get(f"rows/{number}"), tensors.get(f"remap/{number}")
    if (None if table is None else table.shape) != ((stored, dim) if dim else None):
        raise ValueError(f"field {name!r} should have {stored} rows of {dim} columns")
    scale = tensors.get(f"scale/{number}")
    if scale is not None and scale.shape != (stored,):
        raise ValueError(f"field {name!r} should have {stored} scales")
    if (remap is not None) != (0 < kept < rows):
        raise ValueError(f"field {name!r} keeps {kept} of {rows} rows, which its remap denies")
    if remap is not None and (remap.shape != (rows,) or not _is_remap(remap, kept)):
        raise ValueError(f"the remap of field {name!r} does not lead to its {kept} rows")


def _is_remap(remap: np.ndarray, kept: int) -> bool:
    """Whether the kept rows come in order, once each, and all others lead behind them."""
    return bool(
        np.array_equal(remap[remap != kept], np.arange(kept)) and remap.max(initial=0) <= kept
    )


def _check_types(manifest: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Whether rows are stored as the manifest says, scaled or not."""
    storage, described = manifest["storage"], manifest["tensors"]
    if storage not in _STORED_AS:
        raise ValueError(f"storage {storage!r} is none of {', '.join(_STORED_AS)}")
    for name in tensors:
        group, _, rest = name.partition("/")
        if group == "rows" and described[name]["dtype"] != _STORED_AS[storage]:
            raise ValueError(f"{name} is {described[name]['dtype']}, not of storage {storage}")
        if group == "rows" and (f"scale/{rest}" in tensors) != (storage == "int8"):
            raise ValueError(f"{name} has scales or not, against storage {storage}")
        if group == "scale" and f"rows/{rest}" not in tensors:
            raise ValueError(f"{name} is the scale of nothing")


def _check_layers(mlp_dims: Any, tensors: Mapping[str, np.ndarray]) -> None:
    """Whether the perceptron, where there is one, has the layers that the manifest says."""
    kernels = itertools.takewhile(
        tensors.__contains__, (f"network/mlp/Dense_{layer}/kernel" for layer in itertools.count())
    )
    widths = [tensors[name].shape[-1] for name in kernels]
    if widths and widths != mlp_dims:
        raise ValueError(f"there are layers of {widths}, not {mlp_dims}")


def _check_bytes(
    files: Mapping[str, bytes], manifest: Mapping[str, Any], counted: Mapping[str, Any]
) -> None:
    told, found = manifest["bytes"], {**counted, "disk": disk_bytes(files)}
    if told != found:
        raise ValueError(f"bytes are {found}, not {told}")
