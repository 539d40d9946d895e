import datetime
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optembed_jax.data.raw.arrow_texts import as_strings
from optembed_jax.data.raw.writing import canonical_values, forms_of_values
from optembed_jax.values.forms import forms_of, rule_of, rule_of_files
from optembed_jax.values.rule import KINDS, MISSING_WORDS, Rule

# What a training file holds, what it is taken for, and how its values are written then.
COLUMNS = {
    "integers": (["12", "-3", "0"], "number", ["12", "-3", "0"]),
    "integers as floats": (["12.0", "-3.0"], "number", ["12", "-3"]),
    "zero and one": (["0", "1"], "binary", ["0", "1"]),
    "zero and one as floats": (["0.0", "1.0"], "binary", ["0", "1"]),
    "floats": (["1.5", "2.0", "-0.25"], "number", ["1.5", "2", "-0.25"]),
    "floats without zeros": (["1.5", "2"], "number", ["1.5", "2"]),
    "prices": (["1.50", "2.00", "3.25"], "number", ["1.5", "2", "3.25"]),
    "two forms of integers": (["12", "12.0"], "text", ["12", "12.0"]),
    "versions": (["1.1", "1.10", "2.0"], "text", ["1.1", "1.10", "2.0"]),
    "versions without twins": (["1", "2.0"], "text", ["1", "2.0"]),
    "leading zeros": (["007", "12"], "text", ["007", "12"]),
    "a plus": (["+7", "12"], "text", ["+7", "12"]),
    "hexadecimal": (["05db9164", "12345678"], "text", ["05db9164", "12345678"]),
    "exponents": (["1e5", "12"], "text", ["1e5", "12"]),
    "exponents of C": (["1e+05", "-1.2345e+06", "12"], "number", ["100000", "-1234500", "12"]),
    "exponents of Java": (["1.0E20", "12.0"], "text", ["1.0E20", "12.0"]),
    "exponents with zeros": (["1.0e+20", "12.0"], "text", ["1.0e+20", "12.0"]),
    "exponents of small floats": (["1e-05", "12.0"], "number", ["0.00001", "12"]),
    "exponents of 32 bits": (["1.234567e+06", "0.5"], "number", ["1234567", "0.5"]),
    "exponents of fixed length": (["1.20e+06", "1.25e+06"], "text", ["1.20e+06", "1.25e+06"]),
    "exponents beyond floats": (["1e+999", "12"], "text", ["1e+999", "12"]),
    "exponents below floats": (["1e-999", "12"], "text", ["1e-999", "12"]),
    "exponents and words": (["1e-05", "a"], "text", ["1e-05", "a"]),
    "an exponent beside its digits": (["1e-05", "0.00001"], "text", ["1e-05", "0.00001"]),
    "an exponent beside other digits": (["1e-05", "0.0001"], "number", ["0.00001", "0.0001"]),
    "exponents from 32 bits on": (["1.5e+06", "999999.0"], "number", ["1500000", "999999"]),
    "exponents within a decade": (["1.5e+06", "1600000"], "text", ["1.5e+06", "1600000"]),
    "exponents of few digits": (["1e+04", "2e-03"], "text", ["1e+04", "2e-03"]),
    "exponents of one digit": (["2.5e-7", "0.5"], "number", ["0.00000025", "0.5"]),
    "exponents of one digit and of two": (["2.5e-7", "2.5e-07"], "text", ["2.5e-7", "2.5e-07"]),
    "exponents beyond exact": (
        ["1.00000000000000001e+06", "1.00000000000000002e+06"],
        "text",
        ["1.00000000000000001e+06", "1.00000000000000002e+06"],
    ),
    "exponents of 17 digits": (
        ["6.3583240178831959e+86", "6.358324017883196e+86"],
        "text",
        ["6.3583240178831959e+86", "6.358324017883196e+86"],
    ),
    "exponents about the smallest float": (["4.9e-324", "5e-324"], "text", None),
    "an exponent across a decade": (["9.99999999999999999e+05", "1000000"], "text", None),
    "large floats": (["12", "1e+20", "-1.5e-50"], "number", ["12", "1e+20", "-1.5e-50"]),
    "large floats with zeros": (["12.0", "1e+20"], "number", ["12", "1e+20"]),
    "large floats alone": (["1e+20", "5e-324"], "number", ["1e+20", "5e-324"]),
    "large floats beside two forms": (["12", "12.0", "1e+20"], "text", ["12", "12.0", "1e+20"]),
    "a large float in two forms": (["1e+16", "10000000000000000"], "number", None),
    "infinities": (["12", "inf", "-inf"], "number", ["12", "inf", "-inf"]),
    "infinities beside bits": (["1.0", "0.0", "inf"], "number", ["1", "0", "inf"]),
    "infinities as words": (["12", "Infinity"], "text", ["12", "Infinity"]),
    "infinities and truths": (["true", "inf"], "text", ["true", "inf"]),
    "infinities and days": (["2024-03-02", "inf"], "text", ["2024-03-02", "inf"]),
    "words": (["12", "unknown"], "text", ["12", "unknown"]),
    "Python's truths": (["True", "False"], "boolean", ["true", "false"]),
    "JSON's truths": (["true", "false"], "boolean", ["true", "false"]),
    "truths in two forms": (["True", "true"], "text", ["True", "true"]),
    "truths and numbers": (["True", "1"], "text", ["True", "1"]),
    "days": (["2024-03-02"], "time", ["2024-03-02"]),
    "midnights": (["2024-03-02 00:00:00"], "time", ["2024-03-02"]),
    "ISO times": (["2024-03-02T14:30:00"], "time", ["2024-03-02 14:30:00"]),
    "days and midnights": (["2024-03-02", "2024-03-02 00:00:00"], "text", None),
    "two zones": (["2024-03-02T14:30:00Z", "2024-03-02T15:30:00+01:00"], "text", None),
    "three zones": ([f"2024-03-30 05:00+0{n}:00" for n in range(3)], "text", None),
    "one zone": (["2024-03-02T15:30:00+01:00"], "time", ["2024-03-02 14:30:00Z"]),
    "fractions": (["2024-03-02 14:30:00.120000", "2024-03-02 14:30:00"], "time", None),
    "days and times": (
        ["2024-03-02", "2024-03-02 06:00:00"],
        "time",
        ["2024-03-02", "2024-03-02 06:00:00"],
    ),
    "days, times and fractions": (
        ["2024-03-02", "2024-03-02 06:00:00", "2024-03-02 00:00:00.25", "2024-03-02 06:00:00.5"],
        "time",
        ["2024-03-02", "2024-03-02 06:00:00", "2024-03-02 00:00:00.25", "2024-03-02 06:00:00.5"],
    ),
    "days, times and midnights": (
        ["2024-03-02", "2024-03-02 06:00:00", "2024-03-03 00:00:00"],
        "text",
        None,
    ),
    "days and long midnights": (["2024-03-02", "2024-03-02 00:00:00.000"], "text", None),
    "days and ISO times": (["2024-03-02", "2024-03-02T06:00:00"], "text", None),
    "days and minutes": (["2024-03-02", "2024-03-02 06:00"], "text", None),
    "days and a zone": (["2024-03-02", "2024-03-02 06:00:00Z"], "text", None),
    "days and long fractions": (["2024-03-02", "2024-03-02 06:00:00.50"], "text", None),
    "short fractions": (
        ["2024-03-02T14:30:00", "2024-03-02T14:30:00.5", "2024-03-02T14:30:00.25"],
        "time",
        ["2024-03-02 14:30:00", "2024-03-02 14:30:00.5", "2024-03-02 14:30:00.25"],
    ),
    "short fractions of a zone": (
        ["2024-03-02 00:00:00Z", "2024-03-02 00:00:00.5Z", "2024-03-02 00:00:00.000000001Z"],
        "time",
        ["2024-03-02 00:00:00Z", "2024-03-02 00:00:00.5Z", "2024-03-02 00:00:00.000000001Z"],
    ),
    "fractions of two lengths": (
        ["2024-03-02 14:30:00.5", "2024-03-02 14:30:00.50"],
        "text",
        None,
    ),
    "fractions of two lengths without twins": (
        ["2024-03-02 14:30:00.10", "2024-03-02 14:30:00.2"],
        "text",
        None,
    ),
    "fractions of nothing": (["2024-03-02 14:30:00", "2024-03-02 14:30:00.000"], "text", None),
    "seconds and minutes": (["2024-03-02 14:30", "2024-03-02 14:30:00"], "text", None),
    "times of day": (["14:30:00", "01:02:03.500000"], "time", ["14:30:00", "01:02:03.5"]),
    "times of day in minutes": (["14:30", "00:00"], "time", ["14:30:00", "00:00:00"]),
    "times of day in two ways": (["14:30", "14:30:00"], "text", ["14:30", "14:30:00"]),
    "times of day and days": (["14:30:00", "2024-03-02"], "text", None),
    "times of day and of days": (["14:30:00", "2024-03-02 14:30:00"], "text", None),
    "scores": (["14:75", "3:2"], "text", ["14:75", "3:2"]),
    "nothing": ([], "text", []),
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("missing", [[], [None], ["NULL"], ["nan"]])
def test_how_a_column_is_read(column, missing):
    texts, kind, written = COLUMNS[column]
    rule = rule_of(forms_of([*texts, *missing]))
    assert rule == Rule(kind, words=True)
    assert [rule.canonical(word) for word in missing] == [None] * len(missing)
    if written is not None:
        assert [rule.canonical(text) for text in texts] == written


@pytest.mark.parametrize("column", COLUMNS)
def test_no_two_texts_of_a_training_file_become_one(column):
    texts, _, _ = COLUMNS[column]
    rule = rule_of(forms_of(texts))
    assert len({rule.canonical(text) for text in texts}) == len(set(texts))


CELLS = st.one_of(
    st.integers(-20, 20).map(str),
    st.integers(-20, 20).map(lambda n: f"{n}.0"),
    st.decimals(-3, 3, places=2).map(str),
    st.sampled_from(["True", "true", "FALSE", "NULL", "nan", "NA", "007", "x", "", "1e3", "-0"]),
    st.sampled_from(["1e+16", "1e+20", "1.5e-50", "inf", "-inf", "10000000000000000", "1e-05"]),
    st.sampled_from(["1e+06", "1000000", "1000000.0", "2e+06", "0.00001", "2e-05", "-1.5e-05"]),
    st.floats(allow_nan=False).map("{:.17g}".format)
    | st.floats(allow_nan=False).map("{:.20e}".format),
    st.floats(1e-9, 1e-3).map(repr) | st.floats(1e-9, 1e-3).map("{:.3g}".format),
    st.integers(10**5, 10**7).map(str) | st.integers(10**5, 10**7).map(lambda n: f"{n / 10:e}"),
    st.sampled_from(
        ["2024-03-02", "2024-03-02 00:00:00", "2024-03-02T00:00:00", "2024-03-02 00:00"]
    ),
    st.text(max_size=4),
)
MOMENTS = st.one_of(
    st.just("2024-03-02"),
    st.builds(
        "2024-03-02{}{}{}{}".format,
        st.sampled_from(" T"),
        st.sampled_from(["00:00", "00:00:00", "06:00:00", "00:00:06"]),
        st.sampled_from(["", ".0", ".5", ".50", ".25", ".000", ".000000001"]),
        st.sampled_from(["", "Z", "+00:00", "-01:00"]),
    ),
    st.sampled_from(["00:00", "06:00:00", "06:00", "00:00:00.50", "00:00:00.5", "06:00:00.000"]),
)


@given(
    st.lists(CELLS, max_size=12, unique=True)
    | st.lists(MOMENTS, max_size=4, unique=True)
    | st.lists(CELLS | MOMENTS, max_size=4, unique=True)
)
def test_a_rule_never_makes_one_value_of_two_that_a_training_file_tells_apart(cells):
    # Blanks around a text are no part of it.
    texts = [cell.strip(" \t") or None for cell in cells]
    rule = rule_of(forms_of(texts))
    written = [rule.canonical(text) for text in texts]
    # -0.0 and 0.0 are one number however one looks at it, where they are read as numbers at all.
    alike = {"-0": "0", "-0.0": "0.0", "-0.00": "0.00"} if rule.kind == "number" else {}
    assert len(set(written)) == len({alike.get(text, text) for text in texts})
    assert [rule.canonical(text) for text in written] == written


@given(st.lists(CELLS | MOMENTS, max_size=90, unique=True), st.sampled_from(KINDS), st.booleans())
def test_whole_arrays_are_read_as_their_values(cells, kind, words):
    texts = [cell or None for cell in cells]
    array, rule = pa.array(texts, pa.string()), Rule(kind, words)
    assert canonical_values(array, rule).to_pylist() == [rule.canonical(t) for t in texts]
    assert rule_of(forms_of_values(array)) == rule_of(forms_of(texts))


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        ([*map(str, range(100)), "1500000", "1.6e+06"], "text"),
        ([*map(str, range(100)), "-1500000", "-1.6e+06"], "text"),
        ([*map(str, range(100)), "-150000", "1.6e+06"], "number"),
    ],
)
def test_whole_numbers_behind_many_others_are_looked_at_by_their_length(texts, kind):
    assert rule_of(forms_of_values(pa.array(texts))).kind == kind == rule_of(forms_of(texts)).kind


