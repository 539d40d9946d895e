import gzip
import time

import pytest

from optembed_jax.data.raw import quoted_rows as module
from optembed_jax.data.raw.quoted_rows import first_row, quoted_rows
from optembed_jax.errors import InputError

TEXT = b'y,a\n1,"l1\nl2"\n0,5" x\n' * 50


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("size", [1, 10, 10_000])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_rows_of_a_file(tmp_path, pack, size, mark):
    path = tmp_path / "a"
    path.write_bytes(pack(mark + TEXT[:-1]))
    found = list(quoted_rows(path, b",", size))
    texts = [text for rows, _ in found for text in rows.texts()]
    assert texts == [b"y,a\n", b'1,"l1\nl2"\n', b'0,5" x\n'] * 50
    assert found[-1][1] == path.stat().st_size


@pytest.mark.parametrize("size", [1, 10_000])
def test_empty_lines_at_the_end(tmp_path, size):
    path = tmp_path / "a"
    path.write_bytes(b'a\n\n"b"\n\n\r\n\n')
    for keep, expected in ((False, [b"a\n", b"\n", b'"b"\n']), (True, 6)):
        found = [row for rows, _ in quoted_rows(path, b",", size, keep) for row in rows.texts()]
        assert found == expected if not keep else len(found) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'y,a\n1,"l1\nl2"\n0,"x' + b"\n1,y" * 5000, "line 4: a quote opens here, and no row ends"),
        (b"y,a\n1," + b"x" * 20_000, "line 2: no row ends"),
    ],
)
def test_a_row_that_never_ends_is_told_by_its_line(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(module, "LONGEST_ROW", 10_000)
    path = tmp_path / "a.csv"
    path.write_bytes(text)
    with pytest.raises(InputError, match=rf"a\.csv {message}"):
        list(quoted_rows(path, b",", 100))


def test_a_long_row_is_not_looked_through_with_each_piece(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b'1,"' + b'""\n' * 2**20 + b'"\n')
    began = time.process_time()
    ((rows, _),) = quoted_rows(path, b",", 2**10)
    # With each of its 3,072 pieces that is many minutes.
    assert rows.lines == 2**20 + 1 and len(rows) == 1 and time.process_time() - began < 20


def test_the_first_row(tmp_path):
    path = tmp_path / "a"
    for text, expected in (
        (b'\xef\xbb\xbf"a\nb";c\n1;2\n', b'"a\nb";c\n'),
        (b"a,b", b"a,b\n"),
        (b'a,5" b\n1,2\n', b'a,5" b\n'),
        (b'a,"b\n1,2\n', b'a,"b\n'),
        (b"\n\n", b"\n"),
        (b'a,"b\n' + b"1,2\n" * 2**20, b'a,"b\n'),
    ):
        path.write_bytes(text)
        assert first_row(path, b",;") == expected
    path.write_bytes(b"")
    assert first_row(path, b",", may_be_empty=True) == b""
    with pytest.raises(InputError, match="is empty"):
        first_row(path, b",")
