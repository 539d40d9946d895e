import dataclasses
import itertools

import jax
import numpy as np
from searching import ROWS, SMALL, Judge, nobody, run

from optembed_jax.fitness.validation_fitness import ValidationFitness
from optembed_jax.search import searchers
from optembed_jax.search.loop import Patience, SearchConfig, evolve
from optembed_jax.search.score_cache import ScoreCache
from optembed_jax.search.searchers import Evolution, RandomSearch
from optembed_jax.search.space import SearchSpace
from optembed_jax.search.surrogate_assisted import SurrogateAssistedEvolution


def test_a_surrogate_assisted_evolution_keeps_to_the_budget_and_scores_nothing_twice():
    space = SearchSpace(ROWS, 8, 500)
    rules = space.rule_candidates((500,))
    judge = Judge(rules[-1])
    history = run(SurrogateAssistedEvolution(space, SMALL, rules), judge, 4)
    assert set(map(tuple, rules.tolist())) <= set(judge.asked[:10])
    assert len(judge.asked) == len(set(judge.asked)) == 70
    assert (space.parameters(np.array(judge.asked)) <= 500).all()
    assert history[-1].population.winner.tolist() == rules[-1].tolist()
    best = sorted(judge.asked, key=lambda c: (np.abs(c - judge.target).sum(), sum(c), c))[:4]
    assert [tuple(d) for d in history[-1].population.dims.tolist()] == best


class LogGains:
    """A fitness of 20 fields that grows with the log of each dimension at a rate of its own."""

    rows = np.array([[10, 400, 30, 5] * 5])
    rates = np.random.default_rng(0).exponential(size=20)

    def __call__(self, dims):
        return (np.log(dims) * self.rates).sum(axis=1)


def test_assisted_it_finds_in_few_candidates_what_a_plain_evolution_does_not_in_many():
    judge, limit = LogGains(), 2225 * 16 // 4
    space = SearchSpace(LogGains.rows, 16, limit)
    rules = space.rule_candidates((limit,))
    assisted = SearchConfig(5, 10, 10, search_patience=0)
    found = run(SurrogateAssistedEvolution(space, assisted, rules), judge, 20, assisted)[-1]
    plain = SearchConfig(30, 10, 10, search_patience=0)
    other = run(Evolution(space, plain, rules), judge, 20, plain)[-1]
    assert len(found.cache) == 120 and len(other.cache) == 620
    assert found.population.fitness[0] > other.population.fitness[0]
    # It is within 1 % of what is best, less the part of the limit that no field has a use for.
    worth = np.log(np.arange(1, 17)) * LogGains.rates[:, None]
    best = space.best(worth, np.zeros(1))
    assert found.population.fitness[0] > 0.99 * judge(best[None])[0]


def test_it_waits_longer_where_the_model_explains_nothing():
    """Two fields that are worth something only together, beside a sum of what each is worth."""
    space = SearchSpace(np.ones((1, 4), int), 8)
    candidates = space.draw(jax.random.key(0), 60)
    assisted = SurrogateAssistedEvolution(space, SMALL, nobody(4))
    together = ((candidates[:, 0] > 4) != (candidates[:, 1] > 4)).astype(float)
    sums = np.log2(candidates).sum(axis=1)
    nothing = ScoreCache.empty(4)
    assert assisted.patience(nothing.extend(candidates, sums)) == Patience(5, 5e-4)
    assert assisted.patience(nothing.extend(candidates, together)) == Patience(10, 1e-4)
    # Who fell out of successive halving says nothing, and a partial evaluation counts as what it
    # says of all rows.
    lost = np.where(np.arange(60) < 40, [sums, together], np.nan)
    assert assisted.patience(nothing.extend(candidates, lost[0])) == Patience(5, 5e-4)
    assert assisted.patience(nothing.extend(candidates, lost[0], sums - 0.1)) == Patience(5, 5e-4)
    known = nothing.extend(candidates, lost[1], together - 0.1)
    assert assisted.patience(known) == Patience(10, 1e-4)


def partially(part, judge, part_rows=20_000):
    return ValidationFitness((part, judge), (part_rows, 10**6))


class Favouring(LogGains):
    """A part of the rows that by chance favours some fields."""

    def __call__(self, dims):
        favour = np.random.default_rng(1).normal(0, 1.5, 20)
        return super().__call__(dims) - 3 + (np.log(dims) * favour).sum(axis=1)


