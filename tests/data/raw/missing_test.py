import numpy as np
import pyarrow as pa
import pytest

from optembed_jax.data.raw.missing import null_where

TEXTS = ["war", "sci", None, "", "kid", "adventure"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_texts_are_null_where_they_are_to_be_also_those_of_a_slice(before, kind):
    whole = pa.array(["no"] * before + TEXTS + ["no"], kind)
    texts = whole.slice(before, len(TEXTS))
    mask = np.array([False, True, False, True, False, False])
    expected = ["war", None, None, None, "kid", "adventure"]
    assert null_where(texts, mask).to_pylist() == expected
    unknown = pa.array([False, True, None, True, False, False])
    assert null_where(texts, unknown).to_pylist() == expected
    assert whole.to_pylist() == ["no"] * before + TEXTS + ["no"]


def test_no_texts_none_and_all_missing():
    assert null_where(pa.array([], pa.string()), np.zeros(0, bool)).to_pylist() == []
    texts = pa.array(["a", None])
    assert null_where(texts, np.zeros(2, bool)).to_pylist() == ["a", None]
    assert null_where(texts, np.ones(2, bool)).to_pylist() == [None, None]
