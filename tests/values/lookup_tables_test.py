import json
import lzma

import numpy as np
import pytest
import safetensors.numpy

from optembed_jax.errors import InputError
from optembed_jax.values.lookup_tables import read_tables, with_one_for_all, write_tables

FILMS = {
    "10": ("Action|Crime", "Action", "1995"),
    "9": ("Drama", "Drama", None),
    "1": (None, None, "1995"),
    "100000000000": ("Drama", "Drama", "2001"),
}


@pytest.mark.parametrize(
    "tables",
    [
        {"films": FILMS},
        {"films": FILMS, "users": {"7": ("F",), "0": (None,)}},
        {"one": {"": ("",)}},
        {"texts": {"tt01": ("é", ""), "07": (None, "x"), "7": ("x", "é")}},
        {"large": {str(10**17): ("a",), str(10**18): ("b",), str(-1): ("c",)}},
        {"many": {str(n): (f"value {n % 300}", None) for n in range(1000)}},
    ],
)
def test_what_is_written_is_read(tables):
    content = write_tables(tables)
    assert read_tables(content) == tables
    turned = {name: dict(reversed(table.items())) for name, table in reversed(tables.items())}
    lists = {name: {key: list(row) for key, row in table.items()} for name, table in tables.items()}
    assert write_tables({name: turned[name] for name in tables}) == content == write_tables(lists)


def test_a_table_of_films_takes_few_bytes():
    draw = np.random.default_rng(0)
    films = {
        str(key): (f"genres {genre}", f"genre {genre % 20}", str(1920 + year))
        for key, genre, year in zip(
            np.cumsum(draw.integers(1, 40, 9_000)).tolist(),
            draw.zipf(1.3, 9_000).clip(max=900).tolist(),
            draw.integers(0, 100, 9_000).tolist(),
            strict=True,
        )
    }
    # A byte or so for each key and each place: entropy, not text.
    whole = len(write_tables({"films": films}))
    assert whole < 4 * 9_000 < len(json.dumps(films)) / 10
    kept = {"genres 1", "genres 2"}
    short = with_one_for_all(films, {0: lambda texts: np.array([t in kept for t in texts])})
    assert {row[0] for row in short.values()} == {*kept, "?"}
    assert len(write_tables({"films": short})) < 0.9 * whole


def arrays_of(tables):
    return safetensors.numpy.load(lzma.decompress(write_tables(tables)))


def changed(name, value):
    def change(arrays):
        arrays[name] = np.asarray(value)

    return change


FAULTS = {
    "no codes": lambda a: a.pop("films/0/codes"),
    "no codes of a place between": lambda a: a.pop("films/1/codes"),
    "no texts": lambda a: a.pop("films/2/texts"),
    "no keys": lambda a: a.pop("films/numbers"),
    "a code without a text": changed("films/1/codes", np.array([9, 0, 0, 0], np.uint8)),
    "a code too few": changed("films/1/codes", np.array([0, 0, 0], np.uint8)),
    "codes in rows": changed("films/1/codes", np.zeros((2, 2), np.uint8)),
    "codes below zero": changed("films/1/codes", np.array([-1, 0, 0, 0], np.int64)),
    "a huge code": changed("films/1/codes", np.array([2**64 - 1, 0, 0, 0], np.uint64)),
    "codes that are fractions": changed("films/1/codes", np.zeros(4, np.float32)),
    "a key twice": changed("films/numbers", np.array([1, 0, 1, 5], np.uint8)),
    "a length too many": changed("films/2/lengths", np.array([4, 4, 4], np.uint8)),
    "lengths beyond": changed("films/2/lengths", np.array([2**64 - 1, 9], np.uint64)),
    "half a character": changed("films/2/texts", np.frombuffer(b"199\xc3\xa9001", np.uint8)),
    "something else": changed("other", np.zeros(1, np.uint8)),
    "another table without places": changed("empty/numbers", np.zeros(1, np.uint8)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_table_is_refused(fault):
    arrays = arrays_of({"films": FILMS})
    assert read_tables(lzma.compress(safetensors.numpy.save(arrays))) == {"films": FILMS}
    FAULTS[fault](arrays)
    with pytest.raises(InputError, match="its tables cannot be read"):
        read_tables(lzma.compress(safetensors.numpy.save(arrays)))


def test_damaged_files_are_refused():
    content = write_tables({"films": FILMS})
    draw = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        damaged[draw.integers(len(damaged))] ^= 1 << int(draw.integers(8))
        try:
            assert read_tables(bytes(damaged)) == {"films": FILMS}
        except InputError:
            refused += 1
    assert refused > 400  # xz checks what it holds; a few bits of its own stand for nothing
    for broken in (b"", content[:-1], content + b"x", lzma.compress(b""), b"PK"):
        with pytest.raises(InputError, match="its tables cannot be read"):
            read_tables(broken)


def test_no_more_is_unpacked_than_any_table_has():
    bomb = lzma.compress(bytes(2**25 + 1))
    assert len(bomb) < 10_000
    with pytest.raises(InputError, match="it is cut off, or has more behind"):
        read_tables(bomb)
    arrays = arrays_of({"films": {str(n): ("a",) for n in range(9)}})
    arrays["films/numbers"] = np.ones(2**22, np.uint8)
    many = lzma.compress(safetensors.numpy.save(arrays))
    assert len(many) < 10_000
    with pytest.raises(InputError, match=r"it holds [0-9]+ keys and values"):
        read_tables(many)


def test_no_more_is_written_than_is_read(monkeypatch):
    monkeypatch.setattr("optembed_jax.values.lookup_tables._MOST", 10)
    assert read_tables(write_tables({"one": {"1": ("a",), "2": ("b",)}}))
    with pytest.raises(InputError, match="tables of 22 keys and values are too large"):
        write_tables({"films": FILMS})


def test_texts_without_a_row_become_one():
    asked = []

    def has_row(texts):
        asked.append(texts)
        return np.isin(texts, ["Drama", "?", "1995"])

    found = with_one_for_all(FILMS, {0: has_row, 2: has_row})
    # Of one text alone there is nothing to win; "?" has a row here.
    assert found == FILMS
    films = {**FILMS, "11": ("Crime", "Crime", "2002")}
    found = with_one_for_all(films, {0: has_row, 2: has_row})
    assert found["10"] == ["??", "Action", "1995"] and found["11"] == ["??", "Crime", "??"]
    assert found["1"] == [None, None, "1995"] and found["9"] == ["Drama", "Drama", None]
    assert with_one_for_all(films, {}) is films
