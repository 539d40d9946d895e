r"""Where rows end in text whose cells may stand in double quotes.

A cell is in quotes where a quote is the first thing in it, but for blanks: then it may hold
delimiters and line ends, and a quote within it is doubled. Anywhere else a quote is a character
like any other (``5" pipe``). pyarrow reads rows so too, but takes two mistakes without a word: text
behind a closing quote (``"a"b``, or ``"a\"b"`` of those who escape by a backslash), and a quote
that is never closed. Here they are faults of the row up to the end of that line: with the next line
a new row begins, so that no mistake takes rows away that are in order.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from optembed_jax.data.raw.quoted_lines import LINE_FEED, QUOTE, lines_are_rows, set_of
from optembed_jax.values.rule import BLANKS

UNCLOSED = 'a quote opens here and none closes it; close it, or double each quote that is text ("")'
BEHIND = (
    "text stands behind a closing quote; each quote within a cell in quotes has to be doubled "
    '(""), not marked by a backslash'
)
_COUNTED = 2**17  # bytes that are compared at once
_STEPS = 8  # over blanks, before they are looked for in another way


class Fault(NamedTuple):
    """A row whose quotes do not match.

    Attributes:
      row: its number in the text, from 0.
      line: the line in which the quote opens, from 0.
      reason: what is wrong.
    """

    row: int
    line: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Rows:
    """Text of whole rows.

    Attributes:
      content: the text; its last row has a line end.
      lines: how many lines it has.
      first: the line that each row begins with, from 0, int64 ``[N]``; None where each line is one.
      faults: of quotes that do not match, in order.
    """

    content: bytes
    lines: int
    first: np.ndarray | None = None
    faults: tuple[Fault, ...] = ()

    def __len__(self) -> int:
        return self.lines if self.first is None else len(self.first)

    @property
    def first_lines(self) -> np.ndarray:
        """The line that each row begins with, from 0, int64 ``[N]``."""
        return np.arange(self.lines) if self.first is None else self.first

    def texts(self) -> list[bytes]:
        """The rows one by one."""
        return [self.content[a:b] for a, b in itertools.pairwise(self._borders().tolist())]

    def parts(self, size: int) -> Iterator["Rows"]:
        """The same in texts of about so many bytes, each of a row at least."""
        borders = self._borders()
        begin = 0
        while begin < len(self):
            end = int(np.searchsorted(borders, borders[begin] + size, "right")) - 1
            end = min(max(end, begin + 1), len(self))
            yield self.between(begin, end, borders)
            begin = end

    def between(self, begin: int, end: int, borders: np.ndarray | None = None) -> "Rows":
        """The rows from one up to another; where all begin may be given, if it is known."""
        borders = self._borders() if borders is None else borders
        line, line_end = np.append(self.first_lines, self.lines)[[begin, end]].tolist()
        return Rows(
            self.content[borders[begin] : borders[end]],
            line_end - line,
            None if self.first is None else self.first[begin:end] - line,
            tuple(
                Fault(fault.row - begin, fault.line - line, fault.reason)
                for fault in self.faults
                if begin <= fault.row < end
            ),
        )

    def _borders(self) -> np.ndarray:
        """Where each row begins in the text, and where the last ends, ``[N + 1]``."""
        ends = np.flatnonzero(np.frombuffer(self.content, np.uint8) == LINE_FEED) + 1
        return np.append(0, ends)[np.append(self.first_lines, self.lines)]


def line_rows(content: bytes) -> Rows:
    """Text in which each line is a row."""
    # Several times as fast as `bytes.count`, and other threads go on meanwhile; piece by piece,
    # so that what is compared stays in the cache.
    data = np.frombuffer(content, np.uint8)
    pieces = (data[start : start + _COUNTED] for start in range(0, len(data), _COUNTED))
    return Rows(content, sum(int(np.count_nonzero(piece == LINE_FEED)) for piece in pieces))


def whole(text: bytes, delimiters: bytes, *, is_end: bool, keep_empty: bool) -> tuple[Rows, int]:
    """The rows of a text that are whole.

    Args:
      text: begins with a row; where it is the end of a file, its last row has a line end.
      delimiters: what may stand between cells, a byte each.
      is_end: whether nothing follows.
      keep_empty: whether empty lines at the end are rows whatever follows.

    Returns:
      The rows, whose content is the beginning of the text, and the position of a quote that has
      no end in the text; its length where there is none.
    """
    end = text.rfind(b"\n") + 1
    if b'"' not in text or (end and lines_are_rows(text, end, delimiters)):
        rest = text[end:]  # It begins with a row, too.
        stop = end + (_marks(rest, delimiters, is_end).stop if b'"' in rest else len(rest))
        return line_rows(_trimmed(text[:end], keep_empty or is_end)), stop
    found = _marks(text, delimiters, is_end)
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == LINE_FEED)
    ends = ends[: np.searchsorted(ends, found.stop)]
    outside = np.searchsorted(found.marks, ends) % 2 == 0
    row_ends = np.flatnonzero(outside)
    if not len(row_ends):
        return Rows(b"", 0), found.stop
    content = _trimmed(text[: ends[row_ends[-1]] + 1], keep_empty or is_end)
    lines = int(np.searchsorted(ends, len(content)))
    row_ends = row_ends[row_ends < lines]
    first = None
    if len(row_ends) < lines:
        first = np.concatenate([[0], row_ends[:-1] + 1])
    faults = []
    for position, reason in found.faults:
        line = int(np.searchsorted(ends, position))
        faults.append(Fault(int(np.searchsorted(row_ends, line)), line, reason))
    return Rows(content, lines, first, tuple(faults)), found.stop


def _trimmed(content: bytes, keep_empty: bool) -> bytes:
    """Rows without empty lines at their end: at the very end of a file they are no rows."""
    is_empty = content in (b"\n", b"\r\n")
    if keep_empty or not (is_empty or content.endswith((b"\n\n", b"\n\r\n"))):
        return content
    body = len(content.rstrip(b"\r\n"))
    return content[: content.index(b"\n", body) + 1] if body else b""


class _Marks(NamedTuple):
    """What the quotes of a text mean.

    Attributes:
      marks: where cells in quotes begin and end, by turns, int64.
      stop: where a quote stands of which the text does not tell the end.
      faults: positions of quotes that do not match, and why.
    """

    marks: np.ndarray
    stop: int
    faults: Sequence[tuple[int, str]]


def _marks(text: bytes, delimiters: bytes, is_end: bool) -> _Marks:
    # A line begins before the text; what lies behind it stands in none of the sets below.
    data = np.frombuffer(b"\n%b\x00" % text, np.uint8)
    quotes = np.flatnonzero(data == QUOTE)
    blanks = set_of(bytes(set(BLANKS.encode()) - set(delimiters)))
    begins = set_of(delimiters + b"\n")
    # A carriage return that is no part of a line end is told as that.
    ends = set_of(delimiters + b"\r\n")
    # Behind the last quote the text may end before it is told whether it closes a cell.
    is_told = is_end or text[quotes[-1] :].strip(b" \t") != b""
    known = len(quotes) - (not is_told)
    known -= known % 2
    # Where no quote is text by itself, they begin and end cells, or halves of a cell, by turns.
    if (
        (known == len(quotes) or not is_end)
        and _all_beside(data, quotes[0::2], -1, begins, blanks)
        and _all_beside(data, quotes[1:known:2], 1, ends, blanks)
    ):
        stop = int(quotes[known]) - 1 if known < len(quotes) else len(text)
        return _Marks(quotes[:known] - 1, stop, ())
    opens = begins[data[_beyond(data, quotes, -1, blanks)]]
    closes = ends[data[_beyond(data, quotes, 1, blanks)]]
    found = _by_runs(quotes - 1, opens, closes, is_end, is_told)
    if found is not None:
        marks, open_at = found
        return _Marks(marks, len(text) if open_at is None else open_at, ())
    return _one_by_one(
        text, (quotes - 1).tolist(), opens.tolist(), closes.tolist(), is_end, is_told
    )


def _all_beside(
    data: np.ndarray, quotes: np.ndarray, step: int, borders: np.ndarray, blanks: np.ndarray
) -> bool:
    """Whether beside each quote, at most blanks between, is a border, or at once another quote."""
    beside = data[quotes + step]
    far = ~borders[beside] & (beside != QUOTE)
    if not far.any():
        return True
    return bool(borders[data[_beyond(data, quotes[far], step, blanks)]].all())


def _by_runs(
    places: np.ndarray, opens: np.ndarray, closes: np.ndarray, is_end: bool, is_told: bool
) -> tuple[np.ndarray, int | None] | None:
    """Marks, and the place of a quote without an end; None where quotes do not match.

    What quotes side by side do depends on their number and on where they stand alone: an odd number
    goes in and out of quotes where a cell may begin, and only out elsewhere; an even one is a whole
    cell, doubled quotes within one, or text, and changes nothing.
    """
    starts = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    lasts = np.append(starts[1:], len(places)) - 1
    may_open, odd = opens[starts], (lasts - starts) % 2 == 0
    turns = np.cumsum(may_open & odd)
    turns -= np.maximum.accumulate(np.where(~may_open & odd, turns, 0))  # since it was surely out
    inside = np.append(False, turns[:-1] % 2 == 1)
    begin = may_open & ~inside
    end = np.where(odd, inside, begin)
    end[-1] &= is_told
    if (end & ~closes[lasts]).any():
        return None
    marks = np.sort(np.concatenate([places[starts[begin]], places[lasts[end]]]))
    if len(marks) % 2 == 0:
        return marks, None
    return None if is_end else (marks[:-1], int(marks[-1]))


def _one_by_one(
    text: bytes,
    places: list[int],
    opens: list[bool],
    closes: list[bool],
    is_end: bool,
    is_told: bool,
) -> _Marks:
    """What the quotes mean, from the first to the last."""
    marks, faults = list[int](), list[tuple[int, str]]()
    at, last = 0, len(places) - 1
    while at <= last:
        if not opens[at]:
            at += 1
            continue
        end = at + 1
        while end < last and places[end + 1] == places[end] + 1:
            end += 2
        is_open = end > last or (end == last and not is_told)
        if not is_open and closes[end]:
            marks += places[at], places[end]
            at = end + 1
            continue
        line_end = text.find(b"\n", places[at])
        if line_end < 0 or (is_open and not is_end):
            return _Marks(np.array(marks, np.int64), places[at], faults)
        # Of a line further down it is another cell's.
        is_open = is_open or places[end] > line_end
        faults.append((places[at], UNCLOSED if is_open else BEHIND))
        at = bisect.bisect_left(places, line_end, at)
    return _Marks(np.array(marks, np.int64), len(text), faults)


def _beyond(data: np.ndarray, places: np.ndarray, step: int, blanks: np.ndarray) -> np.ndarray:
    """The first places before (-1) or behind (1) others that are not blank."""
    found = places + step
    left = np.flatnonzero(blanks[data[found]])
    for _ in range(_STEPS):
        if not len(left):
            return found
        found[left] += step
        left = left[blanks[data[found[left]]]]
    if len(left):  # A long run of blanks: not step by step.
        solid = np.flatnonzero(~blanks[data])
        if step > 0:
            found[left] = solid[np.searchsorted(solid, found[left])]
        else:
            found[left] = solid[np.searchsorted(solid, found[left], "right") - 1]
    return found
