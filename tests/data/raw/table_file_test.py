"""The same rows in every form that a table's file may have."""

import csv
import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optembed_jax.data.raw.columns import code
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.layout import FOUND, Layout
from optembed_jax.data.raw.table_file import is_empty, keys_of, source_of
from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells, cell_text

WANTED = ("y", "city", "price")


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    cities = [None if rng.random() < 0.1 else f"Zürich {v} \u20ac" for v in rng.zipf(1.6, 400)]
    prices = [None if rng.random() < 0.1 else int(v) + 0.25 for v in rng.normal(0, 99, 400)]
    return list(zip(rng.integers(0, 2, 400).tolist(), cities, prices, strict=True))


def read(source, names=WANTED):
    """Rows of texts, their line numbers, and what was rejected."""
    texts, lines, rejects = [], [], []
    for block in source.blocks():
        found = source.read(block)
        coded = [code(found.columns[name]) for name in names]
        columns = [[c.values.to_pylist()[i] for i in c.codes] for c in coded]
        texts += list(zip(*columns, strict=True))
        lines += found.lines.tolist()
        rejects += list(found.rejects)
        assert len(found.rows) == len(found.lines)
    return texts, lines, rejects


def opened(path, layout=FOUND, numbers=("price",), names=WANTED, **options):
    return source_of(RawFile(path), names, layout, numbers, **options)


def as_text(rows, delimiter=",", decimal=".", header=True):
    lines = [delimiter.join(WANTED)] if header else []
    for row in rows:
        cells = ["" if cell is None else str(cell) for cell in row]
        lines.append(delimiter.join([*cells[:2], cells[2].replace(".", decimal)]))
    return "\n".join(lines) + "\n"


def as_json(rows):
    return "".join(
        json.dumps({k: v for k, v in zip(WANTED, row, strict=True) if v is not None}) + "\n"
        for row in rows
    )


def zstd(content):
    half = len(content) // 2
    codec = pa.Codec("zstd")
    return b"".join(codec.compress(part, asbytes=True) for part in (content[:half], content[half:]))


