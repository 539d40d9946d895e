"""Memory that was freed, given back to the system: glibc keeps it, with what stands beside it.

Compiling a bundle's programs takes some 50 MB for a moment, tens of times the bundle. XLA frees
them, but glibc's arenas, one for each of its threads, hold on to the pages: a server would have
them for as long as it lives, and never use them.
"""

import ctypes
import sys


def give_back() -> bool:
    """Asks the C library for it; whether anything was given back.

    Only of glibc, others do so by themselves or have no such function. Some milliseconds; what is
    in use stays where it is.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))
