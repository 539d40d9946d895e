"""The manifest of a prepared folder, ``prepared.json``: what is in the folder, sealed.

It lists the fields, the options, the sizes, the label rates, and the SHA-256 of every other file;
a checksum over all of it stands in itself. docs/data.md describes it field by field.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from optembed_jax.data.options import PATH_OPTIONS
from optembed_jax.data.raw.files import FileIdentity
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.storage import checksum

MANIFEST = "prepared.json"
VOCABULARY = "vocabulary.parquet"
REJECTS = "rejects.csv"
OF_TFDS = ("dataset_info.json", "features.json")
"""What tensorflow-datasets writes last, and reads where it opens the folder; nobody else does."""

FORMAT, FORMAT_WITH_BAGS, FORMAT_WITH_VALUE_WEIGHTS = 2, 3, 4
"""Of a folder without and with fields of several values, and of values with weights; older versions
of this package wrote and read the former ones."""

_REPAIR = "delete the folder {} and prepare the data again"


def format_of(fields: Fields) -> int:
    """The format of a folder with these fields."""
    if any(fields.weighted):
        return FORMAT_WITH_VALUE_WEIGHTS
    return FORMAT_WITH_BAGS if fields.num_slots > fields.num_fields else FORMAT


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
      file: its name in the folder.
      rows: rows in it, at least 1; all its records but the last hold `blocks.BLOCK_ROWS`.
      size: bytes.
      sha256: of its content.
    """

    file: str
    rows: int
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class WeightSums:
    """What the rows of a split weigh.

    Attributes:
      sum: of the weights of the rows with label 0 and 1.
      squares: of their squares.
    """

    sum: tuple[float, float]
    squares: tuple[float, float]


def fingerprint(manifest: Mapping[str, Any]) -> str:
    """The fingerprint of a manifest: of all its content but where the raw files were."""
    options = {k: v for k, v in manifest["options"].items() if k not in PATH_OPTIONS}
    return _digest({**manifest, "options": options}, "fingerprint", "sources", "sha256")


def seal(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest with its fingerprint, and a checksum over all of it."""
    sealed = manifest | {"fingerprint": fingerprint(manifest)}
    return sealed | {"sha256": _digest(sealed)}


def as_text(manifest: Mapping[str, Any]) -> str:
    """A manifest as it is written."""
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"


def _digest(value: Mapping[str, Any], *but: str) -> str:
    told = {key: item for key, item in value.items() if key not in but}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def read_manifest(path: pathlib.Path) -> dict[str, Any]:
    """The manifest of a prepared folder.

    Raises:
      InputError: there is none, or it is damaged, or of another version of this package.
    """
    file = path / MANIFEST
    try:
        text = file.read_text(encoding="utf-8")
        manifest = json.loads(text)
        # Compared as text too: no byte of the file may differ from what was written.
        intact = text == as_text(manifest) and _digest(manifest, "sha256") == manifest["sha256"]
    except (FileNotFoundError, NotADirectoryError) as error:
        what = f"{path} holds no prepared data set ({file} is missing)"
        # Nobody is told to delete a folder that is something else.
        advice = _REPAIR.format(path) if _was_prepared(path) else "name the folder of one"
        raise InputError(f"{what}; {advice}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is damaged; {_REPAIR.format(path)}") from error
    if not intact:
        raise InputError(f"{file} is damaged: its checksum differs; {_REPAIR.format(path)}")
    if manifest["format"] not in (FORMAT, FORMAT_WITH_BAGS, FORMAT_WITH_VALUE_WEIGHTS):
        raise InputError(
            f"{path} was prepared in format {manifest['format']}, this version reads {FORMAT} to "
            f"{FORMAT_WITH_VALUE_WEIGHTS}; {_REPAIR.format(path)}"
        )
    return manifest


def _was_prepared(path: pathlib.Path) -> bool:
    """Whether a folder is what is left of a prepared one: nothing else, or a file of such."""
    if not path.is_dir():
        return False
    names = {file.name for file in path.iterdir()}
    return not names or not names.isdisjoint({VOCABULARY, *OF_TFDS})


def sources_of(manifest: Mapping[str, Any]) -> tuple[FileIdentity, ...]:
    """The raw files that the data were prepared of."""
    return tuple(FileIdentity(**source) for source in manifest["sources"])


def verify_files(path: pathlib.Path, files: Sequence[tuple[str, int, str]]) -> None:
    """Compares files (name, size, SHA-256) with what a prepared folder should hold.

    Raises:
      InputError: naming the first file that is missing, cut off, or changed.
    """

    def check(file: tuple[str, int, str]) -> str | None:
        name, size, digest = file
        return checksum.fault(path / name, size, digest)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for fault in pool.map(check, files):
            if fault is not None:
                raise InputError(f"{fault}; {_REPAIR.format(path)}")
