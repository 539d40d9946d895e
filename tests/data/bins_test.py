import numpy as np
import pytest

from optembed_jax.data import bins
from optembed_jax.values.lookup import all_bins


@pytest.mark.parametrize("distinct", [1, 2, 5, 40, 10_000])
@pytest.mark.parametrize("most", [2, 8, 32])
def test_every_bin_holds_a_value_and_about_its_share(distinct, most):
    values = np.sort(np.random.default_rng(0).integers(0, distinct, 10_000).astype(float))
    edges = bins.quantile_edges(values, most)
    assert (np.diff(edges) > 0).all() and len(edges) <= most - 1
    # Each value's bin, found by comparing it with every edge.
    place = (values[:, None] >= edges[None, :]).sum(axis=1)
    counts = np.bincount(place, minlength=len(edges) + 1)
    assert (counts > 0).all()
    if distinct >= 10_000:
        np.testing.assert_allclose(counts, 10_000 / most, rtol=0.05)
    np.testing.assert_array_equal(all_bins(edges, False).find(values), 1 + place)


def test_missing_values_have_a_row_of_their_own_or_the_oov_row():
    edges = np.array([1.0, 2.0])
    values = np.array([0.5, 1.0, np.nan, 9.0])
    np.testing.assert_array_equal(all_bins(edges, True).find(values), [1, 2, 4, 3])
    np.testing.assert_array_equal(all_bins(edges, False).find(values), [1, 2, 0, 3])


def test_no_value_at_all_gives_one_bin():
    edges = bins.quantile_edges(np.empty(0), 8)
    assert len(edges) == 0
    assert bins.bin_names(edges) == ["[-inf, inf)"]


def test_bin_names_give_the_edges_exactly():
    assert bins.bin_names(np.array([0.1, 1 / 3])) == [
        "[-inf, 0.1)",
        "[0.1, 0.3333333333333333)",
        "[0.3333333333333333, inf)",
    ]


def test_sample_is_exact_while_it_fits_and_counts_the_missing():
    sample = bins.NumericSample(0)
    values = np.random.default_rng(1).normal(size=1_000)
    values[::10] = np.nan
    sample.add(np.arange(600), values[:600])
    sample.add(np.arange(600, 1_000), values[600:])
    assert sample.missing == 100
    np.testing.assert_array_equal(sample.values(), np.sort(values[~np.isnan(values)]))


def test_sample_of_more_is_bounded_uniform_and_free_of_the_order(monkeypatch):
    monkeypatch.setattr(bins, "SAMPLE_SIZE", 1_000)
    values = np.arange(20_000.0)
    parts = np.array_split(np.arange(20_000), 40)
    forward, backward = bins.NumericSample(5), bins.NumericSample(5)
    for part in parts:
        forward.add(part, values[part])
    for part in parts[::-1]:
        backward.add(part, values[part])
    found = forward.values()
    assert len(found) == 1_000
    np.testing.assert_array_equal(found, backward.values())
    np.testing.assert_allclose(np.quantile(found, [0.1, 0.5, 0.9]), [2e3, 1e4, 1.8e4], atol=700)
