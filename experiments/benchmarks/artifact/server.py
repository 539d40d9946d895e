"""A process that serves one bundle: how long loading takes, what it holds, how fast it answers.

python -m experiments.benchmarks.artifact.server BUNDLE ROWS.csv numpy|jax

Prints one line of JSON. Imports and what the runtime sets up when it is first used are not counted.
"""

import csv
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

BATCH = 2048
_REQUESTS, _BATCHES = 200, 20


def resident_bytes() -> int:
    """Memory of this process, file pages that it mapped included."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def loader_of(kind: str) -> Callable[[str], Any]:
    """Loads a bundle, all that is imported for it loaded before."""
    if kind == "numpy":
        from optembed_jax.numpy_bundle import NumpyBundle

        return NumpyBundle.load
    import jax
    import jax.numpy as jnp
    import scipy.linalg  # noqa: F401  Which JAX imports when any exported module is first called.

    from optembed_jax.bundle import Bundle

    jax.block_until_ready(jax.jit(lambda x: x + 1)(jnp.zeros(3)))  # The compiler is there.
    return lambda path: Bundle.load(path, warm=(1, BATCH))


def rows_of(path: str) -> dict[str, list[str]]:
    """Raw columns of a CSV with a header."""
    with open(path, newline="", encoding="utf-8") as stream:
        names, *rows = csv.reader(stream)
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def taken(rows: Mapping[str, list[str]], start: int, count: int) -> dict[str, list[str]]:
    """Some rows, from the front again where there are no more."""
    size = len(next(iter(rows.values())))
    places = [(start + number) % size for number in range(count)]
    return {name: [column[place] for place in places] for name, column in rows.items()}


def measure(bundle: str, rows: Mapping[str, list[str]], load: Callable[[str], Any]) -> Any:
    """The figures, as JSON."""
    requests = [taken(rows, number, 1) for number in range(_REQUESTS)]
    batches = [taken(rows, number * BATCH, BATCH) for number in range(_BATCHES)]
    before = resident_bytes()
    begun, begun_cpu = time.perf_counter(), time.process_time()
    loaded = load(bundle)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    memory_loaded = resident_bytes() - before
    loaded.predict(requests[0])
    loaded.predict(batches[0])
    memory = resident_bytes() - before

    def spent(work: list[Any]) -> list[float]:
        found = []
        for part in work:
            start = time.perf_counter()
            loaded.predict(part)
            found.append(time.perf_counter() - start)
        return found

    one, many = spent(requests), spent(batches)
    return {
        "load_seconds": seconds,
        "load_cpu_seconds": cpu,
        "memory_loaded": memory_loaded,
        "memory": memory,
        "one_row_ms": 1e3 * statistics.median(one),
        "raw_rows_per_second": BATCH / statistics.median(many),
    }


def main() -> None:
    """Measure what the arguments name."""
    bundle, rows, kind = sys.argv[1:]
    read = rows_of(rows)
    print(json.dumps(measure(bundle, read, loader_of(kind))))


if __name__ == "__main__":
    main()
