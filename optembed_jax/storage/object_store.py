"""Paths that may be ``gs://`` ones, and files that are whole or not there at all.

A bucket of Google Cloud Storage has objects instead of files. An object appears when the last byte
of it has arrived, so writing it is atomic by itself; it cannot be renamed, only copied, and it
cannot be added to. Where a file system needs a temporary name and a rename, a bucket needs neither.
"""

import contextlib
import errno
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from optembed_jax.errors import InputError

_BUCKET = "gs://"
_NAME = re.compile(r"[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9]")  # As Google has it, and TensorStore.


def path_of(text: epath.PathLike) -> epath.Path:
    """A path that a person named, in a file system or in a bucket.

    Raises:
      InputError: it is of a kind that is not supported, or the package that reads it is missing.
    """
    named = os.fspath(text)
    scheme, separator, rest = named.partition("://")
    if not separator:
        return epath.Path(_from_home(named))
    if f"{scheme}://" != _BUCKET:
        raise InputError(f"{named}: paths are those of a file system, or begin with {_BUCKET}")
    bucket, _, folder = rest.partition("/")
    if not _NAME.fullmatch(bucket) or not folder.strip("/"):
        raise InputError(f"{named} names no folder of a bucket, such as gs://BUCKET/FOLDER")
    if importlib.util.find_spec("gcsfs") is None:
        raise InputError(
            f"{named} needs the package gcsfs, which is not installed; "
            "install the extra: pip install 'optembed-jax[gcp]'"
        )
    _list_anew()
    path = epath.Path(named)
    try:
        path.exists()
    except Exception as error:  # Of gcsfs, aiohttp and google.auth: credentials, names, networks.
        raise InputError(f"{named} cannot be reached: {error}") from error
    return path


def _list_anew() -> None:
    """No listing of a bucket is kept: TensorStore and other processes write there as well."""
    import fsspec.config  # Comes with the extra, and is of no use without it.

    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)


def in_file_system(text: epath.PathLike, what: str) -> Path:
    """A path that a person named, of something that is read as a file.

    Raises:
      InputError: it is in a bucket, or an empty text; ``what`` is said of it.
    """
    if not os.fspath(text).strip():  # The path of nothing is the current folder.
        raise InputError(
            f"{what} is empty; name a path ('.' is the current folder), or leave it out"
        )
    if "://" in os.fspath(text):
        raise InputError(
            f"{what}={os.fspath(text)}: this is read from a file system only; copy it there, such "
            f"as by `gcloud storage rsync --recursive {os.fspath(text)} DIR`"
        )
    return _from_home(text)


def _from_home(text: epath.PathLike) -> Path:
    """A path with the home folder that ``~`` or ``~user`` stands for.

    Raises:
      InputError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{os.fspath(text)}: no home folder is known of {Path(text).parts[0]}"
        ) from error


def in_bucket(path: epath.PathLike) -> bool:
    """Whether the path is that of an object or a folder in a bucket."""
    return os.fspath(path).startswith(_BUCKET)


def absolute(path: epath.PathLike) -> epath.Path:
    """The path from the root on; one in a bucket is, which epath does not know."""
    return epath.Path(path) if in_bucket(path) else epath.Path(path).absolute()


def is_stream(path: Path) -> bool:
    """Whether there is a pipe or a device, which is written to and never replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_whole(path: epath.PathLike, content: bytes) -> None:
    """Write a file whole or not at all, replacing what is there.

    A link stays, and what it leads to is replaced. A pipe or a device, which is nothing that could
    be half-written, is written to: a file in its place would be a loss for all who use it.

    Raises:
      OSError: it cannot be written.
    """
    if in_bucket(path):
        epath.Path(path).write_bytes(content)
        return
    target = Path(path)
    if is_stream(target):
        target.write_bytes(content)
        return
    target = Path(os.path.realpath(target))
    if target.is_symlink():  # which leads in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def fetched(folder: epath.Path) -> Iterator[Path]:
    """A folder to read as files: itself, or a copy of its objects, which is removed at the end.

    Folders in it are left out.
    """
    if not in_bucket(folder):
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        for item in folder.iterdir() if folder.exists() else ():
            if not item.is_dir():
                (Path(temporary) / item.name).write_bytes(item.read_bytes())
        yield Path(temporary)


@contextlib.contextmanager
def delivered(folder: epath.Path, last: str) -> Iterator[Path]:
    """Where to make a folder of files: there itself, or beside, to be copied to a bucket.

    In a bucket the file named ``last`` goes first and comes last: a folder with it is whole.

    Raises:
      InputError: something without such a file is there, or it cannot be written.
    """
    if not in_bucket(folder):
        yield Path(folder)
        return
    if folder.exists() and not (folder / last).exists():
        raise InputError(f"{folder} exists and has no {last}; choose another folder or remove it")
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / folder.name
        yield made
        names = sorted(file.name for file in made.iterdir() if file.name != last)
        try:
            (folder / last).unlink(missing_ok=True)
            for name in (*names, last):
                write_whole(folder / name, (made / name).read_bytes())
            for item in folder.iterdir():
                if item.name not in (*names, last):
                    item.unlink()
        except Exception as error:  # Of gcsfs, aiohttp and google.auth.
            raise InputError(f"{folder} cannot be written: {error}") from error
