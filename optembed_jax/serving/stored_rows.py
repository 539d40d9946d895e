"""The rows of a bundle field by field: floats, or codes with their scales, as they were stored."""

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from optembed_jax.serving.bundle_content import Content
from optembed_jax.table import packing


def stored_rows(content: Content) -> dict[str, np.ndarray]:
    """Rows ``rows/f`` and scales ``scale/f`` of field number ``f``.

    Rows are floats, or whole numbers int8 ``[K, d]``, one in each element, however few bits the
    bundle packs them into; scales are float16, ``[K]`` or ``[1]``.
    """
    found = {}
    for number, field in enumerate(content.manifest["fields"]):
        if not field["dim"]:
            continue
        name, bits = f"rows/{number}", packing.bits_of(field["storage"])
        array = content.tensors[name]
        if bits is not None:
            array = packing.unpack(array, bits, field["dim"])
            found[f"scale/{number}"] = content.tensors[f"scale/{number}"]
        elif content.types[name] == "BF16":
            array = array.view(ml_dtypes.bfloat16)
        found[name] = array
    return found


def numbers(rows: Mapping[str, np.ndarray], field: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The rows of a field as the numbers that they stand for, float32 ``[K, d]``."""
    values = rows[f"rows/{field}"].astype(np.float32)
    scale = rows.get(f"scale/{field}")
    return values if scale is None else values * scale.astype(np.float32)[:, None]
