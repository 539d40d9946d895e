"""A folder that is whole or not there: made beside its place, and renamed at the end."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from optembed_jax.errors import InputError


@contextlib.contextmanager
def replaced(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary folder that takes the target's name when all went well, and vanishes if not.

    Where the target is a link, what it leads to is replaced.

    Raises:
      InputError: it cannot be written.
    """
    # Not Path.resolve, which ends in a RuntimeError of its own where links lead in a circle.
    target = pathlib.Path(os.path.realpath(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise InputError(f"cannot write to {target.parent}: {error.strerror}") from error
    try:
        yield folder
        folder.chmod(0o755)
        if target.exists():
            # Of a name of its own: what is left of a run that was killed here is in nobody's way.
            old = folder.with_name(f"{folder.name}.old")
            target.rename(old)
            try:
                folder.rename(target)
            except BaseException:
                old.rename(target)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            folder.rename(target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error}; nothing was left") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
