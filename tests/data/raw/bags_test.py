import itertools
import json

import numpy as np
import pyarrow as pa
import pytest

from optembed_jax.data.raw import json_lines
from optembed_jax.data.raw.bags import split_cells
from optembed_jax.data.raw.columnar import check_columns
from optembed_jax.data.raw.columns import code
from optembed_jax.data.raw.list_cells import cell_texts
from optembed_jax.errors import InputError
from optembed_jax.values.cells import MARK, Cells, cell_text
from optembed_jax.values.columns import cell_column_texts


def listed(bag):
    """The values of each cell, and that nothing stands before one."""
    values = [*bag.values.to_pylist(), "nothing"]
    rows = [[values[place] for place in row] for row in bag.codes.tolist()]
    found = [[value for value in row if value != "nothing"] for row in rows]
    assert all(row[: len(own)] == own for row, own in zip(rows, found, strict=True))
    return found


@pytest.mark.parametrize("separator", ["|", None, ", "])
@pytest.mark.parametrize("most", [1, 2, 9])
def test_whole_columns_are_split_as_cells_are_one_by_one(separator, most):
    rng = np.random.default_rng(0)
    items = ["war", " sci", "", "ärt", "a|b", "x, y", "war ", "\\N"]
    cells = [None, "|", MARK, "solo", ""]
    for size in (1, 2, 3, 4):
        for _ in range(12):
            drawn = rng.choice(items, size).tolist()
            cells += [(separator or "|").join(drawn), cell_text(drawn)]
    texts = pa.array([cell or None for cell in cells], pa.string())
    rule = Cells(separator, most)
    bag = split_cells(code(texts), rule)
    expected = [rule.values(cell or None) for cell in cells]
    assert listed(bag) == [own[:most] for own in expected]
    assert bag.cut.tolist() == [max(len(own) - most, 0) for own in expected]
    some = bag.of_rows(np.arange(3, 9))
    assert listed(some) == [own[:most] for own in expected[3:9]]


def test_no_cells_and_cells_of_nothing():
    empty = split_cells(code(pa.array([], pa.string())), Cells("|", 3))
    assert empty.codes.shape[0] == 0
    nothing = split_cells(code(pa.array([None, "||"], pa.string())), Cells("|", 3))
    assert listed(nothing) == [[None], [None]]


LISTS = [["war", "sci"], None, [], ["a|b", None, ""], ["kid"]]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_view(pa.string()),
        pa.large_list_view(pa.string_view()),
        "sliced",
        "fixed",
        "numbers",
    ],
)
def test_arrow_lists_are_the_texts_of_their_items(kind):
    if kind == "sliced":
        column = pa.array([["no"], *LISTS, ["no", "no"]]).slice(1, len(LISTS))
        wanted = LISTS
    elif kind == "fixed":
        wanted = [["a", "b"], None, ["c", None]]
        column = pa.array(wanted, pa.list_(pa.string(), 2))
    elif kind == "numbers":
        wanted = [[3, 1], None, [-5]]
        column = pa.array(wanted, pa.list_(pa.int64()))
    else:
        column, wanted = pa.array(LISTS, kind), LISTS
    rule = Cells(None, 9)
    found = [rule.values(text) for text in cell_texts("genres", column).to_pylist()]
    assert found == [rule.values(cell_text(own)) for own in wanted]


PAIRS = [[("a", 0.1), ("b", 2.0)], None, [], [("b", 1.0)], [("a", 0.0), ("a", 3.0)]] * 2
OF_PAIR = pa.struct([("value", pa.string()), ("weight", pa.float32())])


@pytest.mark.parametrize(
    "kind",
    [
        pa.map_(pa.large_string(), pa.float32()),
        pa.map_(pa.string_view(), pa.float32()),
        pa.list_(OF_PAIR),
        pa.list_(pa.struct([*OF_PAIR][::-1])),
        pa.large_list(OF_PAIR),
        pa.list_view(OF_PAIR),
        pa.list_(OF_PAIR, 2),
    ],
)
@pytest.mark.parametrize("part", [slice(0, 10), slice(1, 5), slice(3, 4)])
def test_arrow_values_with_weights_are_those_of_python(kind, part):
    cells = PAIRS
    if pa.types.is_fixed_size_list(kind):
        cells = [pairs if pairs is None or len(pairs) == 2 else None for pairs in PAIRS]
    given = cells
    if not pa.types.is_map(kind):
        names = ("value", "weight")
        given = [c and [dict(zip(names, pair, strict=True)) for pair in c] for c in cells]
    column = pa.array(given, kind)[part.start : part.stop]
    rule = Cells(None, 9, weighted=True)
    expected = [rule.weighted_values(cell_text(cell, True)) for cell in cells[part]]
    for texts in (
        cell_texts("tags", column, weighted=True).to_pylist(),
        cell_column_texts("tags", column, 0, rule),
        cell_column_texts("tags", pa.chunked_array([column[:1], column[1:]]), 0, rule),
    ):
        assert [rule.weighted_values(text) for text in texts] == expected


def test_lists_of_other_structs_are_no_values_with_weights():
    column = pa.array([[{"tag": "a", "score": 1.0}]])
    with pytest.raises(InputError, match=r"row 4: column 'tags' holds lists of structs of tag"):
        cell_column_texts("tags", column, 4, Cells(None, 9, weighted=True))


@pytest.mark.parametrize(
    "values",
    [
        ["2024-01-01T00:00:00Z", "2024-01-01T01:00:00+01:00"],  # One time, two texts.
        ["2024-01-01 10:00", "2024-01-02 10:00"],
        [12345678901234567890, 12345678901234567891],  # One float64.
        [1, 2.5],
    ],
)
def test_values_with_weights_in_json_are_those_that_stand_there(values):
    rule = Cells(None, 3, weighted=True)
    lines = [json.dumps({"t": [{"value": v, "weight": 0.5}]}).encode() for v in values]
    found = json_lines.decode(lines, ["t"], {"t": rule}).columns["t"].to_pylist()
    assert [rule.weighted_values(text) for text in found] == [([str(v)], [0.5]) for v in values]


def test_a_value_with_the_mark_is_refused():
    with pytest.raises(InputError, match=r"'genres' has the character U\+FDD0"):
        cell_texts("genres", pa.array([["a" + MARK]]))


@pytest.mark.parametrize(
    ("kind", "separator", "named", "wrong"),
    [
        (pa.list_(pa.string()), None, False, "name it in multi"),
        (pa.list_(pa.string()), None, True, None),
        (pa.string(), None, True, "set separator"),
        (pa.string(), "|", True, None),
        (pa.list_(pa.list_(pa.string())), None, True, "lists of plain values are needed"),
        (pa.list_(pa.list_(pa.string())), None, False, "one plain value is needed"),
        (pa.struct([("a", pa.string())]), "|", True, "lists of plain values are needed"),
    ],
)
def test_types_of_columns(kind, separator, named, wrong):
    schema = pa.schema([("genres", kind)])
    cells = {"genres": Cells(separator, 4)} if named else {}
    if wrong is None:
        check_columns(schema, ("genres",), "f.parquet", cells)
        return
    with pytest.raises(InputError, match=f"f.parquet: column 'genres' holds .*{wrong}"):
        check_columns(schema, ("genres",), "f.parquet", cells)


def test_the_order_in_a_cell_does_not_change_the_set():
    for order in itertools.permutations(("a", "b", "c")):
        bag = split_cells(code(pa.array(["|".join(order)])), Cells("|", 3))
        assert set(listed(bag)[0]) == {"a", "b", "c"}
