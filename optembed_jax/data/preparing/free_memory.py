"""Free memory given back to the system, so that no stage pays for what another one left behind.

Allocators keep what is freed for later use, scattered over their threads' heaps. Over the stages of
a preparation that adds up: the more blocks pass through, the more of it.
"""

import ctypes
import functools
from collections.abc import Callable

import pyarrow as pa


def give_back() -> None:
    """Gives back what neither Arrow nor NumPy use; with other C libraries than glibc, Arrow's only.

    Takes some milliseconds, so it is for ends of stages and the like.
    """
    pa.default_memory_pool().release_unused()
    trim = malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def malloc_trim() -> Callable[[int], int] | None:
    """The function of this name in glibc; None where there is another C library."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim
