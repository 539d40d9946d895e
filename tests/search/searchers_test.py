import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from searching import ROWS, SMALL, Judge, nobody, run

from optembed_jax.errors import InputError
from optembed_jax.fitness.validation_fitness import ValidationFitness
from optembed_jax.search import searchers
from optembed_jax.search.loop import SearchConfig, SearchState, evolve
from optembed_jax.search.population import Population
from optembed_jax.search.score_cache import ScoreCache
from optembed_jax.search.scorer import Scorer
from optembed_jax.search.searchers import (
    Evolution,
    GivenCandidates,
    ParetoEvolution,
    RandomSearch,
)
from optembed_jax.search.space import SearchSpace
from optembed_jax.search.surrogate_assisted import SurrogateAssistedEvolution


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2)),
        min_size=1, max_size=9, unique_by=lambda t: t[:2],
    ),
    st.integers(1, 12),
)  # fmt: skip
def test_selection_sorts_by_fitness_then_size_then_dims(candidates, top_k):
    dims = np.array([c[:2] for c in candidates], np.int32)
    fitness = np.array([c[2] / 2 for c in candidates])
    chosen = searchers.select(dims, fitness, top_k)
    expected = sorted(candidates, key=lambda c: (-c[2], c[0] + c[1], c[0], c[1]))[:top_k]
    assert [tuple(d) for d in chosen.dims.tolist()] == [c[:2] for c in expected]
    assert chosen.fitness.tolist() == [c[2] / 2 for c in expected]
    assert chosen.winner.tolist() == list(expected[0][:2])


def test_selection_leaves_out_who_fell_out_of_a_race():
    chosen = searchers.select(np.array([[1], [2], [3]], np.int32), np.array([np.nan, 0.1, 0.2]), 9)
    assert chosen.dims.tolist() == [[3], [2]]


@pytest.mark.parametrize("limit", [None, 400])
@pytest.mark.parametrize("seed", range(3))
def test_proposals_are_new_distinct_and_within_the_limit(seed, limit):
    space = SearchSpace(ROWS, 8, limit)
    parents = space.draw(jax.random.key(seed), 4)
    before = parents.copy()
    score = Scorer(Judge([1] * 4), ScoreCache.empty(4))
    score(parents)
    proposed = searchers.propose(jax.random.key(seed + 1), parents, space, SMALL, score)
    np.testing.assert_array_equal(parents, before)
    assert proposed.shape == (10, 4) and proposed.dtype == np.int32
    assert len(np.unique(proposed, axis=0)) == 10 and not score.known(proposed).any()
    assert (space.parameters(proposed) <= (limit or 10**6)).all()


def test_proposals_run_out_with_the_space():
    space = SearchSpace(np.ones((1, 2), int), 2)
    everything = np.array(list(itertools.product([1, 2], repeat=2)), np.int32)
    score = Scorer(Judge([1, 1]), ScoreCache.empty(2))
    score(everything[:2])
    proposed = searchers.propose(jax.random.key(0), everything[:2], space, SMALL, score)
    assert {tuple(d) for d in proposed.tolist()} == {(2, 1), (2, 2)}
    score(proposed)
    proposed = searchers.propose(jax.random.key(1), everything[:2], space, SMALL, score)
    assert proposed.shape == (0, 2)


def test_the_evolution_keeps_the_best_ever_seen():
    judge = Judge([3, 8, 1, 5])
    history = run(Evolution(SearchSpace(ROWS, 8), SMALL, nobody(4)), judge, 4)
    assert len(judge.asked) == len(set(judge.asked))
    # Each generation's parents are the best of all that was scored up to then.
    for state in history:
        upto = judge.asked[: state.history[-1].evaluations]
        fitness = {c: -sum(abs(x - t) for x, t in zip(c, judge.target, strict=True)) for c in upto}
        ranked = sorted(upto, key=lambda c: (-fitness[c], sum(c), c))[:4]
        assert [tuple(d) for d in state.population.dims.tolist()] == ranked
        assert state.population.fitness.tolist() == [fitness[c] for c in ranked]
    best = [state.population.fitness[0] for state in history]
    assert best == sorted(best) and best[-1] > best[0]