FORMS = {
    "csv": (as_text, {}, "utf-8", None),
    "csv zstd": (as_text, {}, "utf-8", zstd),
    "csv gzip": (as_text, {}, "utf-8", gzip.compress),
    "decimal comma": (
        lambda rows: as_text(rows, ";", ","), {"decimal": ",", "delimiter": ";"}, "utf-8", None
    ),
    "decimal comma, delimiter found": (
        lambda rows: as_text(rows, "\t", ","), {"decimal": ","}, "utf-8", None
    ),
    "a delimiter": (lambda rows: as_text(rows, "^"), {"delimiter": "^"}, "utf-8", None),
    "a tab by name": (lambda rows: as_text(rows, "\t"), {"delimiter": "tab"}, "utf-8", None),
    "no header": (
        lambda rows: as_text(rows, header=False), {"columns": WANTED}, "utf-8", None
    ),
    "cp1252": (as_text, {"encoding": "cp1252"}, "cp1252", None),
    "utf-16": (as_text, {"encoding": "utf-16"}, "utf-16", None),
    "utf-16 zstd": (as_text, {"encoding": "utf-16"}, "utf-16", zstd),
    "json": (as_json, {}, "utf-8", None),
    "json zstd": (as_json, {}, "utf-8", zstd),
    "json cp1252": (
        lambda rows: as_json(rows).encode().decode("unicode_escape"),
        {"encoding": "cp1252"}, "cp1252", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("block_bytes", [1, 3_000, 2**24])
def test_every_form_gives_the_same_rows(tmp_path, rows, form, block_bytes):
    write, layout, encoding, pack = FORMS[form]
    path = tmp_path / "file.txt"
    content = write(rows).encode(encoding)
    path.write_bytes(content if pack is None else pack(content))
    found, lines, rejects = read(opened(path, Layout(**layout), block_bytes=block_bytes))
    expected = [tuple(None if v is None else str(v) for v in row) for row in rows]
    assert found == expected and not rejects
    first = 1 if "json" in form or form == "no header" else 2
    assert lines == list(range(first, first + 400))


def test_parquet_keeps_its_types_beside_the_texts(tmp_path, rows):
    path = tmp_path / "file"
    pq.write_table(pa.table(dict(zip(WANTED, zip(*rows, strict=True), strict=True))), path)
    source = opened(path)
    found = source.read(next(source.blocks()))
    assert found.typed["price"].type == pa.float64()


def test_numbers_with_a_point_are_refused_where_the_sign_is_a_comma(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("y;city;price\n1;a.b;1,5\n0;b;1.500\n1;c;1.500,25\n0;d;2\n")
    texts, lines, rejects = read(opened(path, Layout(decimal=",")))
    assert texts == [("1", "a.b", "1.5"), ("0", "d", "2")] and lines == [2, 5]
    assert [reject.line for reject in rejects] == [3, 4]
    assert "'1.500', which has a point where the decimal sign is a comma" in rejects[0].reason
    assert rejects[1].text == "1;c;1.500,25"
    # What is no number is told as it stands there.
    path.write_text("y;city;price\n1;a;1,234,567\n1;a;1 234,5\n1;a;-,5e2\n")
    assert [row[2] for row in read(opened(path, Layout(decimal=",")))[0]] == [
        "1,234,567",
        "1 234,5",
        "-.5e2",
    ]


def test_frames_of_zstandard_to_skip_are_skipped(tmp_path, rows):
    """RFC 8878, 3.1.2: a magic number of sixteen, the length in four bytes, and anything."""
    skipped = [bytes([0x50 + n, 0x2A, 0x4D, 0x18, n, 0, 0, 0]) + b"?" * n for n in (0, 5, 15)]
    content = as_text(rows).encode()
    path = tmp_path / "a.csv.zst"
    for begin in (*skipped, b"".join(skipped)):
        path.write_bytes(begin + zstd(content) + skipped[1] + zstd(b"1,Rome,2\n"))
        texts, _, rejects = read(opened(path))
        assert len(texts) == 401 and texts[-1] == ("1", "Rome", "2") and not rejects


@pytest.mark.parametrize("cut", [10, -1])
def test_zstandard_that_is_cut_off_is_named(tmp_path, rows, cut):
    path = tmp_path / "a.csv.zst"
    path.write_bytes(zstd(as_text(rows * 20).encode())[:cut])
    with pytest.raises(InputError, match=r"a.csv.zst is damaged Zstandard, or cut off"):
        read(opened(path))


def test_text_of_another_encoding_is_named(tmp_path, rows):
    path = tmp_path / "a.csv"
    path.write_bytes(as_text(rows).encode("utf-16"))
    for pack in (bytes, gzip.compress, zstd):
        path.write_bytes(pack(as_text(rows).encode("utf-16")))
        with pytest.raises(InputError, match="is UTF-16 text; give encoding=utf-16"):
            opened(path)
    path.write_bytes(as_text(rows).encode("cp1252"))
    with pytest.raises(InputError, match="is no ascii text, near byte"):
        read(opened(path, Layout(encoding="ascii")))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"delimiter": ""}, "delimiter must be one character"),
        ({"delimiter": "::"}, "delimiter must be one character"),
        ({"delimiter": '"'}, "delimiter must be one character"),
        ({"decimal": ";"}, "decimal must be"),
        ({"encoding": "klingon"}, "encoding 'klingon' is not known"),
        ({"encoding": "hex"}, "encoding 'hex' is not known"),
        ({"columns": ("a", "b", " a")}, "columns names 'a' twice"),
    ],
)
def test_layouts_that_are_none(layout, message):
    with pytest.raises(InputError, match=message):
        Layout(**layout)


@pytest.mark.parametrize("given", [{}, {"delimiter": ","}])
def test_numbers_in_quotes_may_have_the_comma_that_stands_between_cells(tmp_path, given):
    path = tmp_path / "a.csv"
    path.write_text('y,city,price\n1,Rome,"9,65"\n0,"a, b","-3"\n1,Rome,9,65\n')
    texts, _, rejects = read(opened(path, Layout(decimal=",", **given)))
    assert texts == [("1", "Rome", "9.65"), ("0", "a, b", "-3")]
    assert [reject.line for reject in rejects] == [4]
    assert rejects[0].reason == "4 columns where 3 are expected"


