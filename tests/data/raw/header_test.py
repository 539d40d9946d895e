import pathlib

import pytest

from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.header import delimiter_of, first_row, hint, names_all
from optembed_jax.data.raw.layout import FOUND, Layout
from optembed_jax.data.raw.table_file import source_of
from optembed_jax.errors import InputError

NO_HEADER = "; if that is a row, and the file has no header, give columns, the names of all"
NO_SIGN = "; if something else stands between the names, give delimiter"


@pytest.mark.parametrize(
    ("first", "name", "layout", "expected"),
    [
        (b"a,b;c;d\n", "x.csv", {}, ","),
        (b"a,b;c;d\n", "x.txt", {}, ";"),
        (b"a,b;c;d\n", "x.csv.gz", {"decimal": ","}, ";"),
        (b"a,b;c;d\n", "x.tsv.zst", {}, "\t"),
        (b"a,b;c;d\n", "x.csv", {"delimiter": "^"}, "^"),
        (b"a,b\n", "x.csv", {"decimal": ","}, ","),
        (b'u;i;y;"x, z"\n', "x.csv", {}, ";"),
        (b'"x, y\n,,,,"|u|"a""|,"\n', "x.txt", {}, "|"),
        (b'5" a,b;6" c,d,e\n', "x.txt", {}, ","),
        (b"", "x", {}, "\t"),
    ],
)
def test_the_delimiter_is_one_outside_quotes(first, name, layout, expected):
    assert delimiter_of(pathlib.Path(name), first, Layout(**layout)) == expected


@pytest.mark.parametrize(
    ("columns", "layout", "expected"),
    [
        (["u12", "i24", "8.90", "0"], {}, NO_HEADER),
        (["u^i^y"], {}, NO_SIGN),
        (["u;i", "y"], {}, NO_SIGN),
        (["1;2,5", "-3"], {}, NO_HEADER + NO_SIGN),
        (["u", "i", "y"], {}, ""),
        (["u^i^y"], {"delimiter": ","}, ""),
        (["u", "i", "0"], {"columns": ("u", "i", "0")}, ""),
        ([], {}, ""),
    ],
)
def test_what_may_be_the_matter_with_a_header(tmp_path, columns, layout, expected):
    assert hint(columns, Layout(**layout)) == expected
    path = tmp_path / "a.csv"
    path.write_text(",".join(columns) + "\n1\n")
    with pytest.raises(InputError, match="has no column 'city'") as error:
        source_of(RawFile(path), ("city",), Layout(**layout))
    assert str(error.value).endswith(expected)


def test_a_first_row_names_all_columns():
    assert names_all(b'"b\nc" , a\n', ",", ["a", "b\nc"])
    assert not names_all(b"a,b,c\n", ",", ["a", "b"]) and not names_all(
        b"\xff,b\n", ",", ["a", "b"]
    )


def test_the_first_row_may_have_several_lines(tmp_path):
    path = tmp_path / "a"
    path.write_bytes('"a;\nb"^c\n1^2\n'.encode("utf-16"))
    layout = Layout(encoding="utf-16", delimiter="^")
    assert first_row(path, layout) == b'"a;\nb"^c\n'
    path.write_bytes(b"")
    assert first_row(path, FOUND, may_be_empty=True) == b""
    with pytest.raises(InputError, match="is empty"):
        first_row(path, FOUND)
