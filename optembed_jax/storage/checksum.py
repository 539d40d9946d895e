"""Whether a file is still the one that was written: its size and its SHA-256."""

import hashlib
import os

from etils.epath import Path


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fault(path: str | os.PathLike[str], size: int, digest: str) -> str | None:
    """What is wrong with a file, as a sentence that begins with its path; None where nothing is.

    Args:
      path: the file, in a file system or a bucket.
      size: bytes that it should have.
      digest: the SHA-256 that it should have, hexadecimal.
    """
    file = Path(path)
    if not file.is_file():
        return f"{path} is missing"
    found = file.stat().length
    if found != size:
        return f"{path} has {found} bytes, it should have {size}"
    return None if sha256(path) == digest else f"{path} is damaged: its checksum differs"
