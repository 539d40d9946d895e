"""Values one by one and whole columns: two ways to the same ids."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest

from optembed_jax import data
from optembed_jax.data import encoder as encoder_lib
from optembed_jax.data import request_columns
from optembed_jax.data.prepared import encoder_of
from optembed_jax.errors import InputError
from optembed_jax.values.columns import as_columns, column_texts
from optembed_jax.values.rows import RowEncoder

NAN = float("nan")
DAYS = [f"2024-03-{day:02}" for day in range(1, 6)]
# How each column is written in training, and other forms of the same values.
COLUMNS = {
    "user": [str(n) for n in range(9)],
    "floats": [f"{n}.0" for n in range(9)],
    "price": [f"{n / 4:.2f}" for n in range(9)],
    "flag": ["True", "False"],
    "bit": ["0", "1"],
    "day": DAYS,
    "moment": [f"{day}T06:30:00" for day in DAYS],
    "city": ["rome", "NULL", "oslo"],
    "tiny": ["0.00005", "0.0001", "0.25", "3"],
    "age": [str(n) for n in range(40)],
}
MASK = [False, True]
NUMPY_DAYS = np.array(DAYS[:2], "datetime64[ns]")
FORMS = {
    "user": [
        ["3", "4"], ["3.0", "4.0"], ["3.00", "4"], [3, 4], [3.0, 4.0], [np.int8(3), np.uint64(4)],
        np.array([3, 4], np.int16), np.array([3, 4], np.float32), np.array([3, 4], np.float16),
        np.array([3, 4], object), [decimal.Decimal("3.0"), decimal.Decimal(4)], [b"3", b"4"],
        ["3", 4.0], pa.array([3, 4], pa.int8()), pa.array([3.0, 4.0]), pa.array([b"3", b"4.0"]),
        pa.array([decimal.Decimal("3.00"), decimal.Decimal("4.00")]),
        pa.array(np.array([3, 4], np.float16)),
        pa.array(["3", "4"]).dictionary_encode(), pa.array(["3", "4.0"], pa.large_string()),
        pa.chunked_array([["3"], ["4"]]), np.array(["3", "4"]), np.array([b"3", b"4"]),
    ],
    "floats": [["3.0", "4.0"], [3, 4], ["3", "4"], np.array([3.0, 4.0])],
    "price": [["0.25", "0.50"], ["0.25", "0.5"], [0.25, 0.5], np.array([0.25, 0.5], np.float32),
              [decimal.Decimal("0.250"), decimal.Decimal("0.5")]],
    "flag": [["True", "False"], ["true", "FALSE"], [True, False], np.array([True, False]),
             np.array([True, False], object), [np.True_, np.False_], pa.array([True, False]),
             [1, 0], [1.0, 0.0], ["1", "0"]],
    "bit": [["1", "0"], [True, False], ["true", "false"], [1.0, 0.0], ["1.0", "0.0"]],
    "day": [DAYS[:2], [datetime.date(2024, 3, 1), datetime.date(2024, 3, 2)],
            [datetime.datetime(2024, 3, 1), datetime.datetime(2024, 3, 2)],
            [datetime.date(2024, 3, 1), datetime.datetime(2024, 3, 2)],
            NUMPY_DAYS, NUMPY_DAYS.astype("datetime64[D]"), list(NUMPY_DAYS),
            np.ma.array(NUMPY_DAYS), pa.array(NUMPY_DAYS, pa.timestamp("ns")),
            pa.array(NUMPY_DAYS, pa.timestamp("ns")).dictionary_encode(),
            pa.array(NUMPY_DAYS, pa.timestamp("us")), pa.array(NUMPY_DAYS.astype("datetime64[D]")),
            [f"{day} 00:00:00" for day in DAYS[:2]], [f"{day}T00:00:00.000" for day in DAYS[:2]]],
    "moment": [[f"{day} 06:30" for day in DAYS[:2]],
               NUMPY_DAYS + np.timedelta64(390, "m"), list(NUMPY_DAYS + np.timedelta64(390, "m")),
               [datetime.datetime(2024, 3, 1, 6, 30), datetime.datetime(2024, 3, 2, 6, 30)]],
    "city": [["NULL", "rome"], [None, "rome"], ["", "rome"], ["nan", "rome"],
             np.array([NAN, "rome"], object), pa.array([None, "rome"])],
    "age": [["17", ""], [17, None], ["17.0", "NA"], [17.0, NAN], np.array([17, NAN], np.float32),
            pa.array([17, None]), np.ma.array([17.0, 0.0], mask=MASK),
            np.ma.array([17, 0], mask=MASK), np.ma.array([17, 0], np.float32, mask=MASK),
            np.ma.array(["17", "18"], mask=MASK), [17, np.ma.masked],
            np.ma.array([17, 18], object, mask=MASK)],
    "tiny": [["0.00005", "0.0001"], [5e-5, 1e-4], np.array([5e-5, 1e-4]),
             np.array([5e-5, 1e-4], np.float32), [np.float32(5e-5), 1e-4],
             pa.array([5e-5, 1e-4]), pa.array([5e-5, 1e-4], pa.float32()),
             [decimal.Decimal("0.00005"), decimal.Decimal("1E-4")], ["0.000050", "0.0001"]],
}  # fmt: skip
CASES = [(name, number) for name, forms in FORMS.items() for number in range(1, len(forms))]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    rows = [
        [*(cells[int(n)] for cells, n in zip(COLUMNS.values(), drawn, strict=True)), click]
        for *drawn, click in zip(
            *(rng.integers(len(cells), size=400) for cells in COLUMNS.values()),
            rng.integers(2, size=400),
            strict=True,
        )
    ]
    for row in rows[::7]:
        row[-2] = ""
    text = "\n".join(",".join(map(str, row)) for row in [[*COLUMNS, "click"], *rows])
    (folder / "rows.csv").write_text(text + "\n")
    names = tuple(COLUMNS)
    options = data.DataOptions(
        table_file=str(folder / "rows.csv"),
        label="click",
        categorical=names[:-1],
        numeric=names[-1:],
        min_count=1,
    )
    return encoder_of(data.prepare("table", options, folder / "data"))


def ids_of(encoder, name, values, monkeypatch):
    """The ids of a column by both ways."""
    rest = {other: FORMS[other][0] for other in COLUMNS if other != name}
    field = [column.name for column in encoder.columns].index(name)
    found = []
    for few in (64, -1):
        monkeypatch.setattr(request_columns, "_FEW_ROWS", few)
        monkeypatch.setattr(request_columns, "_SOME_TEXTS", few)
        found.append(encoder.encode({**rest, name: values})[:, field].tolist())
    table = as_columns(pa.table({**rest, name: values})) if isinstance(values, pa.Array) else None
    if table is not None:  # as a reader without pyarrow takes it
        found.append(encoder.rows.encode(table)[:, field].tolist())
    return found


@pytest.mark.parametrize(("name", "number"), CASES)
def test_every_form_of_a_value_has_its_id(encoder, monkeypatch, name, number):
    expected = ids_of(encoder, name, FORMS[name][0], monkeypatch)
    field = [column.name for column in encoder.columns].index(name)
    offset = int(encoder.vocabulary.layout.offsets[field])
    assert expected[0] == expected[1] and min(expected[0]) > offset and len(set(expected[0])) == 2
    for found in ids_of(encoder, name, FORMS[name][number], monkeypatch):
        assert found == expected[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1], [2]], r"column 'user': .* one plain value is needed"),
        ([b"\xff", b"1"], "column 'user': .* which is no UTF-8 text"),
        ("12", "column 'user' is one value, a sequence of values is needed"),
        (None, "column 'user' is one value"),
        (3, "column 'user' is one value"),
    ],
)
def test_values_that_are_none_are_refused_by_name(encoder, values, message):
    rest = {other: FORMS[other][0] for other in COLUMNS if other != "user"}
    with pytest.raises(InputError, match=message):
        encoder.rows.encode({**rest, "user": values})
    with pytest.raises(InputError, match="column 'user'"):
        encoder_lib.raw_columns({**rest, "user": values}, tuple(COLUMNS))
    with pytest.raises(InputError, match=message):
        encoder.encode({**rest, "user": values})


def test_both_ways_refuse_in_the_same_words(encoder, monkeypatch):
    rows = {name: list(forms[0]) for name, forms in FORMS.items()}
    for change in (
        {"age": ["17", "old"]},
        {"age": ["17", "inf"]},
        {"age": ["1_0", "17"]},
        {"age": [True, 17]},
        {"age": ["17"]},
        {"age": None},
    ):
        wrong = {k: v for k, v in {**rows, **change}.items() if v is not None}
        said = []
        for few in (64, -1):
            monkeypatch.setattr(request_columns, "_FEW_ROWS", few)
            monkeypatch.setattr(request_columns, "_SOME_TEXTS", few)
            with pytest.raises(InputError) as error:
                encoder.encode(wrong, first_row=5)
            said.append(str(error.value))
        assert said[0] == said[1], change


def test_many_rows_as_few(encoder, monkeypatch):
    rng = np.random.default_rng(1)
    rows = {
        name: [forms[n % len(forms)][int(rng.integers(2))] for n in range(300)]
        for name, forms in {
            name: [form for form in forms if isinstance(form, list)]
            for name, forms in FORMS.items()
        }.items()
    }
    monkeypatch.setattr(request_columns, "_SOME_TEXTS", 0)
    by_columns = encoder.encode(rows)
    np.testing.assert_array_equal(encoder.rows.encode(rows), by_columns)
    for at_once in (1, 500):  # Of one field at a time, of some.
        some = RowEncoder(encoder.rows.fields, encoder.rows.lookup, at_once)
        np.testing.assert_array_equal(some.encode(rows), by_columns)
    monkeypatch.setattr(encoder_lib, "_SEVERAL_ROWS", 0)
    np.testing.assert_array_equal(encoder.encode(rows), by_columns)


def test_a_table_and_a_data_frame_are_columns():
    table = pa.table({"a": pa.array([1.5, None], pa.float32()), "b": ["x", None]})
    found = as_columns(table)
    assert column_texts("b", found["b"], 0) == ["x", None]
    assert column_texts("a", found["a"], 0) == ["1.5", None]
    assert as_columns({"a": [1]}) == {"a": [1]} and as_columns(np.zeros((2, 3))) is None

    class Frame(dict):
        columns = ("a",)

    assert as_columns(Frame(a=[1])) == {"a": [1]}


SECOND = 1_709_389_800  # 2024-03-02 14:30:00 UTC
NO_UTF8 = pa.Array.from_buffers(pa.string(), 2, pa.array([b"x", b"\xff"]).buffers())
IN_A_DAY = [52_200 * 10**9 + 7, None, 52_200 * 10**9]


@pytest.mark.parametrize(
    ("array", "texts"),
    [
        (pa.array([SECOND * 10**9 + 7, None], pa.timestamp("ns", "UTC")),
         ["2024-03-02 14:30:00.000000007Z", None]),
        (pa.array([SECOND * 10**9 + 7, None], pa.timestamp("ns", "+01:00")),
         ["2024-03-02 14:30:00.000000007Z", None]),
        (pa.array([SECOND * 10**9 + 7], pa.timestamp("ns")), ["2024-03-02 14:30:00.000000007"]),
        (pa.array([SECOND], pa.timestamp("s", "UTC")), ["2024-03-02 14:30:00Z"]),
        (pa.array(IN_A_DAY, pa.time64("ns")), ["14:30:00.000000007", None, "14:30:00"]),
        (pa.array([52_200_100], pa.time32("ms")), ["14:30:00.1"]),
        (pa.array([datetime.date(2024, 3, 2)], pa.date64()), ["2024-03-02"]),
    ],
)  # fmt: skip
def test_arrow_times_by_value_as_by_column(array, texts):
    for values in (array, pa.chunked_array([array]), array.dictionary_encode()):
        assert column_texts("a", values, 0) == texts
        assert encoder_lib.raw_columns({"a": values}, ("a",))["a"].to_pylist() == texts


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([5], pa.duration("s")), r"column 'a': values of type duration\[s\]"),
        (pa.array([pa.MonthDayNano([1, 2, 3])]), "column 'a': values of type month_day_nano"),
        (pa.array([5], pa.timestamp("s", "No/Where")), r"column 'a': values of type timestamp\[s,"),
        (NO_UTF8, "column 'a': values of type string are no UTF-8 text"),
        (pa.chunked_array([NO_UTF8]), "column 'a': values of type string are no UTF-8 text"),
        (NO_UTF8.dictionary_encode(), "column 'a': values of type string are no UTF-8 text"),
        (
            pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array(["x"])),
            "column 'a': values of type run_end_encoded",
        ),
        (np.array([5, 6], "m8[s]"), "timedelta"),
        ([np.timedelta64(5, "s")], "timedelta"),
        ([datetime.timedelta(5)], "timedelta"),
        ([1, np.timedelta64("NaT", "s")], "timedelta"),
        (["x", "\ud800"], r"row 1: column 'a' is '\\ud800', which has no UTF-8 form"),
        (["x", 3, "\udc80y"], r"row 2: column 'a' is '\\udc80y', which has no UTF-8 form"),
        (np.array(["x", "\ud800"]), "row 1: column 'a' is"),
        ([b"x", b"\xff"], "row 1: column 'a': a value is"),
        ({"x": 1}, "column 'a' is a dict, a sequence"),
        ({1, 2}, "column 'a' is a set, a sequence"),
        (np.zeros((2, 2)), r"column 'a' has the shape \(2, 2\)"),
        (np.array(3), r"column 'a' has the shape \(\)"),
        (bytearray(b"ab"), "column 'a' is one value"),
    ],
)
def test_both_ways_refuse_what_is_no_column_of_values(values, message):
    with pytest.raises(InputError, match=message) as error:
        column_texts("a", values, 0)
    with pytest.raises(InputError, match="column 'a'") as other:
        encoder_lib.raw_columns({"a": values}, ("a",))
    if not hasattr(values, "dtype") or values.dtype.kind != "m":  # which Arrow has a type for
        assert str(other.value) == str(error.value)


def test_a_list_of_days_of_numpy_is_read_value_by_value(monkeypatch):
    def refuse(*args):
        if args[0] and any(isinstance(value, np.datetime64) for value in args[0]):
            raise AssertionError("Arrow was given them")
        return made(*args)

    made = pa.array
    monkeypatch.setattr(pa, "array", refuse)
    days = ["2024-03-02", None, "2024-03-03"]
    values = [np.datetime64(days[0]), None, np.datetime64(days[2])]
    assert encoder_lib.raw_columns({"a": values}, ("a",))["a"].to_pylist() == days
    array = np.array(values, object)
    assert encoder_lib.raw_columns({"a": array}, ("a",))["a"].to_pylist() == days


def test_batches_and_rows_by_name(encoder):
    rows = {name: list(forms[0]) for name, forms in FORMS.items()}
    wanted = encoder.encode(rows)
    many = {name: values * 50 for name, values in rows.items()}
    for own, times in ((rows, 1), (many, 50)):
        batch = pa.RecordBatch.from_pydict(own)
        for table in (batch, pa.Table.from_batches([batch])):
            np.testing.assert_array_equal(encoder.encode(table), np.tile(wanted, (times, 1)))
    with pytest.raises(InputError, match="rows are a list of mappings; give one mapping"):
        encoder.encode([{name: values[0] for name, values in rows.items()}])
    with pytest.raises(InputError, match="rows are list; raw columns by name are needed"):
        encoder.encode([1, 2])
    with pytest.raises(InputError, match="column 'user' is one value"):
        encoder.encode({name: values[0] for name, values in rows.items()})
    with pytest.raises(InputError, match="more than one column 'a'"):
        as_columns(pa.table([[1], [2]], names=["a", "a"]))
    with pytest.raises(InputError, match="column 'user' is missing; the rows have 1, b"):
        encoder.encode({1: [2], "b": [3]})


def test_a_query_without_values_is_refused_by_its_type():
    class LazyFrame:
        columns = ("user",)

        def collect(self):
            return self

    with pytest.raises(InputError, match="rows are LazyFrame, a query without values; collect it"):
        as_columns(LazyFrame())


def test_the_first_row_that_cannot_be_used_is_named_among_many(encoder, monkeypatch):
    rows = {name: [forms[0][n % 2] for n in range(100)] for name, forms in FORMS.items()}
    faults = {"age": ("old", "'old', expected a number"), "user": ("\ud800", "no UTF-8 form")}
    for name, (value, message) in faults.items():
        column = list(rows[name])
        column[40] = column[70] = value
        said = []
        for some in (8192, 0):
            monkeypatch.setattr(request_columns, "_SOME_TEXTS", some)
            with pytest.raises(
                InputError, match=f"row 45: column '{name}' is .*{message}"
            ) as error:
                encoder.encode({**rows, name: column}, first_row=5)
            said.append(str(error.value))
        assert said[0] == said[1]


def test_texts_of_many_rows_are_not_taken_over_by_arrow(encoder, monkeypatch):
    rows = {name: [forms[0][n % 2] for n in range(100)] for name, forms in FORMS.items()}
    expected = encoder.encode(pa.table(rows))
    monkeypatch.setattr(request_columns, "as_array", None)
    np.testing.assert_array_equal(encoder.encode(rows), expected)
    with pytest.raises(TypeError):
        encoder.encode({**rows, "user": list(range(100))})
