"""Under which versions a phase was trained: noted when it begins or goes on under others."""

import json
import platform

from etils.epath import Path

from experiments.run.workdir import write_json
from optembed_jax.errors import InputError
from optembed_jax.storage.versions import versions

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
_FILE = "versions.json"


def current() -> dict[str, str]:
    """The version of Python, of this package and of what it is built on, by name."""
    return {"python": platform.python_version(), **versions(*_PACKAGES)}


def noted(folder: Path) -> list[dict[str, str]]:
    """What :func:`note` wrote into a phase's folder, the oldest first.

    Raises:
      InputError: the file cannot be read.
    """
    path = folder / _FILE
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [dict(versions) for versions in found]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); remove {folder} to run the phase again"
        ) from error


def note(folder: Path) -> None:
    """Add the versions of now, unless the phase was under them last."""
    before = noted(folder)
    if before[-1:] != [current()]:
        write_json(folder / _FILE, [*before, current()])
