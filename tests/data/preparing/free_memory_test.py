import pathlib
import resource
import threading

import numpy as np
import pytest

from optembed_jax.data.preparing import free_memory

BYTES = 64 * 2**20
STATUS = pathlib.Path("/proc/self/statm")


def resident():
    return int(STATUS.read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(free_memory.malloc_trim() is None, reason="needs glibc")
@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux")
def test_what_other_threads_freed_goes_back_to_the_system():
    pins = []

    def work():
        arrays = [np.ones(2**13) for _ in range(BYTES // 2**16)]  # too small to be mapped
        pins.append(arrays[-1])  # what lies below it is free, but cannot simply be cut off

    before = resident()
    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    kept = resident() - before
    assert kept > BYTES / 2  # otherwise this test could not fail
    free_memory.give_back()
    assert resident() - before < kept / 4


def test_without_glibc_it_is_arrow_alone(monkeypatch):
    released = []
    monkeypatch.setattr(free_memory, "malloc_trim", lambda: None)
    monkeypatch.setattr(
        free_memory.pa,
        "default_memory_pool",
        lambda: type("Pool", (), {"release_unused": lambda self: released.append(self)})(),
    )
    free_memory.give_back()
    assert len(released) == 1
