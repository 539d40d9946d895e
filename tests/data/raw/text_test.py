import bz2
import csv
import dataclasses
import gzip
import io
import lzma
import tracemalloc

import numpy as np
import pytest

from optembed_jax.data.raw.dialect import Dialect
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.quoting import BEHIND, UNCLOSED
from optembed_jax.data.raw.text import TextSource
from optembed_jax.errors import InputError

PLAIN = Dialect(("y", "a", "b"), "\t", quoted=False, header=False)
QUOTED = Dialect(("y", "a", "b"), ",", quoted=True, header=True)


@pytest.fixture
def source_of(tmp_path):
    def make(*contents, dialect=PLAIN, block_bytes=64, wanted=None, zipped=False):
        files = []
        for number, content in enumerate(contents):
            path = tmp_path / f"{number}.txt"
            path.write_bytes(gzip.compress(content) if zipped else content)
            files.append(RawFile(path))
        return TextSource(tuple(files), dialect, wanted or dialect.columns, block_bytes)

    return make


def read_all(source):
    rows, lines, numbers, rejects = [], [], [], []
    for block in source.blocks():
        raw = source.read(block)
        columns = [raw.columns[name].to_pylist() for name in source.wanted]
        rows += zip(*columns, strict=True)
        lines += raw.lines.tolist()
        numbers += raw.rows.tolist()
        rejects += raw.rejects
    return rows, lines, numbers, rejects


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("block_bytes", [1, 7, 64, 10_000])
def test_any_block_size_gives_the_same_rows(source_of, zipped, end, block_bytes):
    expected = [(str(i % 2), f"v{i}" if i % 3 else None, str(-i)) for i in range(50)]
    content = b"".join("\t".join(c or "" for c in row).encode() + end for row in expected)
    source = source_of(content, zipped=zipped, block_bytes=block_bytes)
    rows, lines, numbers, rejects = read_all(source)
    assert rows == expected and not rejects
    assert lines == list(range(1, 51)) and numbers == list(range(50))


def test_a_last_line_without_end_and_empty_lines_at_the_end(source_of):
    for tail in (b"", b"\n", b"\n\n\n", b"\r\n\r\n"):
        rows, _, _, rejects = read_all(source_of(b"1\ta\tb\n0\tc\td" + tail, block_bytes=5))
        assert rows == [("1", "a", "b"), ("0", "c", "d")] and not rejects


