import hashlib

import pytest

from optembed_jax.data.raw import files
from optembed_jax.errors import InputError


def test_identity_of_a_file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"abc" * 3_000_000)
    found = files.identify(files.RawFile(path))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.size, found.path) == (9_000_000, str(path))
    asked = iter([False, True])
    cut = files.identify(files.RawFile(path), lambda: next(asked))
    assert cut.sha256 != found.sha256


def test_the_first_pattern_that_matches_decides(tmp_path):
    for name in ("train_2.txt", "train_1.txt", "test.txt"):
        (tmp_path / name).write_text("x")
    found = files.find_files(str(tmp_path), ("train.txt", "train*.txt", "*"), "Put it here.")
    assert [file.path.name for file in found] == ["train_1.txt", "train_2.txt"]
    (one,) = files.find_files(str(tmp_path / "test.txt"), ("train.txt",), "")
    assert one.path.name == "test.txt"
    with pytest.raises(InputError, match=r"holds no a or b\. Put it here"):
        files.find_files(str(tmp_path), ("a", "b"), "Put it here.")
