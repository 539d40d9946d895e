"""The bundle's files, and every check that needs no JAX: names, checksums, versions, shapes.

A bundle is a folder that is complete in itself::

    SHA256SUMS           checksum of every other file; `sha256sum -c SHA256SUMS` reads it too
    manifest.json        what the bundle is: model, fields, tensors, metrics, versions, flags
    weights.safetensors  the compact table and the network
    forward.jax_export.xz  ids to logits, a serialised jax.export module, compressed
    vocabulary.safetensors  raw values, in the order of their ids (absent where only ids are served)
    encoder.json         how raw columns become fields (absent likewise)
    tables.safetensors.xz  what fields look values up in (absent where none does)
    counts.safetensors   training rows that had each id (only where asked for)
    README.md            the model card

Reading goes from the outside in: the list of files, then their checksums, then the manifest, then
the tensors against the manifest; what they mean is compared in ``bundle_content``. Nothing is
unpickled and nothing is executed here.
"""

import hashlib
import json
import lzma
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
from numpy.typing import DTypeLike

from optembed_jax.errors import InputError
from optembed_jax.table.elements import ELEMENTS
from optembed_jax.values.xz import unpacked

FORMAT = "optembed-bundle"
FORMAT_VERSION = 6

OF_WHOLE_ROWS = 5
"""Of a bundle whose values each have a whole row of their own, or their field's first."""

WITHOUT_VALUE_WEIGHTS = 4
"""Of a bundle with several values in a cell, none of which has a weight."""

WITHOUT_BAGS = 3
"""Of a bundle whose fields all have one value in a cell, which older packages read too."""

SUMS = "SHA256SUMS"
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
FORWARD = "forward.jax_export.xz"
VOCABULARY = "vocabulary.safetensors"
ENCODER = "encoder.json"
TABLES = "tables.safetensors.xz"
COUNTS = "counts.safetensors"
CARD = "README.md"

REQUIRED = (MANIFEST, WEIGHTS, FORWARD, CARD)
OPTIONAL = (VOCABULARY, ENCODER, TABLES, COUNTS)

_OLD = ("vocabulary.parquet", "forward.jax_export")  # of version 1

DTYPES: Mapping[str, DTypeLike] = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,  # NumPy has no bfloat16: its bits.
    "I32": np.int32,
    "U16": np.uint16,
    "U8": np.uint8,
    "I8": np.int8,
}
"""Element types in a bundle, and how NumPy sees them."""

_LARGEST_MODULE = 2**28  # bytes, unpacked: some thousand times any that is written
_DEEPEST = 12  # levels of a manifest: enough for flags, and far from where recursion ends


class BundleError(InputError):
    """A bundle cannot be read, is damaged, or is not what its manifest says."""


def check_replaceable(path: pathlib.Path) -> None:
    """Refuses to write a bundle where something else would be lost.

    Raises:
      InputError: there is something that is no bundle, or more in it than a bundle's files.
    """
    if not path.exists():
        return
    # Other folders have a list of checksums too.
    if not all((path / name).is_file() for name in (SUMS, MANIFEST)):
        raise InputError(f"{path} exists and is no bundle; choose another --bundle or remove it")
    known = {SUMS, *REQUIRED, *OPTIONAL, *_OLD}
    other = sorted({file.name for file in path.iterdir()} - known)
    if other:
        raise InputError(
            f"{path} has more in it than a bundle, such as {other[0]!r}, which would be lost; "
            "move that elsewhere, or choose another --bundle"
        )