@pytest.mark.parametrize("block_bytes", [1, 5, 10_000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_empty_lines_of_one_column_are_rows(source_of, block_bytes, end):
    one = Dialect(("v",), ",", quoted=True, header=True)
    text = end.join(["v", "a", "", "b", "", ""]) + end
    rows, _, _, _ = read_all(source_of(text.encode(), dialect=one, block_bytes=block_bytes))
    assert [value for (value,) in rows] == ["a", None, "b", None, None]


def test_several_files_are_read_as_one(source_of):
    source = source_of(b"1\ta\tb\n0\tc\td\n", b"1\te\tf\n")
    rows, lines, numbers, _ = read_all(source)
    assert [r[1] for r in rows] == ["a", "c", "e"]
    assert lines == [1, 2, 1] and numbers == [0, 1, 2]
    assert list(source.blocks())[-1].position == source.size


def test_gzip_files_put_together_are_one(source_of, tmp_path):
    source = source_of(b"x")
    source.files[0].path.write_bytes(gzip.compress(b"1\ta\t") + gzip.compress(b"b\n0\tc\td\n"))
    assert read_all(source)[0] == [("1", "a", "b"), ("0", "c", "d")]


def test_damaged_gzip_is_named(source_of):
    content = b"".join(b"1\t%d\tb\n" % i for i in range(20_000))
    source = source_of(content, zipped=True, block_bytes=1_000)
    path = source.files[0].path
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"0\.txt is gzip that ends too early"):
        read_all(source)
    path.write_bytes(whole[:2000] + bytes([whole[2000] ^ 0xFF]) + whole[2001:])
    with pytest.raises(InputError, match=r"0\.txt is damaged gzip"):
        read_all(source)


def test_bad_rows_are_found_by_line_and_the_others_kept(source_of):
    content = b"1\ta\tb\n1\ta\n0\t\xff\xfed\te\n\n0\tx\ty\tz\n1\tp\rq\tr\n0\tgood\t\n"
    rows, lines, numbers, rejects = read_all(source_of(content, block_bytes=1_000))
    assert rows == [("1", "a", "b"), ("0", "good", None)]
    assert lines == [1, 7] and numbers == [0, 6]
    assert [(r.line, r.reason) for r in rejects] == [
        (2, "2 columns where 3 are expected"),
        (3, "invalid UTF-8 (byte 0xff) in column 'a'"),
        (4, "an empty line where 3 columns are expected"),
        (5, "4 columns where 3 are expected"),
        (6, "a carriage return within the row"),
    ]
    assert rejects[1].text == "0\t\\xff\\xfed\te"


@pytest.mark.parametrize("block_bytes", [1, 20, 1_000])
def test_quoted_cells_hold_delimiters_quotes_and_line_ends(source_of, block_bytes):
    content = b'y,a,b\n1,"x,\n""y""",z\n0,plain,"l1\nl2\nl3"\n1,"",q\n'
    source = source_of(content, dialect=QUOTED, block_bytes=block_bytes)
    rows, _, numbers, rejects = read_all(source)
    assert rows == [("1", 'x,\n"y"', "z"), ("0", "plain", "l1\nl2\nl3"), ("1", None, "q")]
    assert not rejects
    assert len(set(numbers)) == 3 and numbers == sorted(numbers)


def test_bad_rows_among_quoted_ones(source_of):
    content = b'y,a,b\n1,"x\ny",z\n0,short\n1,ok,"end\n2"\n0,"bad" tail,1\n'
    rows, lines, _, rejects = read_all(source_of(content, dialect=QUOTED, block_bytes=1_000))
    assert rows[0] == ("1", "x\ny", "z") and ("1", "ok", "end\n2") in rows
    assert (rejects[0].line, rejects[0].reason) == (4, "2 columns where 3 are expected")
    assert lines[:2] == [2, 5]


@pytest.mark.parametrize("block_bytes", [1, 20, 1_000])
@pytest.mark.parametrize("bad", ['0,"never,closed', '0,x,"never closed', '"0,x,y', '0,x,"'])
def test_an_unclosed_quote_takes_no_other_row_away(source_of, block_bytes, bad):
    content = f'y,a,b\n1,x,z\n{bad}\n1,q,"r\ns"\n1,5" x,t\n'.encode()
    source = source_of(content, dialect=QUOTED, block_bytes=block_bytes)
    rows, lines, numbers, (reject,) = read_all(source)
    assert rows == [("1", "x", "z"), ("1", "q", "r\ns"), ("1", '5" x', "t")]
    assert lines == [2, 4, 6] and numbers == [0, 2, 3]
    assert reject.line == 3 and "none closes it" in reject.reason and reject.text == bad


def test_headers(source_of):
    good = b"y,a,b\n1,2,3\n"
    assert read_all(source_of(good, good, b"0,5,6\n", dialect=QUOTED))[0] == [
        ("1", "2", "3"),
        ("1", "2", "3"),
        ("0", "5", "6"),
    ]
    assert read_all(source_of(b"\xef\xbb\xbf" + good, dialect=QUOTED))[0] == [("1", "2", "3")]
    with pytest.raises(
        InputError, match=r"0\.txt line 1: the header should name .* 'b' is missing"
    ):
        read_all(source_of(b"y,a,c\n1,2,3\n", dialect=QUOTED))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", "is a zip archive; unpack it"),
        (bz2.compress(b"1\ta\tb\n"), "is compressed by bzip2"),
        (lzma.compress(b"1\ta\tb\n"), "is compressed by xz"),
        ("1\ta\tb\n".encode("utf-16"), "is UTF-16 text; give encoding=utf-16"),
    ],
)
def test_files_of_another_kind_are_told(source_of, content, message):
    with pytest.raises(InputError, match=message):
        read_all(source_of(content))


def test_lone_carriage_returns_are_no_line_ends(source_of):
    rows, lines, _, rejects = read_all(source_of(b"1\ta\tb\r0\tc\td\n1\te\tf\r\n"))
    assert rows == [("1", "e", "f")] and lines == [2]
    assert [(r.line, r.reason) for r in rejects] == [(1, "a carriage return within the row")]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("block_bytes", [1, 7, 10_000])
def test_a_file_whose_lines_end_in_carriage_returns_is_read(source_of, zipped, block_bytes):
    rows = [(str(i % 2), f"v{i}", str(-i)) for i in range(50)]
    content = b"".join("\t".join(row).encode() + b"\r" for row in rows)
    found, lines, _, rejects = read_all(source_of(content, zipped=zipped, block_bytes=block_bytes))
    assert found == rows and lines == list(range(1, 51)) and not rejects


def test_two_kinds_of_line_ends_are_refused_where_the_first_is_a_carriage_return(source_of):
    content = b"1\ta\tb\r" * 20_000 + b"1\ta\tb\n"
    with pytest.raises(InputError, match="mixes line ends"):
        read_all(source_of(content))


