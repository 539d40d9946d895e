"""Rows in the form of FBGEMM's ``IntNBitTableBatchedEmbeddingBags``, which torchrec serves from.

A row of codes is a float16 scale, a float16 bias and the codes, of which each stands for
``scale * code + bias``. Ours stand for ``scale * number`` with a sign. With ``2^(bits-1)`` added to
the numbers and ``-2^(bits-1) * scale`` as the bias, which is the scale with another exponent and so
exact in float16, the values are the same to the bit.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from optembed_jax.table import packing

COLUMNS = {"FP32": 4, "FP16": 4, "INT8": 4, "INT4": 8, "INT2": 16}
"""Columns of a table of each type are a multiple of so many."""


@dataclasses.dataclass(frozen=True, eq=False)
class NBitTable:
    """A table as FBGEMM takes it.

    Attributes:
      kind: name of its ``SparseType``.
      dim: columns, with zeros behind a field's own.
      weights: uint8 ``[K, bytes of a row]``.
    """

    kind: str
    dim: int
    weights: np.ndarray


def nbit_table(rows: Mapping[str, np.ndarray], field: int, storage: str) -> NBitTable:
    """The table of a field.

    Args:
      rows: what ``stored_rows`` gave.
      field: its number.
      storage: of its rows; bfloat16 becomes FP32, and codes of 6 and 3 bits take 8 and 4.
    """
    values = rows[f"rows/{field}"]
    bits = packing.bits_of(storage)
    if bits is None:
        kind = "FP16" if storage == "float16" else "FP32"
        whole = _padded(values.astype("<f2" if kind == "FP16" else "<f4"), kind)
        return NBitTable(kind, whole.shape[1], whole.view(np.uint8))
    kind = "INT2" if bits == 2 else "INT4" if bits <= 4 else "INT8"
    width = int(kind.removeprefix("INT"))
    middle = 2 ** (width - 1)
    scale = np.broadcast_to(rows[f"scale/{field}"].astype("<f2"), len(values))
    with np.errstate(over="ignore"):
        bias = (-float(middle) * scale).astype("<f2")
    if not np.isfinite(bias).all():  # a scale above 511: such rows are told as they are
        as_numbers = values.astype(np.float32) * scale.astype(np.float32)[:, None]
        whole = _padded(as_numbers.astype("<f4"), "FP32")
        return NBitTable("FP32", whole.shape[1], whole.view(np.uint8))
    codes = (_padded(values, kind).astype(np.int16) + middle).astype(np.uint8)
    each = 8 // width
    packed = np.zeros((len(codes), codes.shape[1] // each), np.uint8)
    for place in range(each):
        packed |= codes[:, place::each] << np.uint8(place * width)
    head = np.stack([scale, bias], axis=1).view(np.uint8)
    return NBitTable(kind, codes.shape[1], np.concatenate([head, packed], axis=1))


def decoded(table: NBitTable) -> np.ndarray:
    """What FBGEMM reads of a table, float32 ``[K, dim]``."""
    if table.kind in ("FP32", "FP16"):
        whole = np.ascontiguousarray(table.weights).view("<f4" if table.kind == "FP32" else "<f2")
        return whole.astype(np.float32)
    width = int(table.kind.removeprefix("INT"))
    head = np.ascontiguousarray(table.weights[:, :4]).view("<f2").astype(np.float32)
    each = 8 // width
    codes = np.empty((len(table.weights), table.dim), np.float32)
    for place in range(each):
        codes[:, place::each] = (table.weights[:, 4:] >> np.uint8(place * width)) & (2**width - 1)
    return codes * head[:, :1] + head[:, 1:]


def _padded(rows: np.ndarray, kind: str) -> np.ndarray:
    """Zeros behind the columns, up to a number of them that FBGEMM takes."""
    missing = -rows.shape[1] % COLUMNS[kind]
    return np.pad(rows, ((0, 0), (0, missing)))
