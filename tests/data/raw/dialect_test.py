import csv

import pytest

from optembed_jax.data.raw.dialect import (
    Dialect,
    cells_in_quotes,
    is_header,
    line_fault,
    printable,
    read_names,
)
from optembed_jax.errors import InputError

QUOTED = Dialect(("a", "b"), ",", quoted=True, header=True)
PLAIN = Dialect(("a", "b"), "::", quoted=False, header=False)


def test_names_in_a_header_have_no_blanks_around():
    assert read_names(b'click , user, "the item"\t,x\r\n', ",") == [
        "click",
        "user",
        "the item",
        "x",
    ]


def test_a_name_may_have_line_ends():
    row = b'"no\r\nte",u,"i ""j"", k"\r\n'
    (names,) = csv.reader([row.decode()[:-2]], strict=True)
    assert read_names(row, ",") == names == ["no\r\nte", "u", 'i "j", k']


@pytest.mark.parametrize("row", [b"a,b\r1,2\r3,4\n", b'"a",b\r"c",d\n'])
def test_a_header_with_a_carriage_return_is_refused_by_its_file(row):
    with pytest.raises(InputError, match=r"x\.csv: the first line has a carriage return within it"):
        read_names(row, ",", "x.csv")


@pytest.mark.parametrize(("row", "message"), [(b"a,\xff\n", "UTF-8"), (b"a" * 200_000, "header")])
def test_a_header_that_is_no_text_is_refused_by_its_file(row, message):
    with pytest.raises(InputError, match=rf"x\.csv: the header .*{message}|x\.csv: the {message}"):
        read_names(row, ",", "x.csv")


@pytest.mark.parametrize(
    ("raw", "dialect", "reason"),
    [
        (b"1,2\n", QUOTED, None),
        (b'"1,\r2",3\r\n', QUOTED, None),
        (b'5" x,"2\r"\n', QUOTED, None),
        (b"1::\r\n", PLAIN, None),
        (b"\n", QUOTED, "an empty line where 2 columns are expected"),
        (b"\r\n", PLAIN, "an empty line where 2 columns are expected"),
        (b"1::2\r3\n", PLAIN, "a carriage return within the row"),
        (b'1::"2\r3"\n', PLAIN, "a carriage return within the row"),
        (b"1,2\r\r\n", QUOTED, "a carriage return within the row"),
        (b'5" x,6" \r y\n', QUOTED, "a carriage return within the row"),
    ],
)
def test_why_a_line_is_no_row(raw, dialect, reason):
    assert line_fault(raw, dialect) == reason


def test_the_header_once_more():
    assert is_header(b' "a" , b\r\n', QUOTED) and not is_header(b"a,b,c\n", QUOTED)
    assert not is_header(b"a::b\n", PLAIN)  # It has none.
    assert not is_header(b"a,\xff\n", QUOTED)
    assert not is_header(b"a\n", Dialect(("a",), ",", quoted=True, header=True))


def test_cells_in_quotes_are_found():
    row = b'"x, ""y""",5" \xff,  "a\nb" ,"","'
    assert cells_in_quotes(",;").sub(rb"\1", row) == b',5" \xff, ,,"'


def test_what_is_shown_of_a_row():
    assert printable(b"a,\xff\r\n") == "a,\\xff"
