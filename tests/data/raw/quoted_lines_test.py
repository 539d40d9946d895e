import itertools

import numpy as np
import pytest

from optembed_jax.data.raw import quoted_lines, quoting
from optembed_jax.data.raw.quoted_lines import lines_are_rows


@pytest.fixture(params=[1, 3, 2**17])
def in_pieces(request, monkeypatch):
    monkeypatch.setattr(quoted_lines, "_PIECE", request.param)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"\n", True),
        (b"a,b\n", True),
        (b'"a","b"\n1,2\n', True),
        (b'"a","b"\r\n"",2\r\n', True),
        (b'"say ""hi""",""""\n', True),
        (b'1,"a, b"\n', True),
        (b'"a\nb",1\n', False),
        (b'"a\n', False),
        (b'5" pipe,1\n', False),
        (b'"a"b,1\n', False),
        (b'1, "a"\n', False),  # blanks around quotes are looked at more closely
        (b'"a";"b"\n', False),
    ],
)
@pytest.mark.usefixtures("in_pieces")
def test_lines_in_order_are_rows(text, found):
    assert lines_are_rows(text, len(text), b",") == found


@pytest.mark.usefixtures("in_pieces")
def test_what_stands_behind_the_lines_does_not_matter():
    text = b'"a","b"\n'
    for rest in (b'"', b'x"y"', b'"\n' * 3):
        assert lines_are_rows(text + rest, len(text), b",")


@pytest.mark.usefixtures("in_pieces")
def test_a_yes_changes_nothing(monkeypatch):
    """All short texts, and longer ones that are drawn: as the whole of them tells it."""
    letters = [b'"', b",", b"\n", b"a", b" ", b"\r"]
    texts = [b"".join(parts) for n in range(6) for parts in itertools.product(letters, repeat=n)]
    draw = np.random.default_rng(0)
    usual = [b'"a"', b'"a,b"', b'"a""b"', b"a", b"", b'"', b'a"', b'"a\nb"', b' "a"', b'"a" ']
    likely = np.array([8, 8, 8, 8, 8, 1, 1, 1, 1, 1]) / 45
    for _ in range(600):
        cells = draw.choice(len(usual), draw.integers(1, 12), p=likely).tolist()
        ends = draw.choice([b",", b"\n", b"\r\n"], len(cells), p=[0.6, 0.3, 0.1]).tolist()
        texts.append(b"".join(usual[c] + end for c, end in zip(cells, ends, strict=True)))

    def told(text, is_end, keep_empty):
        rows, stop = quoting.whole(text, b",", is_end=is_end, keep_empty=keep_empty)
        return rows.texts(), rows.first_lines.tolist(), rows.lines, rows.faults, stop

    asked = [
        (text + b"\n" if is_end else text, is_end, keep_empty)
        for text in texts
        for is_end in (False, True)
        for keep_empty in (False, True)
    ]
    yes = sum(b'"' in t and lines_are_rows(t, t.rfind(b"\n") + 1, b",") for t, _, _ in asked)
    quick = [told(*arguments) for arguments in asked]
    monkeypatch.setattr(quoting, "lines_are_rows", lambda *_: False)
    assert quick == [told(*arguments) for arguments in asked]
    assert yes > 1000