def test_blanks_around_names_are_no_part_of_them_in_any_form(tmp_path):
    names = ("y", " user", "city ")
    written = {
        "a.csv": ",".join(names) + "\n1,u1,Rome\n0,u2,\n",
        "a.jsonl": '{"y": 1, " user": "u1", "city ": "Rome"}\n{"y": 0, "user ": "u2"}\n',
    }
    for name, text in written.items():
        (tmp_path / name).write_text(text)
    columns = [pa.array([1, 0]), pa.array(["u1", "u2"]), pa.array(["Rome", None])]
    pq.write_table(pa.Table.from_arrays(columns, names), tmp_path / "a.parquet")
    wanted = ("user", "city", "y")
    for name in (*written, "a.parquet"):
        texts, _, rejects = read(opened(tmp_path / name, names=wanted, numbers=()), wanted)
        assert texts == [("u1", "Rome", "1"), ("u2", None, "0")] and not rejects, name
    (tmp_path / "b.jsonl").write_text('{"user": 1, "user ": 2}\n')
    _, _, rejects = read(opened(tmp_path / "b.jsonl", names=("user",), numbers=()), ("user",))
    assert rejects[0].reason == "column 'user' is there twice"
    twice = pa.Table.from_arrays(columns[:2], ["user", "user "])
    pq.write_table(twice, tmp_path / "b.parquet")
    with pytest.raises(InputError, match="has more than one column 'user'"):
        opened(tmp_path / "b.parquet", names=("user",), numbers=())


def test_json_is_read_as_python_reads_it_where_arrow_cannot(tmp_path):
    """Times are texts, large integers exact, texts and numbers may mix."""
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"y": 1, "city": "2024-03-02", "price": 12345678901234567890}\n'
        "\n"
        '{"y": 0, "city": "2024-03-02T00:00:00", "price": 1.5, "z": {"deep": [1]}}\n'
        '{"city": 12, "y": true, "price": 1e3}\n'
        '{"y": null, "city": "x", "price": 9007199254740993}\n'
        '{"y": 1, "city": "x", "price": NaN}\n'
    )
    texts, lines, rejects = read(opened(path))
    assert texts == [
        ("1", "2024-03-02", "12345678901234567890"),
        ("0", "2024-03-02T00:00:00", "1.5"),
        ("true", "12", "1000"),
        (None, "x", "9007199254740993"),
        ("1", "x", None),
    ]
    assert lines == [1, 3, 4, 5, 6] and not rejects


def test_json_times_alone_stay_as_they_are_written(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"y":1,"city":"2024-03-02T10:00:00","price":2}\n' * 3)
    assert read(opened(path))[0] == [("1", "2024-03-02T10:00:00", "2")] * 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"y": 1, "city": "a", "price": ', "no JSON"),
        ("[1, 2]", "an object is needed on each line, not list"),
        (" null", "an object is needed on each line, not NoneType"),
        ('{"y": 1, "y": 2, "city": "a"}', "column 'y' is there twice"),
        ('{"y": 1, "city": ["a"], "price": 1}', "column 'city': a value is"),
        ("y,city,price", "no JSON"),
        (
            '{"y": 1, "city": "\\ud800", "price": 1}',
            "column 'city' is '\\ud800', which has no UTF-8",
        ),
    ],
)
def test_lines_that_are_no_rows_are_rejects(tmp_path, line, reason):
    path = tmp_path / "a.jsonl"
    good = '{"y": 1, "city": "a", "price": 1}\n'
    path.write_text(good + line + "\n" + good)
    texts, lines, (reject,) = read(opened(path))
    assert lines == [1, 3] and texts == [("1", "a", "1")] * 2
    assert reject.line == 2 and reason in reject.reason and reject.text == line