def test_it_evaluates_everybody_partially_and_scores_a_fifth_on_all_rows():
    limit = 2225 * 16 // 4
    space, counts = SearchSpace(LogGains.rows, 16, limit), {"part": [], "all": []}
    rules = space.rule_candidates((limit,))

    def counted(name, judge):
        def score(dims):
            counts[name].append(dims)
            return judge(dims)

        return score

    fitness = partially(counted("part", Favouring()), counted("all", LogGains()))
    config = SearchConfig(6, 10, 10, search_patience=0)
    history = run(SurrogateAssistedEvolution(space, config, rules), fitness, 20, config)
    assert [len(asked) for asked in counts["part"]] == [20] * 7
    assert [len(asked) for asked in counts["all"]] == [20] + [4] * 6
    assert {tuple(rule) for rule in rules} <= {tuple(dims) for dims in counts["all"][0]}
    in_full = np.concatenate(counts["all"])
    assert len(np.unique(in_full, axis=0)) == len(in_full)
    last = history[-1]
    assert last.history[-1].evaluations == len(last.cache) == 140
    assert (space.parameters(last.cache.dims) <= limit).all()
    # Parents and winner are the best of those scored on all rows, by what all rows say.
    expected = searchers.select(in_full, LogGains()(in_full), config.top_k)
    np.testing.assert_array_equal(last.population.dims, expected.dims)
    np.testing.assert_array_equal(last.population.fitness, LogGains()(expected.dims))


def test_what_a_part_favours_does_not_mislead_it():
    """The best table by all rows is found to 1 %; the best by the part is worth far less."""
    judge, limit = LogGains(), 2225 * 16 // 4
    space = SearchSpace(LogGains.rows, 16, limit)
    rules = space.rule_candidates((limit,))
    config = SearchConfig(8, 10, 10, search_patience=0)
    search = SurrogateAssistedEvolution(space, config, rules)
    found = run(search, partially(Favouring(), judge), 20, config)[-1].population.fitness[0]
    misled = run(search, Favouring(), 20, config)[-1].population.winner
    worth = np.log(np.arange(1, 17)) * LogGains.rates[:, None]
    best = judge(space.best(worth, np.zeros(1))[None])[0]
    assert found > 0.99 * best and judge(misled[None])[0] < 0.97 * best


def test_with_few_rows_nothing_is_partially_evaluated_and_the_search_is_the_one_without_parts():
    space, judge = SearchSpace(ROWS, 8, 500), LogGainsOfFour()
    search = SurrogateAssistedEvolution(space, SMALL, space.rule_candidates((500,)))
    plain = run(search, judge, 4)
    few = run(search, partially(Judge([1] * 4), judge, part_rows=16_383), 4)
    assert np.isnan(few[-1].cache.partial).all()
    for one, other in zip(plain, few, strict=True):
        np.testing.assert_array_equal(one.population.dims, other.population.dims)
        np.testing.assert_array_equal(one.cache.dims, other.cache.dims)
        np.testing.assert_array_equal(one.cache.fitness, other.cache.fitness)
        assert one.history[-1].best == other.history[-1].best


class LogGainsOfFour:
    def __call__(self, dims):
        return (np.log(dims) * [0.3, 0.1, 0.5, 0.2]).sum(axis=1)


def test_partial_evaluation_of_one_candidate_in_a_generation_or_at_equals():
    space = SearchSpace(ROWS, 8, 500)
    one = SearchConfig(3, 1, 0, 0.3, 1, search_patience=0)
    fitness = partially(LogGainsOfFour(), LogGainsOfFour())
    last = run(SurrogateAssistedEvolution(space, one, nobody(4)), fitness, 4, one)[-1]
    assert not np.isnan(last.cache.fitness).any() and len(last.cache) == 4
    equal = partially(lambda dims: np.full(len(dims), 0.4), lambda dims: np.full(len(dims), 0.5))
    last = run(SurrogateAssistedEvolution(space, SMALL, nobody(4)), equal, 4)[-1]
    assert len(last.cache) == 70 and np.isfinite(last.cache.fitness).sum() == 10 + 6 * 2
    assert (last.population.fitness == 0.5).all()


def test_it_evaluates_parents_partially_that_another_searcher_left():
    space = SearchSpace(ROWS, 8, 500)
    fitness = partially(LogGainsOfFour(), LogGainsOfFour())
    left = run(RandomSearch(space, SMALL), fitness, 4)[1]
    config = dataclasses.replace(SMALL, generations=3)
    search = SurrogateAssistedEvolution(space, config, nobody(4))
    after = list(evolve(jax.random.key(1), search, fitness, left, config))[-1]
    assert np.isfinite(after.cache.lookup_partial(left.population.dims)).all()
    assert after.population.fitness[0] >= left.population.fitness[0]


def test_a_surrogate_assisted_evolution_ends_with_the_space():
    space = SearchSpace(np.ones((1, 2), int), 3)
    judge = Judge([2, 3])
    last = run(SurrogateAssistedEvolution(space, SMALL, nobody(2)), judge, 2)[-1]
    assert sorted(judge.asked) == list(itertools.product([1, 2, 3], repeat=2))
    assert last.population.winner.tolist() == [2, 3]
