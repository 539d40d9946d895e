import itertools
import json

import pyarrow as pa
import pyarrow.json as pajson
import pytest

from optembed_jax.data.raw import json_lines
from optembed_jax.values.cells import Cells, cell_text

PLAIN, WEIGHTED = Cells(None, 9), Cells(None, 9, weighted=True)
DEEPEST = 200
"""Levels that docs and code say pyarrow is given."""


def decoded(rows, wanted=("t",), cells=PLAIN):
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    return json_lines.decode(lines, wanted, {"t": cells})


ITEMS = {
    "integers": (None, 1, 2),
    "texts": (None, "a", ""),
    "truths": (None, True, False),
    "fractions": (None, 1.5, 0.25),
}


@pytest.mark.parametrize("kind", ITEMS)
def test_nulls_anywhere_in_lists_are_no_values(kind):
    """Of leading ones pyarrow makes columns that are read beyond their end."""
    lists = [[*t] for n in range(4) for t in itertools.product(ITEMS[kind], repeat=n)]
    for cells in [*([one] for one in lists), lists, lists[::-1], [None, [], [None, None], *lists]]:
        found = decoded([{"t": cell} for cell in cells])
        assert found.good == list(range(len(cells))) and not found.faults
        texts = found.columns["t"].to_pylist()
        assert [PLAIN.values(text) for text in texts] == [
            PLAIN.values(cell_text(cell)) for cell in cells
        ]


def test_what_stands_behind_leading_nulls_is_the_rows_own():
    found = decoded([{"t": [None, 1]}, {"t": [2]}, {}, {"t": [None, None, 3]}, {"t": None}])
    values = [PLAIN.values(text) for text in found.columns["t"].to_pylist()]
    assert values == [["1"], ["2"], [None], ["3"], [None]]
    pairs = [[None, {"value": "a", "weight": 2}], [{"value": None, "weight": 1}], [None]]
    found = decoded([{"t": cell} for cell in pairs], cells=WEIGHTED)
    values = [WEIGHTED.weighted_values(text) for text in found.columns["t"].to_pylist()]
    assert values == [(["a"], [2.0]), ([None], [1.0]), ([None], [1.0])]


def nested(depth, key="z"):
    """A line of so many levels of brackets, its own one counted."""
    return b'{"t": "a", "%s": ' % key.encode() + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(("depth", "is_given"), [(DEEPEST, True), (DEEPEST + 1, False)])
def test_deep_lines_are_not_given_to_pyarrow(monkeypatch, depth, is_given):
    given = []

    def read_json(source, *_):
        given.append(source)
        raise pa.ArrowInvalid("not read")

    monkeypatch.setattr(pajson, "read_json", read_json)
    found = decoded([b'{"t": "b"}', nested(depth)])
    assert bool(given) == is_given
    assert found.columns["t"].to_pylist() == ["b", "a"] and not found.faults


def test_brackets_in_texts_and_side_by_side_are_not_deep(monkeypatch):
    text, many = '["\\' * 300, [[{"value": "x", "weight": 1}] for _ in range(300)]
    rows = [{"t": text, "z": many}, {"t": "b"}]
    monkeypatch.setattr(json_lines, "_decode_each", None)  # Not called.
    assert decoded(rows).columns["t"].to_pylist() == [text, "b"]


def test_a_line_that_nobody_can_read_for_its_depth_is_a_fault(monkeypatch):
    def loads(line, **_):
        if b"[" in line:
            raise RecursionError("as of many thousand levels")
        return {"t": "b"}

    monkeypatch.setattr(json_lines.json, "loads", loads)
    found = decoded([b'{"t": "b"}', nested(DEEPEST + 1)])
    assert found.columns["t"].to_pylist() == ["b"] and found.good == [0]
    assert found.faults == [(1, "no JSON that can be read: it is nested too deep")]
    assert json_lines.names_of([nested(DEEPEST + 1)]) == []


def test_no_lines():
    found = decoded([])
    assert len(found.columns["t"]) == 0 and found.good == [] and found.faults == []
