import pyarrow as pa
import pytest

from optembed_jax.data.raw.writing import canonical_values, forms_of_values, without_blanks
from optembed_jax.values import forms, rule


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [None],
        ["a", "b c", None, "é"],  # blanks within
        [" a", "a ", "\ta\t", " ", "\t \t", "", None, "a"],
        ["a\nb", "\x01", "\x1fa", "a\r"],  # other small bytes are no blanks
        ["\u3000a", "\xa0"],  # nor are blanks of other kinds
    ],
)
def test_arrays_lose_the_blanks_that_single_texts_lose(texts):
    expected = [rule.without_blanks(text) for text in texts]
    whole = pa.array(["  before ", *texts, " behind"], pa.string())
    for values in (pa.array(texts, pa.string()), whole.slice(1, len(texts))):
        found = without_blanks(values).to_pylist()
        assert [text or None for text in found] == [text or None for text in expected]


def test_what_stands_beside_a_slice_does_not_count():
    values = pa.array([" a", "b", "c", " d"]).slice(1, 2)
    assert without_blanks(values) is values


@pytest.mark.parametrize("words", [[], ["NULL"], ["<null>"], [r"\N"]])
def test_words_are_found_among_texts_of_any_length(words):
    texts = [*[f"{number:08x}" for number in range(90)], None, "seven77", "éééé", *words]
    whole = pa.array(["NaN", *texts, "nan"])
    values = whole.slice(1, len(texts))
    assert forms_of_values(values) == forms.forms_of(texts)
    read = canonical_values(values, rule.Rule(words=True)).to_pylist()
    assert read == [None if text in words else text for text in texts]


def test_nothing_has_no_words():
    empty = pa.array([], pa.string())
    assert canonical_values(empty, rule.Rule(words=True)).to_pylist() == []
    assert forms_of_values(empty) == frozenset()
