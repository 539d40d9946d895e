import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optembed_jax import metrics
from optembed_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("strict_dtypes")

on_device = jax.jit(metrics.auc_on_device)
# One size for the hypothesis cases, so that one compiled program serves them all.
ROWS = 24


def auc_by_pairs(labels, scores):
    """Every (positive, negative) pair, one by one."""
    pairs = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in scores[labels == 1]
        for n in scores[labels == 0]
    ]
    return sum(pairs) / len(pairs)


def both(labels, scores):
    """The host's AUC and the device's."""
    device = on_device(jnp.asarray(scores[labels == 1]), jnp.asarray(scores[labels == 0]))
    return metrics.auc(labels, scores), float(device)


@given(
    labels=st.permutations([1] * 9 + [0] * (ROWS - 9)),
    # Few distinct values, so that ties within and across the classes are common.
    scores=st.lists(st.integers(-3, 3), min_size=ROWS, max_size=ROWS),
)
@settings(max_examples=150)
def test_auc_equals_the_pair_count(labels, scores):
    labels, scores = np.array(labels), np.array(scores, np.float32)
    expected = auc_by_pairs(labels, scores)
    host, device = both(labels, scores)
    assert host == pytest.approx(expected, abs=1e-12)
    assert device == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], 0.0), ([5, 5, 5, 5], 0.5), ([0, 1, 1, 2], 0.875)],
)
def test_perfect_reversed_all_tied_and_half_tied(scores, expected):
    labels = np.array([0, 0, 1, 1], np.float32)
    host, device = both(labels, np.array(scores, np.float32))
    assert host == expected
    assert device == pytest.approx(expected, abs=1e-7)


def test_infinite_scores_and_signed_zeros():
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1], np.float32)
    scores = np.array([-np.inf, np.inf, 0.0, -0.0, -0.0, 0.0, np.inf, -np.inf], np.float32)
    expected = auc_by_pairs(labels, scores)
    host, device = both(labels, scores)
    assert host == expected
    assert device == pytest.approx(expected, abs=1e-7)


def test_two_rows():
    host, device = both(np.array([1, 0], np.float32), np.array([0.2, 0.1], np.float32))
    assert host == device == 1.0


@pytest.mark.parametrize("distinct", [None, 50])
def test_device_equals_host_on_many_rows(distinct):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=50_000).astype(np.float32)
    if distinct:
        scores = np.round(scores * distinct / 6).astype(np.float32)
    labels = (rng.random(50_000) < 1 / (1 + np.exp(-scores))).astype(np.float32)
    host, device = both(labels, scores)
    assert 0.5 < host < 1
    assert device == pytest.approx(host, abs=1e-6)


def test_device_auc_maps_over_candidates():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 40).astype(np.float32)
    scores = rng.integers(0, 9, (3, 40)).astype(np.float32)
    mapped = jax.vmap(metrics.auc_on_device)(scores[:, labels == 1], scores[:, labels == 0])
    expected = [auc_by_pairs(labels, s) for s in scores]
    np.testing.assert_allclose(mapped, expected, atol=1e-6)


def test_auc_is_invariant_under_increasing_functions():
    rng = np.random.default_rng(2)
    labels, logits = rng.integers(0, 2, 100), rng.normal(size=100)
    assert metrics.auc(labels, logits) == metrics.auc(labels, 1 / (1 + np.exp(-logits)))


def test_grouped_auc_is_the_mean_of_the_groups_weighted_by_rows():
    rng = np.random.default_rng(4)
    labels, groups = rng.integers(0, 2, 500), rng.integers(-3, 60, 500)
    labels[groups == 7] = 1  # of one class: it has no AUC
    scores = rng.integers(0, 9, 500).astype(np.float32)  # many ties
    total = rows = 0.0
    for group in set(groups.tolist()) - {0}:
        own = groups == group
        if 0 < labels[own].sum() < own.sum():
            total += own.sum() * auc_by_pairs(labels[own], scores[own])
            rows += own.sum()
    found = metrics.grouped_auc(labels, scores, groups)
    assert found == pytest.approx(total / rows, abs=1e-12)
    order = rng.permutation(500)
    assert metrics.grouped_auc(labels[order], scores[order], groups[order]) == pytest.approx(found)
    whole = np.ones(500, np.int64)
    assert metrics.grouped_auc(labels, scores, whole) == pytest.approx(metrics.auc(labels, scores))


