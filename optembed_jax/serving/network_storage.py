"""The served network by name, its kernels in fewer bits. NumPy alone.

What is served is folded (``compact_model.fold_for_serving``): kernels, biases, cross weights, no
batch statistics. A kernel ``[inputs, outputs]`` is stored as ``packing`` stores rows, a row and a
scale for each output. Loading decodes it once; it takes part in products as float32.
"""

from collections.abc import Mapping

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.table import packing

KERNEL = "/kernel"
SCALE = "/scale"

KERNEL_STORAGES = ("float32", "float16", "int8", "int6", "int4")


def kernels_of(network: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the kernels ``[inputs, outputs]`` among a network's arrays, in order."""
    return [name for name, array in network.items() if name.endswith(KERNEL) and array.ndim == 2]


def stored(network: Mapping[str, np.ndarray], storages: Mapping[str, str]) -> dict[str, np.ndarray]:
    """A network's arrays as they are stored.

    Args:
      network: float32 arrays by name.
      storages: of some kernels, one of ``KERNEL_STORAGES``; others stay as they are.

    Raises:
      InputError: a kernel has numbers that are too large for its storage.
    """
    found = {}
    for name, array in network.items():
        storage = storages.get(name, "float32")
        if packing.bits_of(storage) is None:
            if storage == "float16" and np.abs(array).max(initial=0.0) > np.finfo(np.float16).max:
                raise InputError(f"{name} has numbers that float16 cannot hold; use float32")
            found[name] = array.astype(storage)
        else:
            try:
                numbers, found[name + SCALE] = packing.quantized(array.T, storage)
            except ValueError as error:
                raise InputError(f"{name} cannot be stored as {storage}: {error}") from error
            found[name] = packing.pack(numbers, packing.code_bits(storage))
    return found


def restored(
    tensors: Mapping[str, np.ndarray], storages: Mapping[str, str], inputs: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """The arrays of a network as they are used, float32.

    Args:
      tensors: as :func:`stored` gave them.
      storages: likewise.
      inputs: of each kernel with codes, how many it has.
    """
    found = {}
    for name, array in tensors.items():
        storage = storages.get(name, "float32")
        bits = packing.bits_of(storage)
        if bits is not None:
            numbers = packing.unpack(array, bits, inputs[name]).astype(np.float32)
            scale = tensors[name + SCALE].astype(np.float32)
            found[name] = np.ascontiguousarray((numbers * scale[:, None]).T)
        elif packing.bits_of(storages.get(name.removesuffix(SCALE), "float32")) is None:
            found[name] = array.astype(np.float32)
    return found