def test_columns_that_no_object_has_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"y": 1, "city": "a"}\n')
    with pytest.raises(InputError, match="no column 'price' in its first 1 rows; they have"):
        opened(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"y": 1, "city": "a"},\n{"y": 0, "city": "b"}]\n', "is a JSON array"),
        ('[\n {"y": 1}\n]\n', "is a JSON array"),
        ('{\n "y": 1\n}\n', "has no object on a line that can be read: no JSON"),
        ('{"y": 1},\n{"y": 0},\n', "has no object on a line that can be read: no JSON: Extra data"),
    ],
)
def test_json_that_is_no_object_on_each_line_is_told(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        opened(path, names=("y",))


FFM = "1 0:7:1 2:33:0.5\n-1 2:41:1.0 0:9:1\n0 0:7:1\n"


def test_libffm(tmp_path):
    path = tmp_path / "train.ffm"
    path.write_text(FFM)
    names = ("label", "0", "2:value")
    texts, lines, rejects = read(opened(path, names=names), names)
    assert texts == [("1", "7", "0.5"), ("-1", "9", "1.0"), ("0", "7", None)]
    assert lines == [1, 2, 3] and not rejects
    names = ("label", "2")
    texts, lines, (reject,) = read(opened(path, names=names), names)
    assert texts == [("-1", "41"), ("0", None)] and lines == [2, 3]
    assert reject.line == 1 and "field 2 has the value 0.5; name '2:value' too" in reject.reason
    names = ("2", "2:value")
    assert read(opened(path, names=names), names)[0] == [("33", "0.5"), ("41", "1.0"), (None, None)]


def test_values_of_libffm_are_the_weights_of_several(tmp_path):
    path = tmp_path / "train.ffm"
    path.write_text("1 2:a:0.5 2:b:2 0:7:1\n0 0:9:1\n0 2:a:x\n")
    cells = {"2": Cells(None, 4, weighted=True)}
    source = source_of(RawFile(path), ("2",), FOUND, cells=cells)
    found = source.read(next(source.blocks())).columns["2"].to_pylist()
    assert found == [
        cell_text([("a", "0.5"), ("b", "2")], True),
        None,
        cell_text([("a", "x")], True),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1 0:7:1 0:8:1", "field 0 is there more than once"),
        ("1 0:7:1 2:8", "'2:8' is not field:feature:value"),
        ("1", "a label and field:feature:value are expected"),
        ("1 x:7:1", "'x:7:1' is not field:feature:value"),
    ],
)
def test_lines_of_libffm_that_are_no_rows(tmp_path, line, reason):
    path = tmp_path / "train.ffm"
    path.write_text(FFM + line + "\n")
    names = ("label", "0")
    _, lines, (reject,) = read(opened(path, names=names), names)
    assert lines == [1, 2, 3] and reject.line == 4 and reason in reject.reason


def test_a_file_of_libffm_without_any_usable_line(tmp_path):
    path = tmp_path / "train.ffm"
    path.write_text("1 0:7:1 2:33:0.5\n0 0:9:1 2:41:0.5\n")
    names = ("label", "2")
    texts, _, rejects = read(opened(path, names=names), names)
    assert not texts
    assert [reject.line for reject in rejects] == [1, 2]


def test_rows_to_score_in_libffm_may_lack_a_field(tmp_path):
    path = tmp_path / "new.ffm"
    path.write_text("0 0:7:1\n")
    names = ("0", "2", "2:value")
    source = opened(path, names=names, may_be_empty=True)
    assert read(source, names)[0] == [("7", None, None)]
    with pytest.raises(InputError, match="no field '2'"):
        opened(path, names=names)
    with pytest.raises(InputError, match="no field '2'"):
        opened(path, names=("2", "3"), may_be_empty=True)


def test_bytes_in_libffm_that_are_no_text_are_told_by_line(tmp_path):
    path = tmp_path / "train.ffm"
    path.write_bytes(FFM.encode() + b"1 0:\xff:1\n")
    texts, lines, (reject,) = read(opened(path, names=("label", "0")), ("label", "0"))
    assert len(texts) == 3 and lines == [1, 2, 3]
    assert reject.line == 4 and "invalid UTF-8 (byte 0xff)" in reject.reason


@pytest.mark.parametrize(
    ("name", "message"), [("city", "in libffm's form and has no column"), ("5", "no field '5'")]
)
def test_columns_that_libffm_has_not(tmp_path, name, message):
    path = tmp_path / "train.ffm"
    path.write_text(FFM)
    with pytest.raises(InputError, match=message):
        opened(path, names=("label", name))


