import itertools
import math

import jax
import numpy as np
import pytest

from optembed_jax.search.space import SearchSpace
from optembed_jax.search.surrogate import fit_surrogate

ROWS = np.array([[50, 20, 5]])
TWO_MASKS = np.array([[50, 20, 5], [25, 10, 5]])


def inputs(candidates, max_dim, masks):
    """Cell by cell: how much of each doubling a dimension has, and which mask it is."""
    fields, doublings = 3, math.ceil(math.log2(max_dim))
    rows = []
    for candidate in candidates.tolist():
        row = []
        for dim in candidate[:fields]:
            row += [min(max(math.log2(dim) - k, 0.0), 1.0) for k in range(doublings)]
        if masks > 1:
            row += [float(candidate[-1] == mask + 1) for mask in range(masks)]
        rows.append(row)
    return np.array(rows)


def covariance_of(found):
    known = found.directions @ np.diag(found.shrink) @ found.directions.T
    root = found.scale * (np.eye(len(known)) - known)
    return root @ root.T


def log_likelihood(target, products, strength):
    """Of a normal vector with covariance ``v (I + X X' / strength)``, at its best ``v``."""
    covariance = np.eye(len(target)) + products / strength
    variance = target @ np.linalg.solve(covariance, target) / len(target)
    log_det = np.linalg.slogdet(covariance)[1]
    return -0.5 * (len(target) * math.log(variance) + log_det), variance


@pytest.mark.parametrize(("rows", "max_dim"), [(ROWS, 8), (ROWS, 11), (TWO_MASKS, 8)])
def test_the_posterior_is_that_of_the_prior_by_which_the_data_are_likeliest(rows, max_dim):
    space = SearchSpace(rows, max_dim)
    candidates = space.draw(jax.random.key(0), 25)
    fitness = 0.7 + 0.01 * np.random.default_rng(1).normal(size=25) + 0.01 * candidates[:, 0]
    found = fit_surrogate(space, candidates, fitness)
    wide = inputs(candidates, max_dim, len(rows))
    wide = wide - wide.mean(axis=0)
    target = (fitness - fitness.mean()) / fitness.std()
    strengths = [10 ** (-4 + step / 4) for step in range(25)]
    likelihoods = [log_likelihood(target, wide @ wide.T, s)[0] for s in strengths]
    strength = strengths[int(np.argmax(likelihoods))]
    variance = log_likelihood(target, wide @ wide.T, strength)[1]
    precision = wide.T @ wide + strength * np.eye(wide.shape[1])
    np.testing.assert_allclose(found.mean, np.linalg.solve(precision, wide.T @ target), atol=1e-8)
    covariance = variance * np.linalg.inv(precision)
    np.testing.assert_allclose(covariance_of(found), covariance, atol=1e-8 * covariance.max())
    # Each candidate predicted from the others, one solution each.
    left_out = []
    for place in range(25):
        others = np.delete(np.arange(25), place)
        center, level = wide[others].mean(axis=0), target[others].mean()
        x, y = wide[others] - center, target[others] - level
        weights = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)
        left_out.append(target[place] - level - (wide[place] - center) @ weights)
    assert found.unexplained == pytest.approx(np.mean(np.square(left_out)), rel=1e-6)


def test_it_expects_what_ridge_regression_predicts():
    space = SearchSpace(TWO_MASKS, 8)
    candidates, others = space.draw(jax.random.key(0), 40), space.draw(jax.random.key(1), 9)
    fitness = 0.7 + 0.01 * np.log2(candidates[:, 0]) + 0.02 * (candidates[:, 3] == 2)
    found = fit_surrogate(space, candidates, fitness)
    wide = inputs(candidates, 8, 2)
    along = (inputs(others, 8, 2) - wide.mean(axis=0)) @ found.mean
    expected = fitness.mean() + fitness.std() * along
    np.testing.assert_allclose(found.expected(others), expected, atol=1e-12)
    np.testing.assert_allclose(found.expected(candidates), fitness, atol=1e-4)


def test_equals_are_expected_to_stay_so_though_their_mean_is_rounded():
    space = SearchSpace(TWO_MASKS, 8)
    candidates, others = space.draw(jax.random.key(0), 40), space.draw(jax.random.key(1), 9)
    for value in (0.0, 0.5 - 0.4, 0.3, 1e-300, -7e200):
        for count in (1, 10, 13, 40):
            found = fit_surrogate(space, candidates[:count], np.full(count, value))
            np.testing.assert_allclose(found.expected(others), value, rtol=1e-12)
            assert np.isfinite(found.draw(jax.random.key(2), 2).of_dims).all()


