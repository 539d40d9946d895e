import types

import numpy as np
import pytest

from experiments.run import feature_report, report
from optembed_jax.fields import Fields
from optembed_jax.table.score import init_scores

FIELD = {"rows": 5, "rows_kept": 3, "dim": 2}


def test_shares_of_values_without_a_row(fields):
    ids = np.array([[0, 5, 9], [1, 6, 10], [2, 5, 11], [0, 8, 9], [4, 5, 9]])
    batch = types.SimpleNamespace(
        ids=ids, labels=np.array([0, 1, 0, 1, 0.0]), weights=np.array([1, 1, 1, 1, 0.0])
    )
    sample = types.SimpleNamespace(epoch=lambda epoch: [batch], is_weighted=False)
    rows = np.ones(12, bool)
    rows[[1, 2, 6]] = False

    def score(batches):
        (found,) = batches.epoch(0)
        real = found.weights > 0
        return found.labels[real], found.ids[real].sum(axis=1) / 10.0

    found = feature_report.measured(score, sample, fields, types.SimpleNamespace(rows=rows), 0)
    # Of four rows, the fifth being padding; the OOV ids are 0, 5 and 9.
    assert [field["val_unseen"] for field in found] == [0.5, 0.5, 0.5]
    assert [field["val_without_row"] for field in found] == [1.0, 0.75, 0.5]
    assert set(found[0]) == {"val_auc_lost", "val_logloss_gained", "val_unseen", "val_without_row"}


def test_an_example_counts_once_for_all_values_of_a_cell():
    fields = Fields(("tags", "item"), (4, 3), slots=(3, 1))
    ids = np.array([[1, 7, 7, 5], [0, 0, 7, 4], [1, 2, 3, 5], [2, 0, 3, 6]])
    batch = types.SimpleNamespace(ids=ids, labels=np.array([0, 1, 0, 1.0]), weights=np.ones(4))
    sample = types.SimpleNamespace(epoch=lambda epoch: [batch], is_weighted=False)
    rows = np.array([1, 1, 0, 1, 1, 1, 0], bool)
    seen = []

    def score(batches):
        (found,) = batches.epoch(0)
        seen.append(found.ids)
        return found.labels, found.ids[:, 0] / 10.0

    found = feature_report.measured(score, sample, fields, types.SimpleNamespace(rows=rows), 0)
    assert [field["val_unseen"] for field in found] == [0.5, 0.25]
    assert [field["val_without_row"] for field in found] == [0.75, 0.5]
    # All values of a cell go to another example together.
    _, tags, item = seen
    assert sorted(tags[:, :3].tolist()) == sorted(ids[:, :3].tolist())
    np.testing.assert_array_equal(tags[:, 3], ids[:, 3])
    np.testing.assert_array_equal(item[:, :3], ids[:, :3])


def test_saliency_is_shared_by_the_fields(fields):
    scores = init_scores("taylor", 12)
    found = feature_report.saliency(
        scores, np.array([1, 1, 1, 1, 1, 5, 0, 0, 0, 0, 0, 10.0]), fields
    )
    assert [field["saliency"] for field in found] == [0.25, 0.25, 0.5]
    assert feature_report.saliency(init_scores("norm", 12), np.ones(12), fields) == [{}, {}, {}]
    assert feature_report.saliency(None, None, fields) == [{}, {}, {}]
    zeros = feature_report.saliency(scores, np.zeros(12), fields)
    assert [field["saliency"] for field in zeros] == [0, 0, 0]


def test_parts_are_joined_and_saliency_comes_from_the_supernet():
    (joined,) = feature_report.joined([{"name": "a", **FIELD}], [{"val_unseen": 0.5}], [{}])
    assert joined == {"name": "a", **FIELD, "bytes": 24, "val_unseen": 0.5}
    (of_numbers,) = feature_report.joined([{"name": "a", **FIELD, "parameters": 5}], [{}])
    assert of_numbers["bytes"] == 20  # Of single numbers: not 3 rows of 2.
    supernet = [{"name": "b"}, {"name": "a", "saliency": 0.75}]
    assert feature_report.with_saliency([joined], supernet) == [{**joined, "saliency": 0.75}]
    assert feature_report.with_saliency([joined], []) == [joined]


MEASURED = {"val_auc_lost": 0.01, "val_logloss_gained": 0.002, "val_unseen": 0.1}
MEASURED |= {"val_without_row": 0.4, "bytes": 24}


def test_the_table_begins_with_what_is_worth_most():
    fields = [
        {"name": "small", **FIELD, **MEASURED, "saliency": 0.125},
        {"name": "large", **FIELD, **MEASURED, "val_auc_lost": None, "val_logloss_gained": 0.5},
    ]
    heading, _, first, second = report.feature_table({"fields": fields}).splitlines()
    assert "saliency" in heading
    assert " ".join(first.split()) == "large - +0.50000 0.0 % 24 3 of 5 2 10.0 % 40.0 %"
    assert " ".join(second.split()) == "small +0.0100 +0.00200 12.5 % 24 3 of 5 2 10.0 % 40.0 %"
    plain = report.feature_table({"fields": [{"name": "a", **FIELD, **MEASURED}]})
    assert "saliency" not in plain
    assert report.feature_table({"fields": [{"name": "a", **FIELD}]}) == ""


@pytest.mark.parametrize("missing", [False, True])
def test_what_a_bundle_tells(missing):
    fields = [{"name": "a", **FIELD, **MEASURED}, {"name": "b", **FIELD}]
    if missing:
        assert feature_report.worth_of(fields) == {}
        return
    fields[1] |= {**MEASURED, "val_auc_lost": None}
    assert feature_report.worth_of(fields) == {
        "auc": [0.01, None],
        "logloss": [0.002, 0.002],
        "unseen": [0.1, 0.1],
    }
    salient = [
        {**field, "saliency": share} for field, share in zip(fields, (0.25, 0.75), strict=True)
    ]
    assert feature_report.worth_of(salient)["saliency"] == [0.25, 0.75]