@pytest.mark.parametrize(
    ("labels", "groups"), [([], []), ([1, 0], [0, 0]), ([1, 0], [1, 2]), ([1, 1], [5, 5])]
)
def test_without_a_group_of_both_classes_there_is_no_grouped_auc(labels, groups):
    found = metrics.grouped_auc(
        np.array(labels, np.int64), np.zeros(len(labels)), np.array(groups, np.int64)
    )
    assert found is None


def test_grouped_auc_of_no_number_is_an_error():
    with pytest.raises(InputError, match="1 scores are NaN"):
        metrics.grouped_auc(np.array([0, 1]), np.array([np.nan, 1.0]), np.array([1, 1]))


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_an_error_that_names_it(label):
    with pytest.raises(InputError, match=f"all 3 labels are {label}"):
        metrics.auc(np.full(3, label), np.arange(3.0))


def test_no_rows_and_nan_scores_are_errors():
    with pytest.raises(InputError, match="all 0 labels"):
        metrics.auc(np.zeros(0), np.zeros(0))
    with pytest.raises(InputError, match="1 scores are NaN"):
        metrics.auc(np.array([0, 1]), np.array([0.5, np.nan]))


def test_logloss_equals_the_cross_entropy_of_probabilities():
    rng = np.random.default_rng(3)
    labels, logits = rng.integers(0, 2, 200), rng.normal(0, 3, 200)
    p = 1 / (1 + np.exp(-logits))
    expected = -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    assert metrics.logloss(labels, logits) == pytest.approx(expected, rel=1e-12)


def test_logloss_of_no_information_and_of_extreme_logits():
    labels = np.array([1, 0])
    assert metrics.logloss(labels, np.zeros(2)) == pytest.approx(np.log(2))
    assert metrics.logloss(labels, np.array([1e4, -1e4])) == 0
    assert metrics.logloss(labels, np.array([-1e4, 1e4], np.float32)) == 1e4


def test_calibration_is_predicted_over_observed_clicks():
    labels = np.array([1, 0, 0, 0])
    p = np.array([0.5, 0.25, 0.125, 0.125])
    logits = np.log(p / (1 - p))
    assert metrics.calibration(labels, logits) == pytest.approx(1.0)
    assert metrics.calibration(np.array([1, 1, 0, 0]), logits) == pytest.approx(0.5)
    assert metrics.calibration(labels, np.zeros(4)) == pytest.approx(2.0)


def test_on_the_device_no_number_and_one_class_give_none():
    assert np.isnan(on_device(jnp.array([0.2, jnp.nan]), jnp.array([0.1, 0.3])))
    assert np.isnan(on_device(jnp.array([0.2, 0.4]), jnp.array([0.1, jnp.nan])))
    assert np.isnan(on_device(jnp.zeros(0), jnp.array([0.1, 0.3])))
    assert np.isnan(on_device(jnp.array([0.1, 0.3]), jnp.zeros(0)))


def test_device_logloss_equals_host():
    rng = np.random.default_rng(5)
    labels = np.array([0, 1] * 1500)
    logits = rng.normal(0, 30, 3000).astype(np.float32)
    device = jax.jit(metrics.logloss_on_device)(logits[labels == 1], logits[labels == 0])
    assert float(device) == pytest.approx(metrics.logloss(labels, logits), rel=1e-6)


@pytest.fixture
def weighted():
    """Labels, coarse scores, and whole weights of 60 rows in 7 groups, one of them of one class."""
    rng = np.random.default_rng(5)
    labels, scores = rng.integers(0, 2, 60), rng.integers(-4, 4, 60).astype(np.float32)
    groups = rng.integers(0, 7, 60)
    labels[groups == 3] = 1
    return labels, scores, groups, rng.integers(1, 4, 60)


