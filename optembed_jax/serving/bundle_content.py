"""What is in a bundle, read and checked, and the arrays that are served of it. NumPy alone."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving import network_storage
from optembed_jax.serving.bundle_manifest import COMPOSITION, composition_in
from optembed_jax.serving.content_checks import check_arrays
from optembed_jax.table import packing
from optembed_jax.table.elements import ELEMENTS, unpack
from optembed_jax.table.sharing import join, sharing

_NETWORK = "network/"


@dataclasses.dataclass(frozen=True)
class Content:
    """What is in a bundle, checked but for its samples.

    Attributes:
      manifest: what it is.
      tensors: as they are stored; bfloat16 as the uint16 of its bits.
      types: of each tensor, of ``bundle_format.DTYPES``.
      files: the content of each.
    """

    manifest: dict[str, Any]
    tensors: dict[str, np.ndarray]
    types: dict[str, str]
    files: Mapping[str, bytes]

    def served(
        self,
        of_bfloat16: Callable[[np.ndarray], np.ndarray],
        held: Callable[[int], int] = packing.in_bytes,
    ) -> dict[str, np.ndarray]:
        """The arrays that are served, see :func:`served`.

        Args:
          of_bfloat16: makes numbers of the bits of bfloat16, uint16.
          held: bits of a code in memory, by those that it is stored in.
        """
        tensors = {
            name: of_bfloat16(array) if self.types[name] == "BF16" else array
            for name, array in self.tensors.items()
        }
        return served(self.manifest, tensors, held)


def network_of(
    manifest: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The arrays of the network by name, float32: kernels as they take part in products."""
    kernels = manifest["kernels"]
    return network_storage.restored(
        {n.removeprefix(_NETWORK): a for n, a in tensors.items() if n.startswith(_NETWORK)},
        {name: storage for name, (storage, _) in kernels.items()},
        {name: inputs for name, (_, inputs) in kernels.items()},
    )


def served(
    manifest: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    held: Callable[[int], int] = packing.in_bytes,
) -> dict[str, np.ndarray]:
    """The arrays that are served: kernels are float32, rows of codes in ``held`` bits, others as
    they are; and rows of fields that share an array (``table.sharing``) joined, as ``rows/n`` of
    array ``n``. Where rows are composed there is one array, ``rows/0``, with codes int8, and
    ``places`` and ``signs`` say what ids read of it.

    Unpacked once, when a bundle is loaded, and not at each request.
    """
    found = {n: a for n, a in tensors.items() if not n.startswith(_NETWORK)}
    network = {_NETWORK + name: array for name, array in network_of(manifest, tensors).items()}
    if COMPOSITION in manifest:
        composition = composition_in(manifest)
        signs = {} if composition.signs is None else {"signs": composition.signs}
        bits = packing.bits_of(manifest["fields"][0]["storage"])
        if bits is not None:
            dim = manifest["fields"][0]["dim"]
            found["rows/0"] = packing.unpack(found["rows/0"], bits, dim)
        return {**found, "places": composition.places, **signs, **network}
    for number, field in enumerate(manifest["fields"]):
        bits = packing.bits_of(field["storage"])
        if bits is not None:
            name = f"rows/{number}"
            found[name] = packing.held(found[name], bits, field["dim"], held(bits))
        if field["storage"] == ELEMENTS:
            kept = found.pop(f"elements/{number}")
            found[f"rows/{number}"] = unpack(found[f"rows/{number}"], kept, field["dim"])
    fields = zip(*((f["dim"], f["storage"]) for f in manifest["fields"]), strict=True)
    arrays = sharing(*fields, held=held)
    return join(arrays, found) | network


def read_content(path: pathlib.Path) -> Content:
    """Everything of a bundle, after all checks but of its samples.

    Raises:
      BundleError: anything in it is missing, changed, too new or too old, or not as described.
    """
    files = layout.read_files(path)
    manifest = layout.read_manifest(path, files)
    tensors, types = layout.read_tensors(path, files)
    check_arrays(path, manifest, tensors, types)
    return Content(manifest, tensors, types, files)