def test_under_a_budget_the_winner_is_never_rated_below_the_rules():
    space = SearchSpace(ROWS, 8, 500)
    rules = space.rule_candidates((500,))
    # The judge wants just what the last rule is.
    judge = Judge(rules[-1])
    last = run(Evolution(space, SMALL, rules), judge, 4)[-1]
    assert last.population.winner.tolist() == rules[-1].tolist()
    assert set(map(tuple, rules.tolist())) <= set(judge.asked[:10])
    for seed in range(3):
        judge = Judge([8, 8, 8, 8])
        last = run(Evolution(space, SMALL, rules), judge, 4, seed=seed)[-1]
        assert last.population.fitness[0] >= max(judge(rules))
        assert (space.parameters(last.cache.dims) <= 500).all()


def halving(judge, seen):
    """A judge with two parts, the first of which is no guide; ``seen`` counts what each is told."""

    def part(number, sign):
        def score(dims):
            seen[number] += len(dims)
            return sign * judge(dims)

        return score

    return ValidationFitness((part(0, -1), part(1, 1)), (5, 50))


def test_proposals_race_and_the_rules_do_not():
    space, seen = SearchSpace(ROWS, 8, 500), [0, 0]
    rules = space.rule_candidates((500,))
    config = SearchConfig(2, 6, 6, 0.3, 4, search_patience=0)
    last = run(Evolution(space, config, rules), halving(Judge(rules[0]), seen), 4, config)[-1]
    first, full = (config.offspring - len(rules)) + 2 * 12, len(rules)
    assert seen[0] == first and full + first // 2 <= seen[1] <= full + first // 2 + 1
    assert len(last.cache) == full + first
    assert np.isnan(last.cache.fitness).sum() == len(last.cache) - seen[1]
    # The winner was scored on all rows, though the first part rates it last.
    assert last.population.winner.tolist() == rules[0].tolist()
    assert not np.isnan(last.population.fitness).any()


def test_without_racing_everybody_is_scored_in_full():
    seen = [0, 0]
    search = Evolution(SearchSpace(ROWS, 8), SMALL, nobody(4), halving=False)
    run(search, halving(Judge([1] * 4), seen), 4)
    assert seen == [0, 70]


@pytest.mark.parametrize("kind", [Evolution, SurrogateAssistedEvolution, ParetoEvolution])
def test_the_first_generation_draws_no_seed_again(kind):
    space = SearchSpace(np.ones((1, 2), int), 3)
    seeds = np.array([[1, 1], [3, 2], [2, 2], [3, 3]], np.int32)
    config = SearchConfig(0, 5, 5, top_k=20)
    first = run(kind(space, config, seeds), Judge([2, 3]), 2, config)[0]
    assert len(np.unique(first.population.dims, axis=0)) == len(first.population) == 9


def test_random_search_is_random_and_keeps_to_the_budget():
    space, judge = SearchSpace(ROWS, 8, 500), Judge([8, 8, 8, 8])
    last = run(RandomSearch(space, SMALL), judge, 4)[-1]
    assert len(judge.asked) == len(set(judge.asked)) == 70 == last.history[-1].evaluations
    assert (space.parameters(np.array(judge.asked)) <= 500).all()
    best = sorted(judge.asked, key=lambda c: (sum(abs(8 - x) for x in c), sum(c), c))[:4]
    assert [tuple(d) for d in last.population.dims.tolist()] == best


def test_given_candidates_are_scored_once():
    rules = SearchSpace(ROWS, 8).rule_candidates((500,))
    judge = Judge(rules[1])
    (only,) = run(GivenCandidates(rules), judge, 4)
    assert only.population.winner.tolist() == rules[1].tolist()
    assert sorted(judge.asked) == sorted(map(tuple, rules.tolist()))


