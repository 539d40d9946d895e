import numpy as np
import pyarrow as pa
import pytest

from optembed_jax.data.raw import columns, packing


def strings(values):
    return pa.array(values, pa.string())


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("kind", [pa.string(), packing.EIGHT_BYTES])
def test_code_gives_back_every_value(chunks, kind):
    values = ["bbbbbbbb", None, "aaaaaaaa", "bbbbbbbb", None, "cccccccc"]
    column = pa.array(values, kind)
    if chunks > 1:
        column = pa.chunked_array([column[:1], column[1:4], column[4:]])
    coded = columns.code(column)
    found = coded.values.to_pylist()
    assert [found[i] for i in coded.codes] == values
    assert len(set(found)) == len(found) == 4


def test_code_of_nothing_and_of_a_slice():
    assert len(columns.code(strings([])).codes) == 0
    assert len(columns.code(pa.chunked_array([], pa.string())).codes) == 0
    coded = columns.code(strings(["x", "y", None, "z"])[1:3])
    assert [coded.values[int(i)].as_py() for i in coded.codes] == ["y", None]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int16()])
def test_code_of_a_dictionary_with_as_many_values_as_its_indices_can_tell(kind):
    count = 2 ** (8 * kind.bit_width // 8 - (kind != pa.uint8()))
    texts = pa.array([str(number) for number in range(count)])
    numbers = [*range(count), None, 0]
    column = pa.DictionaryArray.from_arrays(pa.array(numbers, kind), texts)
    found = columns.code(column)
    assert found.values.take(pa.array(found.codes)).to_pylist() == [
        None if number is None else str(number) for number in numbers
    ]


def test_recode_joins_values_that_become_equal():
    raw = columns.code(strings(["1", "3", "4", None, "1"]))
    made = columns.recode(raw, lambda v: strings([x and str(int(x) // 3) for x in v.to_pylist()]))
    assert [made.values[int(i)].as_py() for i in made.codes] == ["0", "1", "1", None, "0"]
    assert len(made.values) == 3


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        (["1", "-20", None, "0"], [False] * 4),
        (["12345678901234567890123", "+5", "7"], [False] * 3),
        (["1", "x"], [False, True]),
        (["0x1f", "1.5", "1-2", "--1", " 1", "-", "٣"], [True] * 7),
        (["9" * 1001, "9" * 1000], [True, False]),
        ([], []),
        ([None], [False]),
    ],
)
def test_not_an_integer(values, bad):
    np.testing.assert_array_equal(columns.not_an_integer(strings(values)), bad)


def test_numbers_and_what_is_none():
    values = strings(["1.5", "-2e3", None, "NA", "", "nan", "7"])
    np.testing.assert_array_equal(columns.not_a_number(values), [False] * 7)
    np.testing.assert_array_equal(columns.numbers(values), [1.5, -2000, *[np.nan] * 4, 7])
    assert columns.not_a_number(strings(["1", "x", "inf", "1e999", None])).tolist() == [
        False,
        True,
        True,
        True,
        False,
    ]