def test_draws_are_of_the_posterior_and_say_what_candidates_are_worth():
    space = SearchSpace(TWO_MASKS, 8)
    candidates = space.draw(jax.random.key(0), 30)
    found = fit_surrogate(space, candidates, np.random.default_rng(0).normal(size=30))
    worth = found.draw(jax.random.key(1), 4000)
    assert worth.of_dims.shape == (4000, 3, 8) and worth.of_masks.shape == (4000, 2)
    total = worth.of(space, candidates)
    first = [
        sum(worth.of_dims[0, field, dim - 1] for field, dim in enumerate(c[:3]))
        + worth.of_masks[0, c[3] - 1]
        for c in candidates.tolist()
    ]
    np.testing.assert_allclose(total[0], first)
    wide = inputs(candidates, 8, 2)
    np.testing.assert_allclose(total.mean(axis=0), wide @ found.mean, atol=0.1)
    expected = wide @ covariance_of(found) @ wide.T
    np.testing.assert_allclose(np.cov(total.T), expected, atol=0.1 * expected.max())
    again = found.draw(jax.random.key(1), 4000)
    np.testing.assert_array_equal(again.of_dims, worth.of_dims)


@pytest.mark.parametrize("count", [8, 60])
def test_draws_hang_on_what_was_scored_and_not_on_rounding(count):
    """Fewer candidates than weights leave directions free, of which any basis is as good."""
    space = SearchSpace(TWO_MASKS, 16)
    candidates = space.draw(jax.random.key(0), count)
    fitness = np.random.default_rng(0).normal(size=count)
    draws = [
        fit_surrogate(space, candidates[order], fitness[order]).draw(jax.random.key(1), 3)
        for order in (np.arange(count), np.arange(count)[::-1])
    ]
    scale = draws[0].of_dims.std()
    np.testing.assert_allclose(draws[0].of_dims, draws[1].of_dims, atol=1e-6 * scale)
    np.testing.assert_allclose(draws[0].of_masks, draws[1].of_masks, atol=1e-6 * scale)


def test_what_fields_are_worth_together_is_left_unexplained_also_with_many_fields():
    """39 fields and 120 candidates: a model of 156 weights fits anything that it was shown."""
    space = SearchSpace(np.ones((1, 39), int), 16)
    candidates = space.draw(jax.random.key(0), 120)
    columns = np.log2(candidates)
    together = sum(np.minimum(columns[:, 2 * n], columns[:, 2 * n + 1]) for n in range(3))
    assert fit_surrogate(space, candidates, together).unexplained > 0.15
    assert fit_surrogate(space, candidates, columns[:, :6].sum(axis=1)).unexplained < 0.15


def test_it_learns_what_columns_are_worth():
    space = SearchSpace(ROWS, 16)
    truth = np.log2(np.arange(1, 17)) * np.array([[0.03], [0.0], [-0.01]])
    candidates = space.draw(jax.random.key(0), 60)
    found = fit_surrogate(space, candidates, truth[np.arange(3), candidates - 1].sum(axis=1))
    worth = found.draw(jax.random.key(1), 1).of_dims[0]
    gain = worth[:, -1] - worth[:, 0]
    np.testing.assert_allclose(gain / gain[0], [1.0, 0.0, -1 / 3], atol=0.01)


@pytest.mark.parametrize("max_dim", [1, 5])
def test_what_is_not_known_is_guessed(max_dim):
    """One candidate, or many that are rated alike, tell nothing; draws are finite all the same."""
    space = SearchSpace(ROWS, max_dim)
    everything = np.array(list(itertools.product(range(1, max_dim + 1), repeat=3)), np.int32)
    for candidates in (everything[:1], everything):
        found = fit_surrogate(space, candidates, np.full(len(candidates), 0.5))
        worth = found.draw(jax.random.key(0), 2)
        assert worth.of_dims.shape == (2, 3, max_dim) and np.isfinite(worth.of_dims).all()
        np.testing.assert_allclose(found.mean, 0, atol=1e-12)
        assert max_dim == 1 or (worth.of_dims[0] != worth.of_dims[1]).any()
