"""What the kind of device decides of how a table is updated: all rows or those read, in blocks.

On a CPU caches decide (docs/row_update.md). An accelerator goes through a small table in no time,
and pays for each kernel and each turn of a loop, whose end it has to ask the host for.

Kinds are JAX's ``device_kind``: ``cpu``, ``NVIDIA H200``, ``TPU v5 lite``.
"""

import jax

CPU = "cpu"

TABLE_UPDATES = ("auto", "sparse", "dense")

SPARSE_FROM_ROWS = 100_000
"""Rows from which ``auto`` is sparse: below, the dense step was as fast (docs/row_update.md)."""

_SPARSE_FROM_SECONDS = 1.57e-4
"""On an accelerator also: from a table that its memory takes as long to read through once.

Of the one device that was measured, an H200, the step at 1 and 5 million rows of 64 columns
(docs/scaling.md): straight lines through both cross at 2.9 million rows, 755 MB, at 4.8 TB/s.
"""

_MEMORY_SPEED = {
    "nvidia b200": 8e12,
    "nvidia h200": 4.8e12,
    "nvidia h100": 3.35e12,
    "nvidia a100": 2.0e12,
    "tesla v100": 0.9e12,
    "nvidia l4": 0.3e12,
    "tesla t4": 0.32e12,
    "amd instinct mi300": 5.3e12,
    "tpu v4": 1.2e12,
    "tpu v5 lite": 0.82e12,
    "tpu v5": 2.77e12,
    "tpu v6": 1.64e12,
    "tpu7x": 7.4e12,
}
"""Bytes a second, as their makers publish them; of several that fit, the longest name counts."""
_OF_OTHERS = 1e12

_AT_ONCE = 2**17
"""Rows that an accelerator works on at once: of 64 numbers 34 MB for each of their arrays."""
_SWEPT_AT_ONCE = 2**16


def kind_at_hand() -> str:
    """The kind of the first device."""
    device = jax.devices()[0]
    return CPU if device.platform == CPU else str(device.device_kind)


def is_cpu(device: str | None) -> bool:
    """Whether a kind is a CPU; None is that of the first device."""
    return (device or kind_at_hand()) == CPU


def memory_speed(device: str) -> float:
    """Bytes a second that an accelerator reads from its memory, published; a guess of others."""
    name = device.lower()
    known = [kind for kind in _MEMORY_SPEED if kind in name]
    return _MEMORY_SPEED[max(known, key=len)] if known else _OF_OTHERS


def updates_sparsely(table_update: str, rows: int, numbers: int, device: str | None) -> bool:
    """Whether a table is updated sparsely under ``auto``, ``sparse`` or ``dense``.

    Args:
      table_update: one of ``TABLE_UPDATES``.
      rows: of the table, ``V``.
      numbers: in its rows and linear weights, float32, also where several devices share them.
      device: its kind; None: that of the first one.
    """
    if table_update != "auto":
        return table_update == "sparse"
    device = device or kind_at_hand()
    if device == CPU:
        return rows >= SPARSE_FROM_ROWS
    seconds = 4 * numbers / memory_speed(device)
    return rows >= SPARSE_FROM_ROWS and seconds >= _SPARSE_FROM_SECONDS


def rows_at_once(device: str | None, on_cpu: int) -> int:
    """Rows of a batch to work on at once, where a CPU would on so many."""
    return on_cpu if is_cpu(device) else _AT_ONCE


def swept_at_once(device: str | None, on_cpu: int) -> int:
    """The same where all rows of a table are gone through."""
    return on_cpu if is_cpu(device) else _SWEPT_AT_ONCE
