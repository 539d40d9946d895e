import numpy as np
import pytest

from optembed_jax import metrics
from optembed_jax.training.feature_worth import feature_worth

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 50, (3000, 4)).astype(np.int32)
LOGITS = IDS @ np.array([0.08, 0.02, 0.0, -0.02]) - 2.0
LABELS = (RNG.random(3000) < 1 / (1 + np.exp(-LOGITS))).astype(np.float32)


def score(batches):
    """A model that knows the truth, of rows of weight 1."""
    found = list(batches.epoch(0))
    real = [batch.weights > 0 for batch in found]
    ids = np.concatenate([batch.ids[own] for batch, own in zip(found, real, strict=True)])
    labels = np.concatenate([batch.labels[own] for batch, own in zip(found, real, strict=True)])
    return labels, ids @ np.array([0.08, 0.02, 0.0, -0.02]) - 2.0


@pytest.fixture
def batches(batches_of):
    def batches(rows=3000, size=256, labels=LABELS):
        return list(batches_of(IDS[:rows], labels[:rows], size).epoch(0))

    return batches


ONE_EACH = [(0,), (1,), (2,), (3,)]


def test_a_field_is_worth_what_scoring_loses_without_it(batches):
    found = feature_worth(score, batches(), ONE_EACH, seed=0)
    assert found[0].auc > 4 * abs(found[1].auc) > 0 and found[0].logloss > found[1].logloss > 0
    assert found[2].auc == 0 and found[2].logloss == 0  # nothing depends on it
    order = np.random.default_rng((0, 1)).permutation(3000)
    shuffled = IDS.copy()
    shuffled[:, 1] = IDS[order, 1]
    without = shuffled @ np.array([0.08, 0.02, 0.0, -0.02]) - 2.0
    assert found[1].auc == metrics.auc(LABELS, LOGITS) - metrics.auc(LABELS, without)
    logloss = metrics.logloss(LABELS, without) - metrics.logloss(LABELS, LOGITS)
    assert found[1].logloss == pytest.approx(logloss, abs=1e-12)


def test_padding_and_the_size_of_batches_do_not_matter_and_ids_stay(batches):
    before, given = IDS.copy(), batches(2000, 300)
    assert any((batch.weights == 0).any() for batch in given)
    assert feature_worth(score, given, ONE_EACH, 3) == feature_worth(
        score, batches(2000, 2000), ONE_EACH, 3
    )
    np.testing.assert_array_equal(IDS, before)


def test_columns_of_a_field_go_together(batches):
    """Two columns of one field tell their sum; shuffled together they are worth more than one."""
    each = feature_worth(score, batches(), ONE_EACH, 0)
    both = feature_worth(score, batches(), [(0, 3), (1,), (2,)], 0)
    assert len(both) == 3 and both[0].logloss > each[0].logloss


def test_rows_of_one_class_have_no_auc(batches):
    found = feature_worth(score, batches(40, 16, np.zeros(40, np.float32)), ONE_EACH, 0)
    assert [worth.auc for worth in found] == [None] * 4
    assert found[2].logloss == 0


def test_worth_is_by_weight_where_rows_are_weighted(batches):
    """Rows of weight 2 as rows given twice, in the same order of values."""
    weights = RNG.integers(1, 4, 3000).astype(np.float32)
    given = batches(size=3000)
    heavy = [type(given[0])(given[0].ids, given[0].labels, weights)]
    found = feature_worth(score, heavy, ONE_EACH, seed=0, is_weighted=True)
    order = np.random.default_rng((0, 1)).permutation(3000)
    shuffled = IDS.copy()
    shuffled[:, 1] = IDS[order, 1]
    without = shuffled @ np.array([0.08, 0.02, 0.0, -0.02]) - 2.0
    again = np.repeat(np.arange(3000), weights.astype(int))
    lost = metrics.logloss(LABELS[again], without[again]) - metrics.logloss(
        LABELS[again], LOGITS[again]
    )
    assert found[1].logloss == pytest.approx(lost, abs=1e-12)
    assert found[1] != feature_worth(score, given, ONE_EACH, seed=0)[1]