class Saturating:
    """A fitness that grows with a field's dimension, up to its own number of columns."""

    def __init__(self, useful):
        self.useful = np.asarray(useful)

    def __call__(self, dims):
        return 0.6 + 0.01 * np.minimum(dims, self.useful).sum(axis=1)


def true_front(space, judge):
    """By brute force: the best fitness at every size that is on the front."""
    everything = np.array(list(itertools.product(range(1, 5), repeat=4)), np.int32)
    found, best = {}, -np.inf
    sizes, fitness = space.parameters(everything), judge(everything)
    for size in np.unique(sizes):
        top = fitness[sizes == size].max()
        if top > best:
            found[int(size)] = best = top
    return found


def test_the_front_in_one_run():
    space, judge = SearchSpace(ROWS, 4), Saturating([2, 4, 3, 1])
    config = SearchConfig(25, 10, 10, 0.3, 15, search_patience=0)
    seeds = space.rule_candidates((200, 330, 500))
    searcher = ParetoEvolution(space, config, seeds)
    history = list(
        evolve(jax.random.key(0), searcher, judge, SearchState.start(4), config, searcher.merit)
    )
    merits = [state.history[-1].merit for state in history]
    found = searchers.front(space, history[-1].cache.dims, history[-1].cache.fitness)
    expected = true_front(space, judge)
    sizes = space.parameters(found.dims)
    assert (np.diff(sizes) > 0).all() and (np.diff(found.fitness) > 0).all()
    # All of it but at most one point in ten, and nothing that is not on it.
    reached = {int(s): f for s, f in zip(sizes, found.fitness, strict=True) if expected.get(s) == f}
    assert len(reached) >= 0.9 * len(expected), (len(reached), len(expected))
    assert found.fitness[-1] == max(expected.values()) and sizes[0] == 165
    assert merits[-1] > merits[0]


def test_the_merit_is_the_mean_fitness_over_sizes():
    space = SearchSpace(np.array([[1]]), 16)
    population = Population(np.array([[4], [1]], np.int32), np.array([0.8, 0.6]))
    searcher = ParetoEvolution(space, SMALL, nobody(1))
    # In log2, sizes go from 0 to 4: .6 from 0 to 2 and .8 from 2 to 4.
    assert searcher.merit(population) == pytest.approx(0.7)


def test_a_front_leaves_out_the_dominated_and_those_without_a_score():
    space = SearchSpace(np.array([[10, 1]]), 4)
    dims = np.array([[1, 1], [1, 2], [2, 1], [4, 4], [1, 3]], np.int32)
    found = searchers.front(space, dims, np.array([0.5, 0.6, 0.6, 0.7, np.nan]))
    assert found.dims.tolist() == [[1, 1], [1, 2], [4, 4]]
    assert found.fitness.tolist() == [0.5, 0.6, 0.7]


@pytest.mark.parametrize("kind", [Evolution, SurrogateAssistedEvolution])
def test_masks_are_searched_with_the_dimensions(kind):
    space = SearchSpace(np.array([[100, 100], [30, 30]]), 8, 400)
    target = np.array([6, 4, 2])

    def judge(candidates):
        return -np.abs(candidates - target).sum(axis=1).astype(float)

    rules = space.rule_candidates((400,))
    assert set(rules[:, -1].tolist()) == {1, 2}
    config = SearchConfig(20, 6, 6, 0.3, 6, search_patience=0)
    last = run(kind(space, config, rules), judge, 3, config)[-1]
    assert last.population.winner.tolist() == [6, 4, 2]
    assert (space.parameters(last.cache.dims) <= 400).all()


@pytest.mark.parametrize("kind", [Evolution, SurrogateAssistedEvolution, ParetoEvolution])
def test_a_seed_over_the_limit_is_refused_and_never_wins(kind):
    space = SearchSpace(ROWS, 8, 500)
    with pytest.raises(InputError, match=r"candidate \[8, 8, 8, 8\] costs .* limit of 500"):
        kind(space, SMALL, np.full((1, 4), 8, np.int32))
