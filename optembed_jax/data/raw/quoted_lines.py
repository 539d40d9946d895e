"""Text with quotes in which each line is a row all the same: the usual case, and quickly found out.

A no may be wrong, a yes is not: where it is no, `quoting` looks at the whole text at once, which
takes several times as long, most of it for memory.
"""

import numpy as np

QUOTE, LINE_FEED = b'"\n'
_PIECE = 2**17  # bytes that are looked at at once, so that all of it stays in the cache


def lines_are_rows(text: bytes, end: int, delimiters: bytes) -> bool:
    """Whether the quotes of a text's lines begin and end cells by turns, and no cell a line.

    Args:
      text: begins with a row.
      end: of its lines, behind a line feed.
      delimiters: what may stand between cells, a byte each.
    """
    # Two quotes side by side: one in a cell, or the end of one half of it and the next one's begin.
    before, behind = set_of(delimiters + b'\n"'), set_of(delimiters + b'\r\n"')
    data = np.frombuffer(text, np.uint8, end)
    is_open = 0
    for start in range(0, end, _PIECE):
        piece = data[start : start + _PIECE]
        quotes = np.flatnonzero(piece == QUOTE)
        within = np.searchsorted(quotes, np.flatnonzero(piece == LINE_FEED))
        if ((within + is_open) % 2).any():
            return False
        quotes += start
        # Before the first byte stands the last: a line feed, as before every line.
        if not before[data[quotes[is_open::2] - 1]].all():
            return False
        if not behind[data[quotes[1 - is_open :: 2] + 1]].all():
            return False
        is_open = (is_open + len(quotes)) % 2
    return True


def set_of(members: bytes) -> np.ndarray:
    """Which bytes are among some, bool ``[256]``."""
    found = np.zeros(256, bool)
    found[list(members)] = True
    return found
