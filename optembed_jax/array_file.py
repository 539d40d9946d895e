"""Named arrays in one file (safetensors), written whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from optembed_jax.errors import InputError


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays, replacing what is there; a reader never sees half of them."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(safetensors.numpy.save(whole))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> dict[str, np.ndarray]:
    """Read what :func:`save` wrote.

    Raises:
      InputError: the file is missing or damaged.
    """
    try:
        arrays: dict[str, np.ndarray] = safetensors.numpy.load(path.read_bytes())
    except (OSError, safetensors.SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    return arrays
