import numpy as np
import pytest

from experiments.run.search_options import SearchOptions
from experiments.run.search_setup import searcher_of
from optembed_jax.search.loop import SearchConfig
from optembed_jax.search.space import SearchSpace

SPACE = SearchSpace(np.array([[100, 10, 40]]), 8, 600)


@pytest.mark.parametrize("strategy", ["budget", "pareto"])
def test_an_evolution_starts_from_what_was_chosen_before_beside_the_simple_rules(strategy):
    options = SearchOptions(strategy, max_table_parameters=600)
    fresh, _, _ = searcher_of(options, SearchConfig(), SPACE)
    warm, _, _ = searcher_of(options, SearchConfig(), SPACE, np.array([2, 8, 7]))
    assert warm.seeds.tolist() == [[2, 8, 7], *fresh.seeds.tolist()]
    # What a rule gives as well is there once.
    again, _, _ = searcher_of(options, SearchConfig(), SPACE, fresh.seeds[1])
    assert sorted(again.seeds.tolist()) == sorted(fresh.seeds.tolist())


def test_the_papers_search_begins_at_random_all_the_same():
    options = SearchOptions("paper")
    paper, _, _ = searcher_of(options, SearchConfig(), SPACE, np.array([2, 8, 7]))
    assert len(paper.seeds) == 0
