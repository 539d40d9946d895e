import lzma

import pytest

from optembed_jax.values.xz import unpacked


@pytest.mark.parametrize("content", [b"", b"x", bytes(10_000)])
def test_what_was_compressed_comes_back(content):
    assert unpacked(lzma.compress(content), len(content) + 1) == content


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"no xz",
        lzma.compress(b"some text")[:-1],
        lzma.compress(b"some text") + b"x",
        lzma.compress(bytes(2**20)),
    ],
)
def test_what_is_no_whole_stream_or_too_large_is_refused(broken):
    with pytest.raises(ValueError, match=r"."):
        unpacked(broken, 1000)


def test_no_more_memory_than_is_allowed():
    packed = lzma.compress(b"some text", preset=9)
    assert unpacked(packed, 100) == b"some text"
    with pytest.raises(ValueError, match=r"[Mm]emory"):
        unpacked(packed, 100, memory=2**20)
