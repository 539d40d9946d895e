import pytest

from optembed_jax.data.raw.dialect import Dialect, fault_of, read_names, row_text, rows_of
from optembed_jax.errors import InputError

QUOTED = Dialect(("a", "b"), ",", quoted=True, header=True)
PLAIN = Dialect(("a", "b"), "::", quoted=False, header=False)


def test_names_in_a_header_have_no_blanks_around():
    assert read_names(b'click , user, "the item"\t,x\r\n1,2,3,4\n', ",") == [
        "click",
        "user",
        "the item",
        "x",
    ]


def test_a_header_with_a_carriage_return_is_refused_by_its_file():
    with pytest.raises(InputError, match=r"x\.csv: the first line has a carriage return within it"):
        read_names(b"a,b\r1,2\r3,4\n5,6\n", ",", "x.csv")


def test_a_row_in_quotes_may_be_of_several_lines():
    content = b'1,2\n"x\n""y""\n",3\n4,"5'
    expected = [(0, b"1,2\n"), (1, b'"x\n""y""\n",3\n'), (4, b'4,"5')]
    assert list(rows_of(content, QUOTED)) == expected
    assert row_text(content, QUOTED, 1) == '"x\n""y""\n",3'
    assert [number for number, _ in rows_of(content, PLAIN)] == [0, 1, 2, 3, 4]
    assert not list(rows_of(b"", QUOTED)) and not list(rows_of(b"", PLAIN))


@pytest.mark.parametrize(
    ("raw", "dialect", "reason"),
    [
        (b"1,2\n", QUOTED, None),
        (b'"1,\n2",3\r\n', QUOTED, None),
        (b"1::\r\n", PLAIN, None),
        (b"\n", QUOTED, "an empty line where 2 columns are expected"),
        (b"1,2,3\n", QUOTED, "3 columns where 2 are expected"),
        (b"1:2\n", PLAIN, "1 columns where 2 are expected"),
        (b'1,"2\n', QUOTED, "quotes that do not match"),
        (b"1::\xff\n", PLAIN, "invalid UTF-8 (byte 0xff) in column 'b'"),
        (b"1::2\r3\n", PLAIN, "a carriage return within the row"),
        (b" a ,b\n", QUOTED, "the names of the columns once more"),
        (b"a::b\n", PLAIN, None),
    ],
)
def test_why_a_row_cannot_be_decoded(raw, dialect, reason):
    found = fault_of(raw, dialect)
    assert found is None if reason is None else found.startswith(reason)
