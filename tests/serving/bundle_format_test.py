"""The checks that need no model; whole bundles are refused in tests/bundle_test.py."""

import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy

from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving.bundle_format import BundleError

FILES = {"manifest.json": b"{}", "weights.safetensors": b"w", "forward.jax_export.xz": b"f"}
FILES |= {"README.md": b"r"}


def write(path, files):
    for name, content in files.items():
        (path / name).write_bytes(content)
    (path / "SHA256SUMS").write_bytes(layout.format_sums(files))


def test_sums_are_those_of_sha256sum():
    lines = layout.format_sums(FILES).decode().splitlines()
    assert lines[0] == f"{hashlib.sha256(b'r').hexdigest()}  README.md"
    assert [line.split("  ")[1] for line in lines] == sorted(FILES)


def test_reads_what_was_listed(tmp_path):
    write(tmp_path, FILES)
    (tmp_path / ".DS_Store").write_bytes(b"of no concern")
    assert layout.read_files(tmp_path) == FILES


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s + b"\n", "line 5: not a checksum"),
        (lambda s: s.replace(b"  ", b" "), "line 1: not a checksum"),
        (lambda s: s.replace(b"\n", b"\r\n"), "is damaged|is not a file of a bundle"),
        (lambda s: s + s.splitlines(keepends=True)[0], "is listed twice"),
        (lambda s: b"".join(reversed(s.splitlines(keepends=True))), "SHA256SUMS is damaged"),
        (lambda s: b"".join(s.splitlines(keepends=True)[1:]), "does not list README.md"),
        (lambda s: b"", "does not list"),
        (lambda s: s.replace(b"README.md", b"README\xff"), "is not a file of a bundle"),
    ],
)
def test_refuses_other_lists(tmp_path, edit, message):
    write(tmp_path, FILES)
    (tmp_path / "SHA256SUMS").write_bytes(edit(layout.format_sums(FILES)))
    with pytest.raises(BundleError, match=message):
        layout.read_files(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"[" * 100_000, b'{"format": "optembed-bundle"}', b"\xff"]
)
def test_refuses_other_manifests(tmp_path, content):
    with pytest.raises(BundleError, match="not the manifest of a bundle"):
        layout.read_manifest(tmp_path, {"manifest.json": content})


@pytest.mark.parametrize("version", [0, -1, True, "1", None, 1.0])
def test_refuses_other_versions(tmp_path, version):
    manifest = json.dumps({"format": "optembed-bundle", "format_version": version}).encode()
    with pytest.raises(BundleError, match="says format 'optembed-bundle', version"):
        layout.read_manifest(tmp_path, {"manifest.json": manifest})


def test_an_older_format_says_how_to_export_again(tmp_path):
    manifest = json.dumps({"format": "optembed-bundle", "format_version": 1}).encode()
    message = "has format version 1, .*experiments.export --workdir=DIR --bundle=OUT"
    with pytest.raises(BundleError, match=message):
        layout.read_manifest(tmp_path, {"manifest.json": manifest})
    old = {**FILES, "forward.jax_export": b"f"}
    del old["forward.jax_export.xz"]
    write(tmp_path, old)
    with pytest.raises(BundleError, match=message):
        layout.read_files(tmp_path)


def test_modules_are_packed_and_nothing_else_is_unpacked(tmp_path):
    packed = layout.packed_module(b"module" * 100)
    assert layout.read_module(tmp_path, {"forward.jax_export.xz": packed}) == b"module" * 100
    for wrong in (packed[:-9], packed + b"x", b"", b"module"):
        with pytest.raises(BundleError, match="cannot be unpacked"):
            layout.read_module(tmp_path, {"forward.jax_export.xz": wrong})


def test_reads_tensors_and_their_types(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": np.array(2, np.float32)}
    weights = safetensors.numpy.save(arrays)
    found, types = layout.read_tensors(tmp_path, {"weights.safetensors": weights})
    assert types == {"a": "U8", "b": "F32"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    wide = safetensors.numpy.save({"a": np.zeros(2, np.float64)})
    with pytest.raises(BundleError, match="tensor 'a' has type F64"):
        layout.read_tensors(tmp_path, {"weights.safetensors": wide})
