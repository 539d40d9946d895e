"""What a saved state consists of: the size and the SHA-256 of each file, in ``manifest.json``.

The manifest is written last and removed first. A folder without it was never finished, and one
whose files differ from it is damaged: neither is used.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from optembed_jax.errors import InputError
from optembed_jax.storage import checksum
from optembed_jax.storage.object_store import absolute, write_whole

MANIFEST = "manifest.json"


def write(folder: epath.Path, content: Mapping[str, Any]) -> None:
    """Finish a state: describe the files that are there, beside what else is to be kept."""
    files = {
        str(file.relative_to(folder)): [file.stat().length, checksum.sha256(file)]
        for file in _files(folder)
    }
    write_whole(folder / MANIFEST, _sealed({**content, "files": files}).encode())


def content(folder: epath.Path) -> dict[str, Any]:
    """The manifest of a state that was verified."""
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return found


def verify(path: epath.PathLike) -> dict[str, Any]:
    """Compare a saved state with its manifest.

    Returns:
      The manifest.

    Raises:
      InputError: it is unfinished, or damaged; the message names the file.
    """
    folder = absolute(path)
    file = folder / MANIFEST
    try:
        text = file.read_text()
        manifest = json.loads(text)
        # Compared as text: no byte of the file may differ from what was written.
        intact = text == _sealed({k: v for k, v in manifest.items() if k != "sha256"})
    except FileNotFoundError as error:
        raise InputError(
            f"the saved state at {path} was never finished: it has no {MANIFEST}"
        ) from error
    except (ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{file} is damaged: it cannot be read ({error})") from error
    if not intact:
        raise InputError(f"{file} is damaged: its checksum differs")
    for name, (size, digest) in manifest["files"].items():
        fault = checksum.fault(folder / name, size, digest)
        if fault is not None:
            raise InputError(fault)
    return manifest


def is_finished(path: epath.PathLike) -> bool:
    """Whether a state was saved there to its end; not whether it is still good."""
    return (absolute(path) / MANIFEST).exists()


def remove(path: epath.PathLike) -> None:
    """Remove a saved state, its manifest first, so that no half of it looks finished."""
    folder = absolute(path)
    (folder / MANIFEST).unlink(missing_ok=True)
    if folder.exists():
        folder.rmtree()


def _files(folder: epath.Path) -> Iterator[epath.Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _sealed(manifest: Mapping[str, Any]) -> str:
    """The text of a manifest, with a checksum over all of it."""
    digest = hashlib.sha256(json.dumps(manifest, allow_nan=False).encode()).hexdigest()
    return json.dumps({**manifest, "sha256": digest}, indent=1) + "\n"
