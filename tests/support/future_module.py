"""A bundle's module as a JAX would write it that is newer than any."""

import dataclasses
import lzma
import re

from jax import export

from optembed_jax.serving.bundle_format import FORWARD, format_sums, packed_module


def from_the_future(module, how="operation"):
    """A serialised module that no JAX of today reads.

    Args:
      module: one that it reads.
      how: "operation" (one in a version that JAX has not: what 0.10 finds in a module of 0.12), or
        "calling convention".
    """
    exported = export.deserialize(bytearray(module))
    if how == "calling convention":
        newest = export.maximum_supported_calling_convention_version
        exported = dataclasses.replace(exported, calling_convention_version=newest + 1)
    else:
        written, count = re.subn(rb"gather_v\d", b"gather_v9", exported.mlir_module_serialized)
        assert count >= 1
        exported = dataclasses.replace(exported, mlir_module_serialized=written)
    return bytes(exported.serialize())


def put_module(folder, change):
    """Replaces the module of a bundle by ``change(module)``, with checksums that fit."""
    content = lzma.decompress((folder / FORWARD).read_bytes())
    (folder / FORWARD).write_bytes(packed_module(change(content)))
    files = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "SHA256SUMS"}
    (folder / "SHA256SUMS").write_bytes(format_sums(files))
