"""Raw files: those of a data set, and whether one is still what it was when it was read."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable

from optembed_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class RawFile:
    """One raw file.

    Attributes:
      path: where it is.
      split: the split number that all of its rows belong to; None when rows are split here.
      partition: columns that its folders' names hold, and their value; None is a missing one.
    """

    path: pathlib.Path
    split: int | None = None
    partition: tuple[tuple[str, str | None], ...] = ()


def find_files(folder: str | None, patterns: tuple[str, ...], instructions: str) -> list[RawFile]:
    """The files of a raw folder that match the first pattern that any file matches, sorted.

    A path to one file is taken as it is.

    Raises:
      InputError: no folder given, no such folder, or no such file; the message says what to put
        where.
    """
    if folder is None:
        raise InputError(f"raw_dir is not set. {instructions}")
    root = pathlib.Path(os.path.expanduser(folder))
    if root.is_file():
        return [RawFile(root)]
    if not root.is_dir():
        raise InputError(f"raw_dir {root} is not a folder. {instructions}")
    for pattern in patterns:
        found = sorted(path for path in root.glob(pattern) if path.is_file())
        if found:
            return [RawFile(path) for path in found]
    raise InputError(f"raw_dir {root} holds no {' or '.join(patterns)}. {instructions}")


@dataclasses.dataclass(frozen=True)
class FileIdentity:
    """What a raw file was when it was prepared.

    Attributes:
      path: its name, links followed.
      size: bytes.
      mtime_ns: the time of its last change, which programs may set as they like (``cp -p``, tar).
      sha256: of its content, hexadecimal.
      ctime_ns: when the system last wrote its content or what it knows of it, which no program
        sets; None where that was not recorded yet.
    """

    path: str
    size: int
    mtime_ns: int
    sha256: str
    ctime_ns: int | None = None

    def is_untouched(self, status: os.stat_result) -> bool:
        """Whether nothing has been done to the file since, so that its content need not be read."""
        known = (self.size, self.mtime_ns) == (status.st_size, status.st_mtime_ns)
        return known and self.ctime_ns in (None, status.st_ctime_ns)


def identify(file: RawFile, given_up: Callable[[], bool] = lambda: False) -> FileIdentity:
    """Reads a raw file through and says what it is.

    Args:
      file: the file.
      given_up: asked now and then; once it says yes the rest is not read, and the answer is wrong.
    """
    status = file.path.stat()
    digest = hashlib.sha256()
    with file.path.open("rb") as stream:
        while not given_up() and (piece := stream.read(2**22)):
            digest.update(piece)
    path = os.path.realpath(file.path)
    return FileIdentity(
        path, status.st_size, status.st_mtime_ns, digest.hexdigest(), status.st_ctime_ns
    )
