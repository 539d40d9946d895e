"""The catalog of prepared data sets: `prepare` builds what is not there yet and loads what is."""

import contextlib
import dataclasses
import errno
import fcntl
import glob
import hashlib
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from optembed_jax.data.formats.registry import DATASETS
from optembed_jax.data.loading import load, read_folder
from optembed_jax.data.manifest import (
    MANIFEST,
    VOCABULARY,
    read_manifest,
    sources_of,
    verify_files,
)
from optembed_jax.data.options import PATH_OPTIONS, DataOptions, usual_encoding
from optembed_jax.data.prepared import PreparedData
from optembed_jax.data.preparing.builder import BlockConfig, builder_of
from optembed_jax.data.preparing.engines import EngineOptions, engine_of
from optembed_jax.data.progress import Callback, Progress
from optembed_jax.data.raw import part_files
from optembed_jax.data.raw.files import FileIdentity
from optembed_jax.errors import InputError
from optembed_jax.storage import checksum


def prepare(
    name: str,
    options: DataOptions,
    data_dir: str | os.PathLike[str],
    progress: Callback | None = None,
    fingerprint: str | None = None,
    engine: EngineOptions | None = None,
) -> PreparedData:
    """Prepares a data set, or loads it where it is prepared already.

    The folder is ``data_dir/name/config/version``, where the config depends on every option that
    the data set uses. It comes to be by one rename when all of it is written, so it is either
    complete or absent, whatever happens on the way. Of several processes that prepare the same
    data set at once, one works and the others wait for it.

    Where raw files have another content than what was prepared of them, as a file that is written
    anew every day, they are prepared beside it: ``config-2``, ``config-3``. Raw files that are gone
    are not missed.

    Args:
      name: one of `DATASETS`.
      options: how to prepare it.
      data_dir: the folder of all prepared data sets; it is made if need be.
      progress: called with a `Progress` now and then; may be None.
      fingerprint: of the prepared data that are wanted if they are there, also where the raw files
        have changed since or are no longer at hand, such as those that a run was begun with. Other
        options, or other files that exist, are prepared all the same.
      engine: who does the work, if there is some; None: the threads of this process. The prepared
        data are the same, bit for bit, whoever does.

    Returns:
      The prepared data, verified.

    Raises:
      InputError: an option, a raw file, or a row that cannot be used; the prepared folder is
        damaged; the disk is full.
    """
    used = options.used_by(name)
    open_engine = engine_of(engine or EngineOptions())
    paths: dict[str, Any] = {}
    for option in PATH_OPTIONS:
        if used.get(option) is not None:
            used[option] = paths[option] = part_files.absolute(str(used[option]))
    options = dataclasses.replace(options, **paths)
    if not str(data_dir).strip():  # The path of nothing is the current folder.
        raise InputError("data_dir must be a folder, not an empty text; '.' is the current one")
    root = pathlib.Path(data_dir).expanduser()
    if fingerprint is not None:
        known = _with_fingerprint(fingerprint, root / name, used)
        if known is not None:
            return load(known)
    config, version = _config_name(used), str(DATASETS[name].VERSION)
    base = root / name / config
    found = _up_to_date(base, version, name, options)
    if found is not None:
        return load(found)
    try:
        with _lock(root / name / f".{config}.lock", progress):
            found = _up_to_date(base, version, name, options)
            if found is None:
                free = _beside(base, len(_made(base, version)) + 1)
                for rest in free.glob("*incomplete*"):
                    shutil.rmtree(rest)  # of a process that was killed
                _build(name, BlockConfig(free.name, options, used, open_engine, progress), root)
                # The checksums have just been made.
                return read_folder(free / version, verify=False)
    except OSError as error:
        raise InputError(_disk_message(error, root)) from error
    finally:
        for number in range(1, len(_made(base, version)) + 2):
            _remove_empty(_beside(base, number), root)
    return load(found)


def changed_file(found: PreparedData) -> pathlib.Path | None:
    """A raw file that is there with another content than was prepared; None if there is none."""
    return _changed(found.sources)


def _beside(base: pathlib.Path, number: int) -> pathlib.Path:
    """The config folder of the first, second, ... content of the raw files."""
    return base if number == 1 else base.with_name(f"{base.name}-{number}")


def _made(base: pathlib.Path, version: str) -> list[pathlib.Path]:
    """What was prepared of the raw files so far, the oldest first."""
    numbered = (_beside(base, number) / version for number in itertools.count(1))
    return list(itertools.takewhile(lambda folder: folder.exists(), numbered))


