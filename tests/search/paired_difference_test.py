import numpy as np
import pytest

from optembed_jax.search.paired_difference import paired_difference


def test_the_interval_is_students():
    # Differences 1, 2, 3, 4, 5: mean 3, standard error sqrt(2.5 / 5), t(4, .975) = 2.776445.
    found = paired_difference([11, 12, 13, 14, 15], [10] * 5)
    assert found.mean == 3 and found.pairs == 5
    assert found.half_width == pytest.approx(2.776445 * np.sqrt(0.5), rel=1e-6)
    assert not found.is_tie
    assert found.verdict == "better by 3.0000 +- 1.9632"


def test_it_is_paired():
    rng = np.random.default_rng(0)
    common = rng.normal(0, 10, 6)
    found = paired_difference(common + 1 + rng.normal(0, 0.01, 6), common)
    assert found.verdict.startswith("better by 1.0") or found.verdict.startswith("better by 0.9")


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = [
        abs(found.mean - 0.3) <= found.half_width
        for found in (paired_difference(rng.normal(0.3, 1, 4), np.zeros(4)) for _ in range(2000))
    ]
    assert abs(np.mean(held) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.parametrize(
    ("first", "verdict"),
    [
        ([0.70, 0.72, 0.71], "tie (difference +0.0000 +- 0.0248)"),
        ([0.60, 0.61, 0.62], "worse by 0.1000 +- 0.0248"),
        ([0.71, 0.71, 0.71], "tie (difference +0.0000 +- 0.0000)"),
    ],
)
def test_words(first, verdict):
    assert paired_difference(first, [0.71, 0.71, 0.71]).verdict == verdict


def test_one_seed_says_nothing():
    found = paired_difference([0.8], [0.7])
    assert found.half_width is None and found.is_tie
    assert found.verdict == "cannot tell: 1 seed shows no spread (difference +0.1000)"