def read_files(path: pathlib.Path) -> dict[str, bytes]:
    """The files of a bundle by name, each compared with its checksum.

    Raises:
      BundleError: the folder, the list or a file is missing or unreadable; a name is none of a
        bundle's or leads out of the folder; a checksum differs.
    """
    if not path.is_dir():
        raise BundleError(f"no bundle at {path}: it is not a folder")
    sums = _read(path, SUMS)
    files: dict[str, bytes] = {}
    expected = _parse_sums(path, sums)
    for name, digest in expected.items():
        content = _read(path, name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise BundleError(f"{path / name} is damaged: its checksum differs; export it again")
        files[name] = content
    if _sums_of(expected) != sums:
        raise BundleError(f"{path / SUMS} is damaged; export the bundle again")
    return files


def format_sums(files: Mapping[str, bytes]) -> bytes:
    """The content of ``SHA256SUMS``."""
    return _sums_of({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


def _sums_of(digests: Mapping[str, str]) -> bytes:
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def _too_old(path: pathlib.Path, version: int) -> BundleError:
    return BundleError(
        f"{path} has format version {version}, which is not read any more; write it again from its "
        "run: python -m experiments.export --workdir=DIR --bundle=OUT"
    )


def version_of(fields: Sequence[Mapping[str, Any]], is_composed: bool = False) -> int:
    """The format version of a bundle with these fields, and whether rows are composed."""
    if is_composed or any(field["storage"] == ELEMENTS for field in fields):
        return FORMAT_VERSION
    if any(field.get("weighted", False) for field in fields):
        return OF_WHOLE_ROWS
    has_bags = any(field.get("slots", 1) != 1 for field in fields)
    return WITHOUT_VALUE_WEIGHTS if has_bags else WITHOUT_BAGS


def packed_module(module: bytes) -> bytes:
    """A serialised module as it is stored."""
    return lzma.compress(module, preset=9)


def read_module(path: pathlib.Path, files: Mapping[str, bytes]) -> bytes:
    """The serialised module of a bundle.

    Raises:
      BundleError: it cannot be unpacked.
    """
    try:
        return unpacked(files[FORWARD], _LARGEST_MODULE)
    except ValueError as error:
        raise BundleError(f"{path / FORWARD} cannot be unpacked: {error}") from error


def read_manifest(path: pathlib.Path, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The manifest of a bundle, of a version that this code reads.

    Args:
      path: the bundle, for messages.
      files: what :func:`read_files` gave.

    Raises:
      BundleError: it is no manifest, or of a newer format.
    """
    try:
        manifest = json.loads(files[MANIFEST])
        kind, version = manifest["format"], manifest["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{path / MANIFEST} is not the manifest of a bundle: {error!r}"
        ) from error
    if not _is_shallow(manifest, _DEEPEST):
        raise BundleError(f"{path / MANIFEST} is nested deeper than any manifest")
    if kind != FORMAT or type(version) is not int or version < 1:
        raise BundleError(f"{path / MANIFEST} says format {kind!r}, version {version!r}")
    if version < WITHOUT_BAGS:
        raise _too_old(path, version)
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{path} has format version {version}, this package reads up to {FORMAT_VERSION}; "
            "install a newer optembed-jax"
        )
    if (VOCABULARY in files) != (ENCODER in files):
        raise BundleError(f"{path} has one of {VOCABULARY} and {ENCODER}, which belong together")
    if TABLES in files and ENCODER not in files:
        raise BundleError(f"{path} has {TABLES}, but no {ENCODER} that says what they are for")
    return manifest


def read_tensors(
    path: pathlib.Path, files: Mapping[str, bytes]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a bundle.

    Returns:
      Arrays by name, bfloat16 as the uint16 of its bits; and the type of each, of ``DTYPES``.

    Raises:
      BundleError: the file is no safetensors, or holds another type, or a value that is infinite
        or no number.
    """
    try:
        entries = safetensors.deserialize(files[WEIGHTS])
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise BundleError(f"{path / WEIGHTS} cannot be read: {error}") from error
    tensors, types = {}, {}
    for name, entry in entries:
        if entry["dtype"] not in DTYPES:
            raise BundleError(f"{path / WEIGHTS}: tensor {name!r} has type {entry['dtype']}")
        array = np.frombuffer(entry["data"], DTYPES[entry["dtype"]])
        if not _is_finite(array, entry["dtype"]):
            raise BundleError(f"{path / WEIGHTS}: tensor {name!r} holds a value that is no number")
        tensors[name], types[name] = array.reshape(entry["shape"]), entry["dtype"]
    return tensors, types


def _is_finite(array: np.ndarray, dtype: str) -> bool:
    if dtype == "BF16":  # Its exponent has the place of float32's upper half.
        return bool(((array & 0x7F80) != 0x7F80).all())
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _is_shallow(value: Any, levels: int) -> bool:
    """Whether JSON is nested at most so deep."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in inner)


def _parse_sums(path: pathlib.Path, content: bytes) -> dict[str, str]:
    """Names and checksums; the caller compares the bytes with :func:`format_sums`."""
    sums = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None:
            raise BundleError(f"{path / SUMS}, line {number}: not a checksum and a file name")
        name = match[2]
        if name in _OLD:
            raise _too_old(path, 1)
        if name not in (*REQUIRED, *OPTIONAL):
            raise BundleError(
                f"{path / SUMS}, line {number}: {name!r} is not a file of a bundle; "
                "a bundle's files lie directly in its folder"
            )
        if name in sums:
            raise BundleError(f"{path / SUMS}, line {number}: {name} is listed twice")
        sums[name] = match[1]
    for name in REQUIRED:
        if name not in sums:
            raise BundleError(f"{path / SUMS} does not list {name}; the bundle is incomplete")
    return sums


def _read(path: pathlib.Path, name: str) -> bytes:
    file = path / name
    if file.is_symlink():
        raise BundleError(f"{file} is a link; the files of a bundle lie in its folder")
    try:
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror or error}") from error