@pytest.mark.parametrize(
    ("content", "layout", "expected"),
    [
        ("", {}, True),
        ("y,city\n", {}, True),
        ("y,city\n1,a\n", {}, False),
        ("1,a\n", {"columns": ("y", "city")}, False),
        ('{"y": 1}\n', {}, False),
        ("1 0:7:1\n", {}, False),
        # The last part of a file that was cut up has no header, and may have one row.
        ("1,a\n", {}, False),
        ('[{"y": 1, "city": "a"}]\n', {}, False),
        (" y;city \r\n\r\n", {}, True),
    ],
)
def test_files_without_rows(tmp_path, content, layout, expected):
    path = tmp_path / "a"
    path.write_text(content)
    assert is_empty(RawFile(path), Layout(**layout), ("y", "city")) == expected
    path.write_bytes(gzip.compress(content.encode()))
    in_folder = RawFile(path, partition=(("day", "1"),))
    assert is_empty(in_folder, Layout(**layout), ("y", "day", "city")) == expected


def test_a_header_where_columns_are_given_is_told(tmp_path, rows):
    path = tmp_path / "a.csv"
    path.write_text(as_text(rows))
    for columns in (WANTED, WANTED[::-1]):
        with pytest.raises(InputError, match="line 1 names the columns; leave out columns"):
            opened(path, Layout(columns=columns))
    path.write_text(as_text(rows).replace("price", "cost", 1))
    source = opened(path, Layout(columns=WANTED))
    assert source.read(next(source.blocks())).headerless
    with pytest.raises(InputError, match="no column 'z'; columns names y, city, price"):
        opened(path, Layout(columns=WANTED), names=("z",))


@pytest.mark.parametrize("blank", ["\n", " \t\r\n\n", "\ufeff\n"])
@pytest.mark.parametrize("form", ["json", "ffm"])
def test_blank_lines_before_the_first_row_are_no_header(tmp_path, blank, form):
    row, names = ('{"y": 1}\n', ("y",)) if form == "json" else ("1 0:7:1\n", ("label",))
    path = tmp_path / f"a.{form}"
    path.write_text(blank + row * 2, encoding="utf-8", newline="")
    texts, lines, rejects = read(opened(path, names=names), names)
    first = blank.count("\n") + 1
    assert texts == [("1",)] * 2 and lines == [first, first + 1] and not rejects
    assert not is_empty(RawFile(path), FOUND, names)
    assert keys_of(RawFile(path), FOUND) == (["y"] if form == "json" else [])


@pytest.mark.parametrize("content", ["\ny,city\n1,a\n", "\n\n", " \n"])
def test_a_blank_header_of_delimited_text_is_told(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=r"a\.csv"):
        opened(path, names=("y",))


def test_names_may_have_line_ends_and_delimiters(tmp_path):
    path = tmp_path / "a.csv"
    for header in (
        'y,city,price,"no\nte"',
        '"no\r\nte",city,y,price',
        '"x, ""z"",\n",y,city,price',
    ):
        names = next(csv.reader(io.StringIO(header, newline="")))
        cells = {"y": "1", "city": "Rome", "price": "2"}
        row = ",".join(cells.get(name, '5" x') for name in names)
        for sign, hidden in ((",", ","), (";", ",")):
            text = header if sign == "," else header.replace(", ", "\0").replace(",\n", "\1")
            text = text.replace(",", sign).replace("\0", hidden + " ").replace("\1", hidden + "\n")
            path.write_text(f"{text}\n{row.replace(',', sign)}\n", newline="")
            texts, lines, rejects = read(opened(path))
            assert texts == [("1", "Rome", "2")] and not rejects
            assert lines == [header.count("\n") + 2]
            assert not is_empty(RawFile(path), FOUND, WANTED)
            path.write_text(f"{text}\n\n", newline="")
            assert is_empty(RawFile(path), FOUND, WANTED)


def test_a_header_whose_quote_has_no_end_is_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('y,city,price,"note\n' + "1,Rome,2,x\n" * 200_000)
    with pytest.raises(InputError, match=r"a\.csv line 1, in the header: a quote opens here"):
        read(opened(path))
