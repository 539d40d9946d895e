import itertools

import numpy as np
import pytest
from bundles import prepared_table

from experiments.benchmarks.same_scores import runtimes as same_scores
from optembed_jax.models import MODEL_NAMES


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    columns = {
        "user": ["u1", "never seen", None, "u7"],
        "zip": ["3", 12.0, None, 29],
        "flag": [True, False, None, "1"],
        "day": ["2024-03-02", None, "2024-03-09 00:00:00", "never seen"],
        "age": [40.5, None, 1e9, -3],
    }
    return same_scores.Rows(prepared_table(tmp_path_factory.mktemp("table")), columns)


@pytest.mark.filterwarnings("ignore:.*unseen")
def test_runtimes_are_told_apart_from_the_bundle(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(same_scores, "LIBRARIES", {"onnxruntime": same_scores._onnx})
    monkeypatch.setattr(same_scores, "ROWS_ONE_BY_ONE", 4)
    bundle = same_scores.bundle_of(rows, tmp_path / "b", "deepfm", "int4", "one stand-in")
    found = same_scores.differences(rows, bundle, tmp_path)
    assert list(found) == ["ids", "numpy", "numpy_row", "onnx_ids", "onnx"]
    assert max(found.values()) < 1e-5
    other = same_scores.bundle_of(rows, tmp_path / "o", "deepfm", "int2", "one stand-in")
    expected = other.predict(rows.columns)
    (tmp_path / "of_other").mkdir()
    found = same_scores._onnx(
        bundle, rows.columns, bundle.encode(rows.columns), expected, tmp_path / "of_other"
    )
    assert min(found.values()) > 1e-3


def test_every_pair_is_tried():
    found = same_scores.cases(list(MODEL_NAMES), every=False)
    for first, second in ((0, 1), (0, 2)):
        names = (MODEL_NAMES, same_scores.STORAGES, same_scores.MODES)
        pairs = set(itertools.product(names[first], names[second]))
        assert {(case[first], case[second]) for case in found} == pairs
    every = same_scores.cases(["fm"], every=True)
    assert len(set(every)) == len(same_scores.STORAGES) * len(same_scores.MODES)


def test_a_difference_is_the_largest():
    assert same_scores._worst(np.array([0.5, 0.25]), np.array([0.5, 0.75])) == 0.5
    with pytest.raises(AssertionError):
        same_scores._worst(np.zeros(2), np.zeros(3))
