import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optembed_jax.search import variation


def random_parents(seed, count=4, num_fields=5, max_dim=8):
    return (
        np.random.default_rng(seed).integers(1, max_dim + 1, (count, num_fields)).astype(np.int32)
    )


@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=25)
def test_mutation_redraws_some_fields_of_a_parent(seed):
    parents = random_parents(seed)
    before = parents.copy()
    children = variation.mutate(jax.random.key(seed), parents, 30, 0.1, 8)
    np.testing.assert_array_equal(parents, before)
    assert children.shape == (30, 5) and children.dtype == np.int32
    assert children.min() >= 1 and children.max() <= 8
    # At a tenth per field, five fields differ together once in 1e5 children.
    distance = (children[:, None] != parents[None]).sum(-1).min(-1)
    assert distance.max() <= 4


def test_mutation_at_its_extremes():
    parents = random_parents(0)
    copies = variation.mutate(jax.random.key(0), parents, 400, 0.0, 8)
    assert {tuple(c) for c in copies.tolist()} == {tuple(p) for p in parents.tolist()}
    fresh = variation.mutate(jax.random.key(0), parents, 400, 1.0, 8)
    counts = np.bincount(fresh.ravel(), minlength=9)[1:]
    assert np.abs(counts - 250).max() < 5 * np.sqrt(2000 / 8 * 7 / 8)


def test_mutation_redraws_each_field_with_the_given_probability():
    parents = np.full((1, 5), 9, np.int32)
    # 9 is not drawn again, so that every redraw shows.
    children = variation.mutate(jax.random.key(1), parents, 2000, 0.3, 8)
    redrawn = (children != 9).mean(axis=0)
    assert np.abs(redrawn - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / 2000)


@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=25)
def test_crossover_joins_a_head_and_the_tail_of_another(seed):
    parents = random_parents(seed)
    before = parents.copy()
    children = variation.crossover(jax.random.key(seed), parents, 30)
    np.testing.assert_array_equal(parents, before)
    possible = {
        (*parents[a, :cut], *parents[b, cut:])
        for a, b in itertools.permutations(range(4), 2)
        for cut in range(1, 5)
    }
    assert {tuple(child) for child in children} <= possible


def test_crossover_reaches_every_pair_and_every_cut():
    # Each parent is made of its own number, which shows where every part comes from.
    parents = np.broadcast_to(np.arange(3)[:, None], (3, 4))
    children = variation.crossover(jax.random.key(0), parents, 600)
    expected = {
        (a,) * cut + (b,) * (4 - cut)
        for a, b in itertools.permutations(range(3), 2)
        for cut in (1, 2, 3)
    }
    assert {tuple(child) for child in children.tolist()} == expected


@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (1, 1)])
def test_crossover_of_one_parent_or_one_field_copies(shape):
    parents = np.arange(1, 1 + np.prod(shape), dtype=np.int32).reshape(shape)
    children = variation.crossover(jax.random.key(0), parents, 50)
    assert {tuple(c) for c in children.tolist()} == {tuple(p) for p in parents.tolist()}


def test_every_gene_stays_within_its_own_limit():
    parents = np.ones((1, 3), np.int32)
    children = variation.mutate(jax.random.key(0), parents, 400, 1.0, np.array([2, 5, 1]))
    assert [sorted(set(gene)) for gene in children.T.tolist()] == [[1, 2], [1, 2, 3, 4, 5], [1]]


def from_a_list(draws):
    """Gives the draws one after the other, whatever the key."""
    left = iter(draws)
    return lambda key: np.array(next(left), np.int32)


def test_new_candidates_are_drawn_until_there_are_enough():
    taken = lambda candidates: (candidates == 7).any(axis=1)  # noqa: E731 - one line says it
    draw = from_a_list([[[7, 1], [1, 2], [1, 2]], [[1, 2], [3, 4], [5, 5]], [[9, 9]]])
    found = variation.draw_new(jax.random.key(0), draw, 3, taken)
    assert found.tolist() == [[1, 2], [3, 4], [5, 5]] and found.dtype == np.int32


def test_new_candidates_run_out():
    draw = from_a_list([[[1, 2]]] * 4)
    nobody = lambda candidates: np.zeros(len(candidates), bool)  # noqa: E731 - one line says it
    found = variation.draw_new(jax.random.key(0), draw, 3, nobody, redraws=4)
    assert found.tolist() == [[1, 2]]
    none = variation.draw_new(jax.random.key(0), lambda key: np.ones((2, 5), np.int32), 0, nobody)
    assert none.shape == (0, 5)
