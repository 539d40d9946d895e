import dataclasses

import numpy as np
import pyarrow as pa

from optembed_jax.data.raw import coding, columns, labels
from optembed_jax.data.raw.columns import NUMERIC, Column, Label, Time
from optembed_jax.data.raw.sources import RawData, RawRows
from optembed_jax.values.forms import rule_of
from optembed_jax.values.rule import Rule

COLUMNS = (
    Column("n", "n", NUMERIC, check=columns.not_a_number, expected="a number"),
    Column("c", "c"),
    Column("i", "i", check=columns.not_an_integer, expected="an integer"),
)
DATA = RawData(
    source=None,
    columns=COLUMNS,
    label=Label("y", labels.zero_or_one),
    time=Time("c", lambda v: np.arange(len(v)), "anything"),
)


def rows(**changes):
    cells = {
        "y": ["0", "1", "1", "0"],
        "n": ["1.5", None, "3", "-4"],
        "c": ["a", None, "a", "b"],
        "i": ["1", "2", None, "2"],
    } | changes
    arrays = {name: pa.array(values, pa.string()) for name, values in cells.items()}
    number = np.arange(4)
    return RawRows(arrays, 10 + number, 100 + number, lambda i: f"row {i}")


def values(field):
    found = field.values.to_pylist()
    return [found[i] for i in field.codes]


def test_good_rows():
    coded = coding.code_rows(DATA, rows(), "f", with_time=True)
    assert not coded.rejects
    np.testing.assert_array_equal(coded.fields[0], [1.5, np.nan, 3, -4])
    assert values(coded.fields[1]) == ["a", None, "a", "b"]
    assert values(coded.fields[2]) == ["1", "2", None, "2"]
    np.testing.assert_array_equal(coded.labels, [0, 1, 1, 0])
    np.testing.assert_array_equal(coded.times, [0, 1, 0, 2])
    np.testing.assert_array_equal(coded.rows, [100, 101, 102, 103])


def test_bad_rows_are_set_aside_with_their_reason():
    bad = rows(y=["0", "7", "1", "0"], n=["1", "x", "2", "3"], i=["1", "2", "3", "z" * 99])
    coded = coding.code_rows(DATA, bad, "file", with_time=False)
    assert [str(reject) for reject in coded.rejects] == [
        "file line 11: column 'y' is '7', expected 0 or 1",
        f"file line 13: column 'i' is '{'z' * 60}', expected an integer",
    ]
    assert coded.rejects[0].text == "row 1"
    np.testing.assert_array_equal(coded.fields[0], [1, 2])
    assert values(coded.fields[2]) == ["1", "3"]
    np.testing.assert_array_equal(coded.rows, [100, 102])
    assert coded.times is None


def test_first_fault_of_new_rows():
    coded = columns.code_sources(rows(i=["1", "2", "q", "r"]).columns, ["n", "c", "i"])
    assert coding.first_fault(COLUMNS, coded) == (2, "column 'i' is 'q', expected an integer")
    coded = columns.code_sources(rows().columns, ["n", "c", "i"])
    assert coding.first_fault(COLUMNS, coded) is None


def test_ways_of_writing_are_those_of_good_rows():
    coded = coding.code_rows(
        DATA, rows(y=["0", "7", "1", "0"], c=["1", "1.0", "2", "2"]), "file", with_time=False
    )
    assert len(coded.rejects) == 1
    assert rule_of(coded.forms[1]) == Rule("number", words=True)
    good = coding.code_rows(DATA, rows(c=["1", "1.0", "2", "2"]), "file", with_time=False)
    assert rule_of(good.forms[1]).kind == "text"


def test_a_group_is_one_however_its_number_is_written():
    grouped = dataclasses.replace(DATA, group="c")

    def groups(*cells):
        return coding.code_rows(grouped, rows(c=[*cells]), "file", with_time=False).groups.tolist()

    first, *others = groups("12", "12.0", "12.00", "13")
    assert others[:2] == [first] * 2 and others[2] != first
    assert len({*groups("1.1", "1.10", "007", "7")}) == 4
    assert groups("NULL", None, "nan", "x")[:3] == [0] * 3
