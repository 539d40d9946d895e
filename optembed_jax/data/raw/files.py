"""Raw files: which are those of a table, and whether one is still what it was when it was read."""

import dataclasses
import fnmatch
import glob
import hashlib
import itertools
import os
import pathlib
import urllib.parse
from collections.abc import Callable, Iterator

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


class NoFiles(InputError):
    """A path leads to no file."""


def part_files(path: str, option: str, split: int | None = None) -> tuple[RawFile, ...]:
    """The files of a table, sorted: one file, those of a folder, or those that fit a pattern.

    In folders, names that begin with a dot or an underscore are passed over, as Spark and Hive do
    (``_SUCCESS``), and what folders below are called may be columns (``day=2024-03-01``).

    Args:
      path: a file, a folder, or a pattern with ``*``, ``?`` or ``[...]``, ``**`` for any folders.
      option: that the path was given by, for messages.
      split: the split number that all rows belong to, if they do.

    Raises:
      NoFiles: there is no such file; the message names the option that should be corrected.
      InputError: files lie in folders that name different columns.
    """
    root = pathlib.Path(path).expanduser()
    if root.is_file():
        return (RawFile(root, split),)
    if root.is_dir():
        found = {file: root for file in _below(root)}
    elif glob.has_magic(path):
        fixed = pathlib.Path(*itertools.takewhile(lambda p: not glob.has_magic(p), root.parts))
        matches = map(pathlib.Path, glob.glob(str(root), recursive=True))
        found = {
            file: fixed
            for match in matches
            for file in (_below(match) if match.is_dir() else (match,))
        }
    elif root.exists():
        raise InputError(
            f"{option}={root} is a pipe or a device, and a table is read more than once; write it "
            "to a file first"
        )
    else:
        raise NoFiles(f"{root} does not exist; correct {option}")
    found = {
        file: base
        for file, base in sorted(found.items())
        if not any(part.startswith((".", "_")) for part in file.relative_to(base).parts)
    }
    for file in found:
        if not file.is_file():
            what = "a link that leads nowhere" if file.is_symlink() else "no file"
            raise InputError(f"{root}: {file} is {what}; put the part there, or remove it")
    files = tuple(
        RawFile(file, split, _partition_of(file.parent.relative_to(base)))
        for file, base in found.items()
    )
    if not files:
        raise NoFiles(f"{root} holds no files; correct {option}")
    names = {tuple(name for name, _ in file.partition) for file in files}
    if len(names) > 1:
        raise InputError(
            f"{root}: files lie in folders that name different columns, "
            f"{' and '.join('/'.join(found) or 'none' for found in sorted(names)[:2])}; correct "
            f"{option}"
        )
    return files


def _below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The files in a folder and those below it, links to folders followed, each folder once."""
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(root))
        folders[:] = [
            name for name in folders if os.path.realpath(os.path.join(root, name)) not in seen
        ]
        yield from (pathlib.Path(root, name) for name in names)


_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def _partition_of(folders: pathlib.PurePath) -> tuple[tuple[str, str | None], ...]:
    found: list[tuple[str, str | None]] = []
    for folder in folders.parts:
        name, equals, value = folder.partition("=")
        name, text = urllib.parse.unquote(name).strip(), urllib.parse.unquote(value)
        if equals and name:
            found.append((name, None if text in (_NO_VALUE, "") else text))
    return tuple(found)


def would_be_part(path: str, file: pathlib.Path) -> bool:
    """Whether a file would be among the parts of a table, were it there.

    Args:
      path: of the table, as of :func:`part_files`.
      file: an absolute path.
    """
    root = pathlib.Path(path).expanduser()
    plain = list(itertools.takewhile(lambda part: not glob.has_magic(part), root.parts))
    pattern = pathlib.Path(*plain).resolve().joinpath(*root.parts[len(plain) :])
    base = len(pattern.parts) - len(root.parts) + len(plain)
    if "**" in pattern.parts:  # Any folders, or none.
        is_among = fnmatch.fnmatchcase(str(file), str(pattern).replace("**/", "*"))
    else:
        alike = zip(file.parts, pattern.parts, strict=False)
        is_among = all(fnmatch.fnmatchcase(*pair) for pair in alike)
        is_among &= len(file.parts) >= len(pattern.parts)
    return is_among and not any(part.startswith((".", "_")) for part in file.parts[base:])


def find_files(folder: str | None, patterns: tuple[str, ...], instructions: str) -> list[RawFile]:
    """The files of a raw folder that match the first pattern that any file matches, sorted.

    A path to one file is taken as it is.

    Raises:
      InputError: no folder given, no such folder, or no such file; the message says what to put
        where.
    """
    if folder is None:
        raise InputError(f"raw_dir is not set. {instructions}")
    root = pathlib.Path(folder).expanduser()
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
