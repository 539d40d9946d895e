"""Under which versions a phase was trained, noted when it begins or goes on under others; and on
what kind of device it was begun.
"""

import json
import platform

from etils.epath import Path

from experiments.run import processes
from experiments.run.records import run_again, write_json
from optembed_jax.errors import InputError
from optembed_jax.storage.versions import versions
from optembed_jax.table.device_form import CPU, kind_at_hand

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
_FILE = "versions.json"
_BEGUN_ON = "begun_on.json"


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
        raise InputError(f"{path} cannot be read ({error}); {run_again(folder)}") from error


def note(folder: Path) -> None:
    """Add the versions of now, unless the phase was under them last."""
    before = noted(folder)
    if before[-1:] != [current()]:
        write_json(folder / _FILE, [*before, current()])


def device(folder: Path) -> str:
    """The kind of device that a training was begun on, which is noted if it begins now.

    By it ``--table_update=auto`` goes as long as it is trained, wherever that goes on: an
    optimiser's state has one form.

    Args:
      folder: of the training.

    Raises:
      InputError: the note cannot be read.
    """
    path = folder / _BEGUN_ON
    if path.exists():
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["device"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({error}); {run_again(folder)}") from error
    # What earlier versions began went by the rows alone, as a CPU does.
    kind = CPU if (folder / "checkpoints").exists() else kind_at_hand()
    if processes.is_first():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"device": kind})
    return kind
