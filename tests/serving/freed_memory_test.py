import os

import pytest

from optembed_jax.serving import freed_memory


def resident_bytes():
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="tells memory in another way")
def test_what_stands_between_kept_pieces_is_given_back():
    freed_memory.give_back()
    before = resident_bytes()
    pieces = [bytearray(50_000) for _ in range(600)]  # too small to be mapped by themselves
    kept = pieces[::20]
    del pieces
    freed = resident_bytes()
    if not freed_memory.give_back():
        pytest.skip("this C library gives nothing back")
    assert resident_bytes() - before < 12e6 < freed - before
    assert all(len(piece) == 50_000 for piece in kept)


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(freed_memory.sys, "platform", "darwin")
    assert not freed_memory.give_back()