def test_a_line_end_in_quotes_is_kept_wherever_it_stands(source_of):
    """At the border of a piece pyarrow 26.0.1 drops the letter before it."""
    cell = "x" * 3000 + "\r\nB"
    lengths = range(2**20 - 3010, 2**20 - 2990)
    text = "y,a,b\r\n" + "".join(f'1,{"f" * (2**20 - 3010)},"{cell}"\r\n' for _ in range(3))
    found, _, _, rejects = read_all(
        source_of(text.encode(), dialect=QUOTED, block_bytes=2**24, wanted=("b",))
    )
    assert found == [(cell,)] * 3 and not rejects
    for length in lengths:
        text = f'y,a,b\r\n1,{"f" * length},"{cell}"\r\n'
        source = source_of(text.encode(), dialect=QUOTED, block_bytes=2**24, wanted=("b",))
        assert read_all(source)[0] == [(cell,)]


def test_backslash_n_is_a_missing_cell(source_of):
    found, _, _, _ = read_all(source_of(b"1\t\\N\tb\n0\tN\t\\\\N\n"))
    assert found == [("1", None, "b"), ("0", "N", r"\\N")]


@pytest.mark.parametrize("block_bytes", [1, 10_000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blanks_around_quotes_are_no_part_of_a_cell(source_of, block_bytes, end):
    lines = [
        "y,a,b",
        '1, "x, y" ,\t"p"',
        ' "0" ,"u ""v, ""w""", q "r" ',
        '1,"", "s\nt"',
        '0,"a", " b "',
    ]
    source = source_of(end.join(lines).encode(), dialect=QUOTED, block_bytes=block_bytes)
    rows, lines, _, rejects = read_all(source)
    found = [tuple(cell and cell.strip() for cell in row) for row in rows]
    assert found == [
        ("1", "x, y", "p"),
        ("0", 'u "v, "w"', 'q "r"'),
        ("1", None, "s\nt"),
        ("0", "a", "b"),
    ]
    assert lines == [2, 3, 4, 6] and not rejects


@pytest.mark.parametrize("again", ["y,a,b", ' "y" , "a",b', "y,a,b\r"])
@pytest.mark.parametrize("wanted", [None, ("b",)])
def test_the_header_in_the_middle_is_no_row(source_of, again, wanted):
    content = f"y,a,b\n1,a,b\n0,a,bb\n{again}\n1,y,b\n".encode()
    source = source_of(content, dialect=QUOTED, block_bytes=1_000, wanted=wanted)
    rows, lines, _, rejects = read_all(source)
    assert [row[-1] for row in rows] == ["b", "bb", "b"] and lines == [2, 3, 5]
    (reject,) = rejects
    assert reject.line == 4 and "the names of the columns once more" in reject.reason
    alone = source_of(b"a\nx\na\n", dialect=Dialect(("a",), ",", True, True))
    assert read_all(alone)[0] == [("x",), ("a",)]  # There it may be a value.


@pytest.mark.parametrize("wanted", [None, ("a", "b")])
def test_an_empty_line_among_columns_is_no_row(source_of, wanted):
    content = b'y,a,b\n1,,\n\n,"\n\nx",\r\n\r\n1,,z\n'
    source = source_of(content, dialect=QUOTED, block_bytes=1_000, wanted=wanted)
    rows, lines, _, rejects = read_all(source)
    assert [row[-2:] for row in rows] == [(None, None), ("\n\nx", None), (None, "z")]
    assert lines == [2, 4, 8] and [reject.line for reject in rejects] == [3, 7]
    assert "an empty line where 3 columns are expected" in rejects[0].reason


@pytest.mark.parametrize("late", [b"", b"abc", b"abcdefghi", b"\xc3\xa9"])
def test_hashes_give_the_same_values_as_other_text(source_of, late):
    rows = [(b"1", b"%08x" % i, b"%08x" % (i % 7) if i % 5 else b"") for i in range(100)]
    content = b"".join(b"\t".join(row) + b"\n" for row in [*rows, (b"0", late, b"00000000")])
    found, _, _, rejects = read_all(source_of(content, block_bytes=10_000))
    as_text = [tuple(c and c.decode() for c in row) for row in [*rows, (b"0", late, b"00000000")]]
    found = [tuple(c.decode() if isinstance(c, bytes) else c for c in row) for row in found]
    assert found == [tuple(c or None for c in row) for row in as_text] and not rejects


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_empty_files_are_refused(source_of, content):
    with pytest.raises(InputError, match=r"is empty|holds no rows"):
        read_all(source_of(content))


def test_a_header_alone_is_refused(source_of):
    with pytest.raises(InputError, match="holds no rows"):
        read_all(source_of(b"y,a,b\n", dialect=QUOTED))


def test_a_delimiter_of_two_bytes(source_of):
    dialect = Dialect(("u", "m", "r"), "::", quoted=False, header=False)
    assert read_all(source_of(b"1::2::3\n4::5:6::7\n", dialect=dialect))[0] == [
        ("1", "2", "3"),
        ("4", "5:6", "7"),
    ]


def test_blocks_of_zipped_text_stay_small(source_of):
    content = b"1\t" + b"a" * 50 + b"\tb\n"
    source = source_of(content * 200_000, zipped=True, block_bytes=2**16)  # 11 MB of text
    tracemalloc.start()
    biggest = max(len(block.content) for block in source.blocks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert biggest < 2**18 and peak < 2**21


def test_rows_longer_than_a_piece(source_of):
    long = b"x" * (2**21)
    rows, _, _, rejects = read_all(source_of(b"1\ta\tb\n0\t" + long + b"\tc\n", block_bytes=2**16))
    assert not rejects and len(rows[1][1]) == 2**21 and rows[0] == ("1", "a", "b")


def test_raw_text_of_a_row(source_of):
    source = source_of(b"1\ta\tb\n0\tc\td\n", block_bytes=1_000)
    raw = source.read(next(iter(source.blocks())))
    assert raw.text(1) == "0\tc\td"
    assert raw.rows.dtype == raw.lines.dtype == np.int64


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (b"a,1\n\rb,2\n\rc,3\n", 3),
        (b"a,1\nb,2\r\r\nc,3\n", 3),
        (b"a,1\nb,2\rc,3\nd,4\n", 3),
        (b"a,1\nb\r,2\n", 3),
        (b'"a",1\nb,"2"\rc,3\nd,4\n', 3),
    ],
)
def test_a_carriage_return_within_a_row_is_told_by_its_line(tmp_path, rows, line):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"name,number\n" + rows)
    dialect = Dialect(("name", "number"), ",", quoted=True, header=True)
    source = TextSource((RawFile(path),), dialect, ("name", "number"))
    (block,) = source.blocks()
    found = source.read(block)
    assert found.rejects[0].line == line and "a carriage return within the row" in str(
        found.rejects
    )
    # What stands in quotes is a cell's, and CRLF is an end.
    path.write_bytes(b'name,number\r\n"a\rb",1\r\n"c\r\nd",2\r\n')
    (block,) = source.blocks()
    found = source.read(block)
    assert found.columns["name"].to_pylist() == ["a\rb", "c\r\nd"] and not found.rejects


