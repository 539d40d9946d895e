"""Which files are a table's: one, those of a folder or that fit a pattern, or several by name."""

import collections
import fnmatch
import glob
import itertools
import os
import pathlib
import urllib.parse
from collections.abc import Iterator

from optembed_jax.data.raw.files import RawFile
from optembed_jax.errors import InputError


class NoFiles(InputError):
    """A path leads to no file."""


def part_files(path: str, option: str, split: int | None = None) -> tuple[RawFile, ...]:
    """The files of a table: one file, those of a folder or that fit a pattern, sorted, or several.

    In folders, names that begin with a dot or an underscore are passed over, as Spark and Hive do
    (``_SUCCESS``), and what folders below are called may be columns (``day=2024-03-01``).

    Args:
      path: a file, a folder, a pattern with ``*``, ``?`` or ``[...]``, ``**`` for any folders, or
        several of these with commas between them, in their order.
      option: that the path was given by, for messages.
      split: the split number that all rows belong to, if they do.

    Raises:
      NoFiles: there is no such file; the message names the option that should be corrected.
      InputError: files lie in folders that name different columns, or one is there twice.
    """
    paths = paths_of(path)
    files = tuple(file for one in paths for file in _files_of(one, option, split))
    names = {tuple(name for name, _ in file.partition) for file in files}
    if len(names) > 1:
        raise InputError(
            f"{path}: files lie in folders that name different columns, "
            f"{' and '.join('/'.join(found) or 'none' for found in sorted(names)[:2])}; correct "
            f"{option}"
        )
    if len(paths) > 1:
        counts = collections.Counter(os.path.realpath(file.path) for file in files)
        file, count = counts.most_common(1)[0]
        if count > 1:
            raise InputError(f"{path} names the file {file} more than once; correct {option}")
    return files


def paths_of(path: str) -> tuple[str, ...]:
    """The paths that stand between commas, without blanks around; one that is there, or a pattern
    that fits files, is one path whatever it is called.
    """
    if "," not in path or os.path.exists(os.path.expanduser(path)) or glob.glob(path):
        return (path,)
    return tuple(filter(None, map(str.strip, path.split(",")))) or (path,)


def absolute(path: str) -> str:
    """The same paths from the root on, links followed.

    Raises:
      InputError: one of several has a comma, which would then divide it.
    """
    # Path.resolve ends in an error of its own where links lead in a circle: reading tells.
    found = [os.path.realpath(os.path.expanduser(one)) for one in paths_of(path)]
    if len(found) > 1 and any("," in one for one in found):
        raise InputError(
            f"{path}: with commas between them several paths cannot have some; give a pattern"
        )
    return ",".join(found)


def _files_of(path: str, option: str, split: int | None) -> tuple[RawFile, ...]:
    """The files of one path; see :func:`part_files`."""
    root = pathlib.Path(os.path.expanduser(path))
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
    for part in files:
        own = [name for name, _ in part.partition]
        twice = next((name for name in own if own.count(name) > 1), None)
        if twice is not None:
            raise InputError(
                f"{part.path} lies in folders that name the column {twice!r} twice; rename one"
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
    return any(_would_be_part(one, file) for one in paths_of(path))


def _would_be_part(path: str, file: pathlib.Path) -> bool:
    root = pathlib.Path(os.path.expanduser(path))
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
