import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optembed_jax.errors import InputError
from optembed_jax.values import table as table_lib
from optembed_jax.values.table import Texts, TextTable, joined, texts_of

FIELDS = st.lists(st.lists(st.text(max_size=30), max_size=12, unique=True), min_size=1, max_size=4)


def made(fields):
    first = np.cumsum([0, *map(len, fields)])
    return TextTable(texts_of([text for field in fields for text in field]), first)


@given(FIELDS, st.lists(st.text(max_size=30), max_size=20))
def test_finds_what_a_dictionary_of_each_field_finds(fields, others):
    table = made(fields)
    asked = [*others, *(text for field in fields for text in field)]
    for number, field in enumerate(fields):
        places = {text: place for place, text in enumerate(field)}
        found = table.find(texts_of(asked), np.full(len(asked), number))
        assert found.tolist() == [places.get(text, -1) for text in asked]
        # One by one as together.
        for text in asked[:5]:
            (alone,) = table.find(texts_of([text]), np.array([number])).tolist()
            assert alone == places.get(text, -1)


def test_keys_of_four_bytes_find_what_those_of_eight_do(monkeypatch):
    rng = np.random.default_rng(0)
    texts = [f"{number:x}" for number in rng.choice(2**40, 3000, replace=False).tolist()]
    asked, field = texts_of(texts[::3] + ["", "no", *texts[1:9]]), np.zeros(1010, np.int64)
    narrow = made([texts])
    monkeypatch.setattr(table_lib, "_NARROW", 0)
    wide = made([texts])
    expected = [*range(0, 3000, 3), -1, -1, *range(1, 9)]
    assert narrow.find(asked, field).tolist() == wide.find(asked, field).tolist() == expected
    assert wide.nbytes - narrow.nbytes == 4 * len(texts)
    # Bits of hashes stand above the twelve of a number, so that few bytes are compared in vain.
    assert len(np.unique(narrow._keys >> 12)) > 0.99 * len(texts)
    for texts in (["a", "a"], ["", "b", ""]):
        with pytest.raises(InputError, match="twice"):
            made([texts])


def test_texts_of_all_lengths_and_with_bytes_of_nothing():
    texts = ["\0" * n for n in range(20)] + ["a" * n for n in range(1, 40)]
    table = made([texts, texts[::-1]])
    both = texts_of(texts + texts)
    field = np.repeat([0, 1], len(texts))
    expected = [*range(len(texts)), *reversed(range(len(texts)))]
    assert table.find(both, field).tolist() == expected


def test_many_texts_in_pieces(monkeypatch):
    monkeypatch.setattr(table_lib, "_AT_ONCE", 100)
    texts = [f"{n * 7919 % 100_003:x}" for n in range(5_000)]
    table = made([texts])
    asked = texts_of([*texts[::3], *(f"no {n}" for n in range(1_000))])
    found = table.find(asked, np.zeros(len(asked), np.int64))
    assert found.tolist() == [*range(0, 5_000, 3), *[-1] * 1_000]


def test_where_hashes_are_equal_bytes_decide(monkeypatch):
    # A hash that tells lengths apart and nothing else.
    monkeypatch.setattr(
        table_lib, "_hashes", lambda texts, field, words, starts, lengths: lengths.astype(np.uint64)
    )
    fields = [["aa", "bb", "c"], ["bb", "aa"]]
    table = made(fields)
    asked = texts_of(["bb", "aa", "cc", "c", "bb", "aa", "c"])
    found = table.find(asked, np.array([0, 0, 0, 0, 1, 1, 1]))
    assert found.tolist() == [1, 0, -1, 2, 0, 1, -1]
    with pytest.raises(InputError, match="field 1 has the value b'bb' twice"):
        made([["aa", "bb"], ["bb", "aa", "bb"]])
    with pytest.raises(InputError, match="have one hash"):
        made([[f"{n:03}" for n in range(200)]])


def test_a_value_twice_is_refused():
    for texts in (["a", "b", "a"], ["", ""], ["x" * 50, "y", "x" * 50]):
        with pytest.raises(InputError, match="twice"):
            made([["a"], texts])


def test_no_texts_at_all():
    table = made([[], []])
    assert table.find(texts_of(["a", ""]), np.array([0, 1])).tolist() == [-1, -1]
    assert table.find(texts_of([]), np.zeros(0, np.int64)).tolist() == []
    assert len(joined([])) == 0


def test_texts_are_cut_and_joined():
    texts = texts_of(["a", "", "é", "long enough"])
    assert texts.strings(np.array([3, 1, 2])) == ["long enough", "", "é"]
    some = texts.take(np.array([2, 0, 0]))
    assert some.strings(np.arange(3)) == ["é", "a", "a"]
    both = joined([Texts(texts.data, texts.starts[1:3]), some])
    assert both.strings(np.arange(4)) == ["", "é", "a", "a"]
    with pytest.raises(InputError, match="is no text"):
        texts_of(["\ud800"])


def test_one_long_text_is_work_for_itself_alone(monkeypatch):
    values = [f"{n:06}" * (1 + n % 3) for n in range(500)] + ["x" * 4_000]
    first = np.array([0, len(values)])
    read = []
    mask = table_lib._mask
    monkeypatch.setattr(table_lib, "_mask", lambda left: (read.append(left.size), mask(left))[1])
    made = TextTable(texts_of(values), first)
    found = made.find(texts_of(values), np.zeros(len(values), np.int64))
    np.testing.assert_array_equal(found, np.arange(len(values)))
    words = sum(-(-len(value) // 8) for value in values)
    assert sum(read) == 3 * words  # two hashes and one comparison of each