def test_a_row_of_weight_two_counts_as_the_row_given_twice(weighted):
    labels, scores, groups, weights = weighted
    again = np.repeat(np.arange(60), weights)
    for of in (metrics.auc, metrics.logloss, metrics.calibration):
        found = of(labels, scores, weights.astype(np.float32))
        assert found == pytest.approx(of(labels[again], scores[again]), rel=1e-12)
        assert abs(found - of(labels, scores)) > 1e-3, "these weights must matter"
        assert of(labels, scores, np.full(60, 0.25)) == pytest.approx(of(labels, scores), rel=1e-12)
    found = metrics.grouped_auc(labels, scores, groups, weights)
    expected = metrics.grouped_auc(labels[again], scores[again], groups[again])
    assert found == pytest.approx(expected, rel=1e-12)
    assert abs(found - metrics.grouped_auc(labels, scores, groups)) > 1e-3


@pytest.mark.parametrize("measure", ["auc", "logloss"])
def test_weights_on_the_device_are_those_of_the_host(weighted, measure):
    of, on = getattr(metrics, measure), getattr(metrics, f"{measure}_on_device")
    rng = np.random.default_rng(6)
    many = (rng.random(200_000) < 0.03).astype(np.int64), rng.normal(size=200_000).round(4)
    for labels, scores, weights in (
        (*weighted[:2], weighted[3]),
        (*many, rng.exponential(size=200_000)),
    ):
        scores, weights = scores.astype(np.float32), weights.astype(np.float32)
        ones, zeros = labels == 1, labels == 0
        of_classes = jnp.asarray(weights[ones]), jnp.asarray(weights[zeros])
        found = jax.jit(on)(jnp.asarray(scores[ones]), jnp.asarray(scores[zeros]), of_classes)
        assert float(found) == pytest.approx(of(labels, scores, weights), abs=1e-6)


@pytest.mark.parametrize("influence", [metrics.auc_influence, metrics.logloss_influence])
def test_the_influence_of_weighted_rows_is_that_of_one_draw_each(influence):
    """Rows of one weight are rows; of others, squares sum to the variance of the figure."""
    rng = np.random.default_rng(7)
    figure = metrics.auc if influence is metrics.auc_influence else metrics.logloss

    def draw():
        labels = (rng.random(400) < 0.3).astype(np.int64)
        return labels, rng.normal(size=400) + labels, rng.choice([1.0, 5.0], 400)

    labels, scores, _ = draw()
    np.testing.assert_allclose(
        influence(labels, scores, np.full(400, 3.0)), influence(labels, scores), rtol=1e-9
    )
    drawn = [draw() for _ in range(400)]
    spread = np.std([figure(*rows) for rows in drawn])
    told = [np.sqrt(np.square(influence(*rows)).sum()) for rows in drawn[:40]]
    assert np.mean(told) == pytest.approx(spread, rel=0.12)
    alike = [np.sqrt(np.square(influence(*rows[:2])).sum()) for rows in drawn[:40]]
    assert np.mean(alike) < 0.85 * np.mean(told), "fewer rows count, so the error is larger"


def test_reliability_of_bins_equals_means_of_sorted_parts():
    rng = np.random.default_rng(0)
    logits, weights = rng.normal(size=25), rng.uniform(0.5, 2, 25)
    labels = (rng.random(25) < 0.4).astype(np.float32)
    found = metrics.reliability(labels, logits, weights, bins=3)
    order = np.argsort(logits)
    parts = [order[:9], order[9:17], order[17:]]
    assert [b["rows"] for b in found] == [9, 8, 8]
    for b, own in zip(found, parts, strict=True):
        probability = 1 / (1 + np.exp(-logits[own]))
        assert b["predicted"] == pytest.approx(np.average(probability, weights=weights[own]))
        assert b["clicked"] == pytest.approx(np.average(labels[own], weights=weights[own]))
    assert metrics.reliability(labels[:2], logits[:2])[-1]["rows"] == 1
    assert metrics.reliability(labels[:0], logits[:0]) == []
