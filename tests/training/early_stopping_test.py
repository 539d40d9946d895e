import itertools

import numpy as np
import pytest

from optembed_jax import metrics
from optembed_jax.errors import InputError
from optembed_jax.training import early_stopping
from optembed_jax.training.early_stopping import GROUPS, EarlyStopping, standard_error


def draw(clicks, rows, better, seed):
    """Labels, and logits of two models alike but for noise of their own."""
    draws = np.random.default_rng(seed)
    labels = np.zeros(rows, np.float32)
    labels[draws.choice(rows, clicks, replace=False)] = 1
    shared = draws.normal(size=rows) + labels
    return labels, *(shared + scale * draws.normal(size=rows) for scale in (0.3, 0.3 / better))


def by_definition(labels, first, second):
    """Standard error of the difference of two AUCs, from the covariance of DeLong's components."""
    components = []
    for scores in (first, second):
        positives, negatives = scores[labels == 1], scores[labels == 0]
        wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
        components.append((wins.mean(axis=1), wins.mean(axis=0)))
    (v10, v01), (w10, w01) = components
    return np.sqrt(np.var(v10 - w10, ddof=1) / v10.size + np.var(v01 - w01, ddof=1) / v01.size)


def difference(stopping, labels, first, second):
    one, other = (stopping.judge(labels, logits) for logits in (first, second))
    return standard_error(np.subtract(one.influence, other.influence))


def test_the_error_of_a_difference_of_aucs_is_delongs(monkeypatch):
    labels, first, second = draw(20, 300, 1, seed=0)
    first, second = first.round(1), second.round(1)  # ties
    wanted = by_definition(labels, first, second)
    exact = metrics.auc_influence(labels, first) - metrics.auc_influence(labels, second)
    assert standard_error(exact) == pytest.approx(wanted, rel=1e-12)
    monkeypatch.setattr(early_stopping, "GROUPS", 300)
    stopping = EarlyStopping(errors=1.0)
    # A group has at most a row of each class: what is left is the product of their influences.
    assert difference(stopping, labels, first, second) == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("by", ["auc", "logloss"])
def test_the_error_is_what_further_draws_vary_by(by):
    stopping = EarlyStopping(by, errors=1.0)
    gaps, errors = [], []
    for seed in range(300):
        labels, first, second = draw(100, 2_000, 2, seed)
        merits = [stopping.judge(labels, logits).merit for logits in (first, second)]
        gaps.append(merits[1] - merits[0])
        errors.append(difference(stopping, labels, first, second))
    assert np.mean(errors) == pytest.approx(np.std(gaps), rel=0.12)
    assert np.std(errors) < 0.25 * np.mean(errors), "one draw must tell it nearly as well"
    alone = standard_error(metrics.auc_influence(labels, first))
    if by == "auc":
        assert alone > 2 * np.mean(errors), "the case must profit from pairing"


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("by", ["auc", "logloss"])
def test_the_order_of_the_rows_hardly_matters(sort, by):
    labels, first, second = draw(100, 5_000, 1, seed=4)
    order = np.argsort(labels if sort else np.random.default_rng(0).random(5_000), kind="stable")
    stopping = EarlyStopping(by, errors=1.0)
    here = difference(stopping, labels, first, second)
    there = difference(stopping, labels[order], first[order], second[order])
    assert there == pytest.approx(here, rel=0.35)


def test_a_judgement_has_the_metrics_and_so_many_groups():
    labels, logits, _ = draw(30, 400, 1, seed=1)
    for by, errors in itertools.product(early_stopping.CRITERIA, (0.0, 2.0)):
        judged = EarlyStopping(by, errors).judge(labels, logits)
        assert judged.auc == metrics.auc(labels, logits)
        assert judged.logloss == metrics.logloss(labels, logits)
        assert judged.merit == (judged.auc if by == "auc" else -judged.logloss)
        assert len(judged.influence) == (GROUPS if errors else 0)
        assert sum(judged.influence) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("errors", "behind", "expected"),
    [(0.0, 0.0, False), (1.0, 0.0, True), (1.0, 0.05, True), (1.0, 0.051, False), (2.0, 0.1, True)],
)
def test_within_noise_is_so_many_errors(errors, behind, expected):
    own, best = (0.03, 0.0, 0.01), (0.0, -0.04, 0.01)
    assert EarlyStopping(errors=errors).is_within_noise(behind, own, best) == expected


