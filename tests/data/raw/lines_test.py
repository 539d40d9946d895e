import dataclasses
import functools

import numpy as np
import pytest

from optembed_jax.data.raw import json_lines, libffm
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.lines import LineSource, first_lines
from optembed_jax.errors import InputError

DECODE = {
    "jsonl": functools.partial(json_lines.decode, cells={}),
    "ffm": functools.partial(libffm.decode, cells={}),
}


def source_of(path, form, **options):
    return LineSource((RawFile(path),), ("0",), DECODE[form], **options)


def written(form, number):
    return f'{{"0": "v{number}"}}' if form == "jsonl" else f"1 0:v{number}:1"


def read(source):
    """Values, row numbers and line numbers; blocks follow one another without a gap."""
    values, rows, lines, end = [], [], [], 0
    for block in source.blocks():
        assert block.row == end
        end = block.end
        found = source.read(block)
        assert not found.rejects
        values += found.columns["0"].to_pylist()
        rows += found.rows.tolist()
        lines += found.lines.tolist()
        assert rows[-1:] == [end - 1] or not len(found.rows)
    return values, rows, lines


@pytest.mark.parametrize("form", ["jsonl", "ffm"])
@pytest.mark.parametrize("block_bytes", [20, 2**20])
def test_blank_lines_change_no_row_number(tmp_path, form, block_bytes):
    texts = [written(form, number) for number in range(50)]
    kept, lines = [], []
    for number, text in enumerate(texts):
        if number % 7 == 0:
            kept += ["", "  \t"]
        kept.append(text)
        lines.append(len(kept))
    path = tmp_path / "rows"
    path.write_text("\n".join([*kept, "", " "]) + "\n\n")
    values, rows, found = read(source_of(path, form, block_bytes=block_bytes))
    assert values == [f"v{number}" for number in range(50)]
    assert rows == list(range(50))
    assert found == lines  # As an editor counts them.
    path.write_text("\n".join(texts))
    assert read(source_of(path, form, block_bytes=block_bytes))[:2] == (values, rows)


def test_a_line_that_is_no_row_keeps_its_number(tmp_path):
    path = tmp_path / "rows"
    path.write_text('\n{"0": 1}\n\nnothing\n{"0": 2}\n')
    source = source_of(path, "jsonl")
    (block,) = source.blocks()
    found = source.read(block)
    assert found.rows.tolist() == [0, 2] and found.lines.tolist() == [2, 5] and block.end == 3
    (reject,) = found.rejects
    assert reject.line == 4 and reject.text == "nothing" and found.text(1) == '{"0": 2}'


@pytest.mark.parametrize("content", ["\n \n\t\n", "\ufeff\n \n"])
def test_blank_lines_alone_are_no_rows(tmp_path, content):
    path = tmp_path / "rows"
    path.write_text(content, encoding="utf-8")
    source = source_of(path, "jsonl")
    with pytest.raises(InputError, match="rows holds no rows"):
        list(source.blocks())
    assert read(dataclasses.replace(source, may_be_empty=True)) == ([], [], [])
    assert first_lines(dataclasses.replace(source, may_be_empty=True)) == []


def test_rows_of_several_files_are_numbered_in_order(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(f'\n{{"0": "{name}1"}}\n\n{{"0": "{name}2"}}\n')
    files = tuple(RawFile(tmp_path / name) for name in ("a", "b"))
    source = dataclasses.replace(source_of(tmp_path / "a", "jsonl"), files=files)
    values, rows, lines = read(source)
    assert values == ["a1", "a2", "b1", "b2"] and rows == [0, 1, 2, 3] and lines == [2, 4, 2, 4]
    assert [block.file for block in source.blocks()] == [0, 1]
    np.testing.assert_equal(source.size, sum(file.path.stat().st_size for file in files))
