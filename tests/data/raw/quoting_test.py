import csv
import io
import itertools

import numpy as np
import pytest

from optembed_jax.data.raw.quoting import BEHIND, UNCLOSED, Fault, line_rows, whole


def cut(text, size, delimiters=b",", keep_empty=False):
    """Rows of a text that comes in pieces, the line each begins with, and the faults' lines."""
    rows, firsts, faults, line, rest = [], [], [], 0, b""
    for start in range(0, len(text), size):
        rest += text[start : start + size]
        found, _ = whole(rest, delimiters, is_end=False, keep_empty=keep_empty)
        assert rest.startswith(found.content)
        rest = rest[len(found.content) :]
        rows += found.texts()
        firsts += (found.first_lines + line).tolist()
        faults += [(fault.line + line, fault.reason) for fault in found.faults]
        line += found.lines
    found, stop = whole(rest, delimiters, is_end=True, keep_empty=True)
    assert found.content == rest and stop == len(rest)
    faults += [(fault.line + line, fault.reason) for fault in found.faults]
    return rows + found.texts(), firsts + (found.first_lines + line).tolist(), faults


def letter_by_letter(text, delimiter):
    """The same by an automaton that knows nothing but the rule."""
    rows, firsts, faults = [], [], []
    begin, at, state = 0, 0, "blank"
    opened = closed = 0
    while at < len(text):
        letter = text[at : at + 1]
        fault = None
        if state == "quoted":
            if text[at : at + 2] == b'""':
                at += 1
            elif letter == b'"':
                state, closed = "closed", at
        elif letter in (delimiter, b"\n"):
            state = "blank"
        elif state == "blank" and letter == b'"':
            state, opened = "quoted", at
        elif state == "closed" and letter == b"\r":
            state = "text"  # Told as what it is, where it is no line end.
        elif state == "closed" and letter not in b" \t":
            fault = UNCLOSED if b"\n" in text[opened:closed] else BEHIND
        elif state == "blank" and letter not in b" \t":
            state = "text"
        at += 1
        if state == "quoted" and at == len(text):
            fault = UNCLOSED
        if fault:
            faults.append((text.count(b"\n", 0, opened), fault))
            at, state = text.index(b"\n", opened) + 1, "blank"
        if state == "blank" and text[at - 1 : at] == b"\n":
            firsts.append(text.count(b"\n", 0, begin))
            rows.append(text[begin:at])
            begin = at
    return rows, firsts, faults


@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_rows_are_those_of_the_csv_module(size):
    rng = np.random.default_rng(0)
    words = ["", "x", "a,b", 'say "hi"', "l1\nl2", "\n", '"', "5 inch", "a\r\nb", ",", '""']
    for quoting, end in itertools.product((csv.QUOTE_ALL, csv.QUOTE_MINIMAL), ("\n", "\r\n")):
        rows = [[words[n] for n in rng.integers(0, len(words), 3)] for _ in range(100)]
        out = io.StringIO()
        csv.writer(out, quoting=quoting, lineterminator=end).writerows(rows)
        reader = csv.reader(io.StringIO(out.getvalue(), newline=""), strict=True)
        begins = [0]
        for row in reader:
            assert row == rows[len(begins) - 1]
            begins.append(reader.line_num)
        texts, firsts, faults = cut(out.getvalue().encode(), size)
        # `line_num` counts a line for each line end of any kind, and so do rows here.
        assert firsts == begins[:-1] and not faults
        assert [next(csv.reader(io.StringIO(t.decode(), newline=""))) for t in texts] == rows


@pytest.mark.parametrize("delimiter", [b",", b"\t", b";"])
def test_any_text_in_any_pieces_is_read_letter_by_letter(delimiter):
    rng = np.random.default_rng(0)
    for seed in range(600):
        few = b'"' * int(rng.integers(1, 4)) + b'x\n" ' + delimiter * 2 + b"\t" * (seed % 2)
        few += b"\r" * (seed % 3)
        text = bytes(rng.choice(list(few), rng.integers(1, 40)).astype(np.uint8)) + b"x\n"
        expected = letter_by_letter(text, delimiter)
        for size in (1, 2, 7, 100):
            assert cut(text, size, delimiter) == expected, text


@pytest.mark.parametrize("blanks", [1, 7, 8, 9, 100_000])
def test_long_runs_of_blanks_around_quotes(blanks):
    pad = b" " * blanks
    text = b'1,%b"a\nb"%b,"c"%b\n2,x%b"y,z\n' % (pad, pad, pad, pad)
    rows, firsts, faults = cut(text, 60_000)
    assert firsts == [0, 2] and not faults and rows[1] == b'2,x%b"y,z\n' % pad


def test_one_row_for_each_fault():
    text = b'a,"x\ny","p"q\nb,5" z\nc,"\\"d\\""\ne,"f\n'
    rows, _ = whole(text, b",", is_end=True, keep_empty=True)
    assert rows.faults == (Fault(0, 1, BEHIND), Fault(2, 3, BEHIND), Fault(3, 4, UNCLOSED))
    assert rows.texts() == [b'a,"x\ny","p"q\n', b'b,5" z\n', b'c,"\\"d\\""\n', b'e,"f\n']
    rest = rows.between(1, 4)
    assert rest.faults == (Fault(1, 1, BEHIND), Fault(2, 2, UNCLOSED)) and rest.lines == 3
    assert rest.texts() == rows.texts()[1:] and rest.first_lines.tolist() == [0, 1, 2]
    for size in (1, 12, 20, 1_000):
        parts = list(rows.parts(size))
        assert [text for part in parts for text in part.texts()] == rows.texts()
        assert sum(len(part.faults) for part in parts) == 3
        assert [part.lines for part in parts] == [part.content.count(b"\n") for part in parts]
        assert all(len(part.content) <= max(size, 13) for part in parts)
    parts = list(rows.parts(13))
    assert [len(part) for part in parts] == [1, 1, 1, 1] and parts[2].faults == (
        Fault(0, 0, BEHIND),
    )


def test_a_quote_without_an_end_is_waited_for():
    text = b'a,b\nc,"d\n'
    rows, stop = whole(text, b",", is_end=False, keep_empty=False)
    assert rows.content == b"a,b\n" and text[stop:] == b'"d\n'


def test_lines_that_are_rows():
    rows = line_rows(b'a\r\n"b\n\n')
    assert len(rows) == rows.lines == 3 and rows.first is None
    assert rows.texts() == [b"a\r\n", b'"b\n', b"\n"]
    many = b"ab\n" * 100_001  # more than are compared at once, which is no multiple of a line
    assert line_rows(many).lines == 100_001
    assert len(line_rows(b"")) == 0 and line_rows(b"").texts() == []
    assert not line_rows(b"a\n").between(1, 1).content
    assert [part.texts() for part in rows.parts(4)] == [[b"a\r\n"], [b'"b\n', b"\n"]]


@pytest.mark.parametrize("keep", [True, False])
def test_empty_lines_at_the_end_wait(keep):
    for text in (b"a\n\n\n", b'"a"\n\r\n\n', b"\n\n"):
        rows, _ = whole(text, b",", is_end=False, keep_empty=keep)
        body = text.rstrip(b"\r\n")
        assert rows.content == (text if keep else body and body + b"\n")
        assert len(rows) == rows.content.count(b"\n")