MIXED = [
    '1,5" pipe,z',
    '0,"l1\n\n""l2""",z',
    "1,caf\xe9,z",
    '0,{},"q, r"'.format("x" * 200_000),
    '1,6" pipe,"z"',
]
BAD = {
    "0,short": "2 columns where 3 are expected",
    "0,a,b,c": "4 columns where 3 are expected",
    "": "an empty line where 3 columns are expected",
    "y,a,b": "the names of the columns once more, as where several files were put together",
    "0,x\ry,z": "a carriage return within the row",
    r'0,"x\"y",z': BEHIND,
    r'0,"{\"k\":\"v\"}",z': BEHIND,
    '0,"a"b,z': BEHIND,
    '0,"a" b,z': BEHIND,
    '0,"a""b" "c",z': BEHIND,
    '0,z,"x': UNCLOSED,
    '0,z,"x\\""': UNCLOSED,
}


@pytest.fixture
def long_cells():
    """Python's csv module reads cells of any length."""
    before = csv.field_size_limit(10**6)
    yield
    csv.field_size_limit(before)


@pytest.mark.parametrize("block_bytes", [1, 300, 10_000_000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_bad_row_changes_nothing_about_others(source_of, long_cells, block_bytes, end):
    """What is good is what Python's csv module makes of it, whatever stands around it."""
    lines, expected, told = ["y,a,b"], [], []
    for number, bad in enumerate([None, *BAD, None]):
        for good in MIXED[: 5 if number < 2 else 3]:
            good = good.replace("\n", end)
            (row,) = csv.reader(io.StringIO(good, newline=""), strict=True)
            place = sum(line.count("\n") + 1 for line in lines) + 1
            expected.append((tuple(row), place, len(expected) + len(told)))
            lines.append(good)
        if bad is not None:
            place = sum(line.count("\n") + 1 for line in lines) + 1
            told.append((place, BAD[bad], bad))
            lines.append(bad)
    content = "".join(line + end for line in lines).encode()
    source = source_of(content, dialect=QUOTED, block_bytes=block_bytes)
    rows, places, numbers, rejects = read_all(source)
    assert list(zip(rows, places, numbers, strict=True)) == expected
    assert [(reject.line, reject.reason, reject.text) for reject in rejects] == told


@pytest.mark.parametrize("around", ["", "0,short\n"])
def test_bytes_that_are_no_text_matter_in_columns_that_are_read(source_of, around):
    content = f"y,a,b\n1,x,z\n{around}".encode() + b"1,\xe9,z\n0,\xc3\xa9,z\n"
    rows, _, _, rejects = read_all(source_of(content, dialect=QUOTED, wanted=("y", "b")))
    assert rows == [("1", "z"), ("1", "z"), ("0", "z")] and len(rejects) == bool(around)
    rows, _, _, rejects = read_all(source_of(content, dialect=QUOTED, wanted=("a", "y")))
    assert rows == [("x", "1"), ("\xe9", "0")]
    assert rejects[-1].reason == "invalid UTF-8 (byte 0xe9) in column 'a'"
    assert rejects[-1].text == "1,\\xe9,z"


def test_a_row_of_too_few_columns_may_be_no_text(source_of):
    """pyarrow cannot show such a row to whom it asks what to do with it."""
    content = b"y,a,b\n1,\xff\n1,x,z\n\xff,\xff,\xff,\xff\n"
    rows, lines, _, rejects = read_all(source_of(content, dialect=QUOTED, block_bytes=1_000))
    assert rows == [("1", "x", "z")] and lines == [3]
    assert [(reject.line, reject.reason, reject.text) for reject in rejects] == [
        (2, "2 columns where 3 are expected", "1,\\xff"),
        (4, "4 columns where 3 are expected", ",".join(["\\xff"] * 4)),
    ]


@pytest.mark.parametrize("bad", ["", "0,short\n"])
def test_a_row_is_shown_as_it_stands_in_the_file(source_of, bad):
    content = f'y,a,b\n{bad}1,5" pipe,z\n0, "l1\nl2" ,z\n1,6" pipe,z\n0,p,q\n'
    source = source_of(content.encode(), dialect=QUOTED, block_bytes=1_000)
    raw = source.read(next(iter(source.blocks())))
    shown = ['1,5" pipe,z', '0, "l1\nl2" ,z', '1,6" pipe,z', "0,p,q"]
    assert [raw.text(position) for position in range(4)] == shown


def test_a_header_of_several_lines(source_of):
    dialect = Dialect(("no\nte", "a"), ",", quoted=True, header=True)
    content = b'"no\nte",a\nx,1\n"y\nz",2\nw,3,4\n'
    for block_bytes in (1, 1_000):
        source = source_of(content, content, dialect=dialect, block_bytes=block_bytes)
        rows, lines, numbers, rejects = read_all(source)
        assert rows == [("x", "1"), ("y\nz", "2")] * 2
        assert lines == [3, 4] * 2 and numbers == [0, 1, 3, 4]
        assert [reject.line for reject in rejects] == [6, 6]
    with pytest.raises(InputError, match=r"0\.txt line 2, in the header: a quote opens here"):
        read_all(source_of(b'"no\nte","a\nx,1\n', dialect=dialect))
    with pytest.raises(InputError, match=r"line 1, in the header: text stands behind"):
        read_all(source_of(b'"no"te,a\nx,1\n', dialect=dialect))


def test_rows_are_numbered_whatever_lines_they_have(source_of):
    parts = [b'y,a,b\n1,"x\ny",z\n0,p,q\n', b'y,a,b\n1,"\n\n",z\nshort\n1,r,s\n']
    whole = parts[0] + parts[1].split(b"\n", 1)[1]
    for block_bytes in (1, 1_000):
        numbers = [
            read_all(source_of(*files, dialect=QUOTED, block_bytes=block_bytes))[2]
            for files in (parts, [whole])
        ]
        assert numbers == [[0, 1, 2, 4]] * 2
        ends = [block.end for block in source_of(*parts, dialect=QUOTED).blocks()]
        assert ends[-1] == 5


def test_no_column_of_a_text_may_be_wanted(source_of):
    source = source_of(b"y,a,b\n1,2,3\n0\n4,5,6\n", dialect=QUOTED)
    source = dataclasses.replace(source, wanted=())
    (block,) = source.blocks()
    assert source.read(block).lines.tolist() == [2, 4]
