import hashlib
import pathlib

import pytest
from etils import epath

from optembed_jax.storage import checksum


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 4_000])
@pytest.mark.parametrize("path_of", [pathlib.Path, epath.Path])
def test_a_file_is_told_from_others_by_size_and_content(tmp_path, content, path_of):
    file = path_of(tmp_path) / "file"
    file.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert checksum.sha256(file) == digest
    assert checksum.fault(file, len(content), digest) is None
    assert checksum.fault(file, len(content), "0" * 64) == (
        f"{file} is damaged: its checksum differs"
    )
    assert checksum.fault(file, len(content) + 1, digest) == (
        f"{file} has {len(content)} bytes, it should have {len(content) + 1}"
    )


def test_what_is_no_file_is_missing(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "nowhere" / "file"):
        assert checksum.fault(path, 0, "") == f"{path} is missing"