@pytest.mark.parametrize(
    ("by", "error", "expected"),
    [
        ("auc", 0.0049, False),
        ("auc", 0.0051, True),
        ("logloss", 0.0039, False),
        ("logloss", 0.0041, True),
    ],
)
def test_a_validation_is_blurred_from_an_error_that_hides_what_matters(by, error, expected):
    own, best = (0.6 * error, 0.1, 0.8 * error), (0.0, 0.1, 0.0)
    assert EarlyStopping(by, errors=1.0).is_blurred(own, best, logloss=0.4) == expected
    assert not EarlyStopping(by).is_blurred(own, best, logloss=0.4), "noise is not asked for"


def test_few_clicks_blur_a_validation_and_many_do_not():
    stopping = EarlyStopping(errors=1.0)
    for clicks, rows, expected in ((10, 20_000, True), (5_000, 20_000, False)):
        labels, first, second = draw(clicks, rows, 1, seed=0)
        one, other = (stopping.judge(labels, logits) for logits in (first, second))
        assert stopping.is_blurred(one.influence, other.influence, one.logloss) == expected


def test_one_click_and_equal_logits_have_an_error_that_is_a_number():
    labels = np.zeros(50)
    labels[7] = 1
    judged = EarlyStopping(errors=1.0).judge(labels, np.arange(50.0))
    assert np.isfinite(judged.influence).all() and judged.auc == pytest.approx(7 / 49)
    flat = EarlyStopping(errors=1.0).judge(labels, np.zeros(50))
    assert flat.auc == 0.5 and not np.any(flat.influence)


def test_a_split_of_one_class_is_refused():
    with pytest.raises(InputError, match="all 9 labels are 0"):
        EarlyStopping(errors=1.0).judge(np.zeros(9), np.zeros(9))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"by": "f1"}, "early_stop_by must be one of auc, logloss, not 'f1'"),
        ({"errors": -0.1}, "early_stop_errors must be at least 0, not -0.1"),
        ({"errors": float("nan")}, "early_stop_errors must be at least 0, not nan"),
    ],
)
def test_a_value_out_of_range_says_so(values, message):
    with pytest.raises(InputError, match=message):
        EarlyStopping(**values)


@pytest.mark.parametrize("by", ["auc", "logloss"])
def test_an_epoch_is_judged_by_weight_and_a_row_is_one_draw(by):
    labels, logits, other = draw(40, 900, 1.0, seed=3)
    stopping = EarlyStopping(by, errors=1.0)
    weights = np.random.default_rng(4).integers(1, 6, 900).astype(np.float32)
    judged = stopping.judge(labels, logits, weights)
    assert judged.auc == metrics.auc(labels, logits, weights)
    assert judged.logloss == metrics.logloss(labels, logits, weights)
    assert judged.calibration == metrics.calibration(labels, logits, weights)
    # The same error by weights of one size, a larger one where few rows have most of it.
    plain, alike = (stopping.judge(labels, logits, w) for w in (None, np.full(900, 4.0)))
    np.testing.assert_allclose(alike.influence, plain.influence, rtol=1e-9, atol=1e-12)
    of_other = stopping.judge(labels, other, weights), stopping.judge(labels, other)
    errors = [
        standard_error(np.subtract(a.influence, b.influence))
        for a, b in zip((judged, plain), of_other, strict=True)
    ]
    assert errors[0] > 1.03 * errors[1]