STEPS = st.integers(-999, 9999).map(lambda n: n * datetime.timedelta(milliseconds=250))
HOURS = st.integers(-999, 9999).map(lambda n: n * datetime.timedelta(hours=6))
TIMES = st.datetimes() | (STEPS | HOURS).map(lambda since: datetime.datetime(2024, 3, 2) + since)


@given(st.lists(TIMES, min_size=1), st.sampled_from([None, datetime.UTC]))
def test_a_column_of_times_is_read_as_times_however_they_are_written(moments, zone):
    moments = [moment.replace(tzinfo=zone) for moment in moments]
    kind = pa.timestamp("us", zone and "UTC")
    texts = as_strings(pa.array(moments, kind)).to_pylist()
    rule = rule_of(forms_of(texts))
    assert rule == Rule("time", words=True)
    assert [rule.canonical(text) for text in texts] == texts
    for between in " T":
        written = [moment.isoformat(between, "microseconds") for moment in moments]
        assert [rule.canonical(text) for text in written] == texts


FLOATS = {width: st.floats(allow_nan=False, width=width) for width in (16, 32, 64)}


@given(st.sampled_from(sorted(FLOATS)), st.data())
def test_a_column_of_floats_is_read_as_numbers_however_large_they_are(width, draw):
    floats = draw.draw(st.lists(FLOATS[width], min_size=1))
    texts = as_strings(pa.array(np.array(floats, f"f{width // 8}"))).to_pylist()
    rule = rule_of(forms_of(texts))
    assert rule.kind == ("binary" if set(floats) <= {0.0, 1.0} else "number")
    assert [rule.canonical(text) for text in texts] == texts
    whole = [x for x in floats if x.is_integer() and abs(x) < 2**53]
    assert [rule.canonical(f"{x:.1f}") for x in whole] == [str(int(x)) for x in whole]


