"""Times of several functions that take turns, so that none of them has the quieter machine."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


def alternate(
    functions: Mapping[str, Callable[[], Any]], repeats: int, untimed: int = 2
) -> dict[str, float]:
    """Median milliseconds of each over ``repeats`` turns, what it returns waited for.

    The ``untimed`` turns before them are for compiling.
    """
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + untimed):
        for name, function in functions.items():
            started = time.perf_counter()
            jax.block_until_ready(function())
            if turn >= untimed:
                taken[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in taken.items()}