def _up_to_date(
    base: pathlib.Path, version: str, name: str, options: DataOptions
) -> pathlib.Path | None:
    """The newest that was prepared of what the raw files hold now.

    Raises:
      InputError: one of those that were prepared is damaged.
    """
    made = _made(base, version)
    listed = DATASETS[name].files(options) if made else None
    for folder in reversed(made):
        recorded = sources_of(read_manifest(folder))
        names = {source.path for source in recorded}
        # Files that nobody listed, or that are all gone, cannot have become others.
        same = listed is None or {os.path.realpath(path) for path in listed} == names
        if same and _changed(recorded) is None:
            return folder
    return None


def _with_fingerprint(
    fingerprint: str, folder: pathlib.Path, used: Mapping[str, Any] | None
) -> pathlib.Path | None:
    """The folder of a fingerprint, of data made with these options; None takes any."""
    for manifest in sorted(folder.glob(f"*/*/{MANIFEST}")):
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
            if found["fingerprint"] != fingerprint:
                continue
            if used is None or _asks_for(used, found["options"]):
                return manifest.parent
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged, and perhaps not the one that is looked for
    return None


def _asks_for(used: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Whether options are those that data were made with, or lead to files that are not there."""
    if isinstance(name := made.get("encoding"), str):  # Of an older version, as it was spelled.
        made = {**made, "encoding": usual_encoding(name)}
    return used.keys() == made.keys() and all(
        made[option] == value or (option in PATH_OPTIONS and value is not None and _is_gone(value))
        for option, value in used.items()
    )


def _is_gone(path: str) -> bool:
    """Whether there is no such file or folder, and nothing that fits it as a pattern."""
    return not any(
        pathlib.Path(one).exists() or glob.glob(one, recursive=True)
        for one in part_files.paths_of(path)
    )


def _changed(recorded: Sequence[FileIdentity]) -> pathlib.Path | None:
    for source in recorded:
        path = pathlib.Path(source.path)
        if not path.is_file():
            continue
        status = path.stat()
        if source.is_untouched(status):
            continue
        if status.st_size != source.size or checksum.sha256(path) != source.sha256:
            return path
    return None


def with_vocabulary(
    name: str, data_dir: str | os.PathLike[str], fingerprint: str
) -> PreparedData | None:
    """Prepared data by their fingerprint, of which only the vocabulary is compared with its sum.

    None where they are not in ``data_dir`` any more.

    Raises:
      InputError: the vocabulary is damaged.
    """
    root = pathlib.Path(data_dir).expanduser() / name
    folder = _with_fingerprint(fingerprint, root, None)
    if folder is None:
        return None
    files = read_manifest(folder)["files"]
    of_vocabulary = [f for f in files if f["file"] == VOCABULARY]
    verify_files(folder, [(f["file"], f["size"], f["sha256"]) for f in of_vocabulary])
    return read_folder(folder, verify=False)


def _build(name: str, config: BlockConfig, root: pathlib.Path) -> None:
    builder_class = builder_of(DATASETS[name])
    builder = builder_class(data_dir=str(root), config=config, file_format="array_record")
    builder.download_and_prepare()


def _config_name(used: Mapping[str, Any]) -> str:
    """A readable beginning, and a hash of all options."""
    digest = hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:12]
    shown = [str(used[key]) for key in ("split", "vocab_from") if key in used]
    return "-".join([*shown, f"min{used['min_count']}", digest])


@contextlib.contextmanager
def _lock(path: pathlib.Path, progress: Callback | None) -> Iterator[None]:
    """Holds a lock file; the system releases it also when the process is killed."""
    with _locked_file(path, progress):
        try:
            yield
        finally:
            path.unlink()


def _locked_file(path: pathlib.Path, progress: Callback | None) -> IO[str]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            stream = path.open("w")
        except FileNotFoundError:
            continue  # a process that has just finished removed the empty folder
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress is not None:
                progress(Progress("waiting for another process", 0, 0, "rows", 0, 0.0))
            fcntl.flock(stream, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
        stream.close()  # the process that held it before has removed it: this lock is no one's


def _remove_empty(folder: pathlib.Path, root: pathlib.Path) -> None:
    """Removes a folder and those above it, down from `root`, as long as they are empty."""
    with contextlib.suppress(OSError):
        while folder.is_relative_to(root):
            if folder.exists():
                folder.rmdir()
            folder = folder.parent


def _disk_message(error: OSError, root: pathlib.Path) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    # array_record tells it in words only.
    if full or any(words in str(error) for words in ("No space left", "File too large")):
        free = shutil.disk_usage(root).free / 1e9 if root.exists() else 0.0
        return (
            f"the disk of data_dir {root} is full ({free:.1f} GB free now); nothing was left "
            f"behind. Free some space or choose another data_dir ({error})"
        )
    return f"data_dir {root} cannot be written: {error}"