def test_two_ways_of_writing_a_missing_value_are_kept_apart():
    rule = rule_of(forms_of([None, "NULL", "a"]))
    assert rule == Rule("text", words=False) and rule.canonical("NULL") == "NULL"
    assert rule_of(forms_of(["NULL", "nan"])).words is False
    assert "NA" not in MISSING_WORDS and "None" not in MISSING_WORDS  # a country, no garage


def test_ways_of_parts_are_those_of_the_whole():
    for one, other in itertools.permutations(COLUMNS.values(), 2):
        whole = forms_of([*one[0], *other[0]])
        assert rule_of(forms_of(one[0]) | forms_of(other[0])) == rule_of(whole)
        assert rule_of(forms_of(other[0], forms_of(one[0]))) == rule_of(whole)


# What each of several files holds, and how the column of all of them is read.
FILES = {
    "floats of a missing cell": ([["12", "13"], ["12.0", None]], Rule("number", words=True)),
    "Parquet beside pandas' CSV": ([["12", "0.5"], ["12.0", "0.5"]], Rule("number", words=True)),
    "an exponent of one, digits of another": (
        [["0.00001", "1"], ["1e-05", "1.0"]],
        Rule("number", words=True),
    ),
    "bits beside numbers": ([["0", "1"], ["12.0"]], Rule("number", words=True)),
    "Python's and JSON's truths": ([["True"], ["true", "false"]], Rule("boolean", words=True)),
    "truths and bits": ([["True", "False"], ["0", "1"]], Rule("binary", words=True)),
    "bits and bits as floats": ([["1", "0"], ["1.0"]], Rule("binary", words=True)),
    "blank and T": (
        [["2024-03-02 06:00:00"], ["2024-03-02T06:00:00"], ["2024-03-02"]],
        Rule("time", words=True),
    ),
    "zones": (
        [["2024-03-02T14:30:00Z"], ["2024-03-02T15:30:00+01:00"]],
        Rule("time", words=True),
    ),
    "a zone and none": ([["2024-03-02T14:30:00Z"], ["2024-03-02T14:30:00"]], Rule("text", True)),
    "ways of missing values": ([["a", None], ["b", "NULL"]], Rule("text", words=True)),
    "two of them in one file": ([["a", None, "NULL"], ["b", "NULL"]], Rule("text", words=False)),
    "versions": ([["1.8", "1.9"], ["1.10", "1.11"]], Rule("text", words=True)),
    "prices of two lengths": ([["1.50", "2.25"], ["1.5", "2"]], Rule("text", words=True)),
    "two ways within one file": ([["12", "12.0"], ["13"]], Rule("text", words=True)),
    "words in one file": ([["12"], ["x"]], Rule("text", words=True)),
    "numbers and truths": ([["12"], ["true"]], Rule("text", words=True)),
    "numbers and days": ([["12"], ["2024-03-02"]], Rule("text", words=True)),
    "a file that says nothing beside two": (
        [["12"], ["12.0"], [None], []],
        Rule("number", words=True),
    ),
    "a file that says nothing": ([["12"], [None], ["NA"], []], Rule("number", words=True)),
    "files that say nothing": ([[None], ["NULL"]], Rule("text", words=True)),
    "no file": ([], Rule("text", words=True)),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_write_a_column_in_one_way_each_mean_the_same(case):
    files, rule = FILES[case]
    assert rule_of_files(map(forms_of, files)) == rule
    assert rule_of_files(map(forms_of, files[::-1])) == rule


@pytest.mark.parametrize("column", COLUMNS)
def test_files_of_one_way_are_one_file(column):
    texts, kind, _ = COLUMNS[column]
    assert rule_of_files([forms_of(texts)] * 3) == Rule(kind, words=True)


@given(st.lists(st.lists(CELLS | MOMENTS, max_size=4, unique=True), max_size=3))
def test_no_file_tells_apart_what_is_one_value_of_all(files):
    files = [[cell.strip(" \t") or None for cell in cells] for cells in files]
    rule = rule_of_files(map(forms_of, files))
    for texts in files:
        alike = {"-0": "0", "-0.0": "0.0", "-0.00": "0.00"} if rule.kind != "text" else {}
        written = {rule.canonical(text) for text in texts}
        assert len(written) == len({alike.get(text, text) for text in texts})
