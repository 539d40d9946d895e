"""Named arrays in one file (safetensors), written whole or not at all."""

from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy
from etils.epath import Path, PathLike

from optembed_jax.errors import InputError
from optembed_jax.storage.object_store import write_whole


def save(path: PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays, replacing what is there; a reader never sees half of them."""
    # Not ascontiguousarray, which gives scalars an axis.
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_whole(path, safetensors.numpy.save(whole))


def load(path: PathLike, way_out: str = "write it again") -> dict[str, np.ndarray]:
    """Read what :func:`save` wrote.

    Args:
      path: the file.
      way_out: what a person is to do where it cannot be read.

    Raises:
      InputError: the file is missing or damaged; the message ends with the way out.
    """
    try:
        arrays: dict[str, np.ndarray] = safetensors.numpy.load(Path(path).read_bytes())
    except (OSError, safetensors.SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}); {way_out}") from error
    return arrays
