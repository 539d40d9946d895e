"""What simple rules and searches choose: what was asked for, within its size."""

import numpy as np
import pytest

from experiments.benchmarks.arrays import Problem
from experiments.benchmarks.dimension_bench import Bench
from experiments.benchmarks.dimension_choices import BUDGET, PARETO, RANDOM, SHARES, choices
from optembed_jax.fields import Fields
from optembed_jax.search.dimension_rules import DIMENSION_RULES


@pytest.fixture
def bench():
    return Bench(Problem("d", Fields(("a", "b"), (4, 4)), {}, np.ones(8)), "fnn", 0)


def fitness(dims):
    """Best with three columns and one."""
    return -np.abs(dims - np.array([3, 1])).sum(axis=1).astype(np.float64)


def test_only_the_methods_asked_for_choose_and_keep_to_their_share(bench):
    chosen = choices(bench, fitness, lambda method, share: (method, share) == (BUDGET, 0.25))
    names = {method for method, _ in chosen}
    assert names == {"full table", *DIMENSION_RULES, BUDGET}
    np.testing.assert_array_equal(chosen["full table", 1.0][0], [16, 16])
    dims, facts = chosen[BUDGET, 0.25]
    np.testing.assert_array_equal(dims, [3, 1])
    assert facts["fitness"] == 0
    for (_, share), (dims, _) in chosen.items():
        assert bench.space().parameters(dims[None])[0] <= share * bench.full_parameters


@pytest.mark.parametrize("asked", [(PARETO,), (BUDGET, RANDOM), (BUDGET, PARETO, RANDOM), ()])
def test_what_is_chosen_at_every_share(bench, asked):
    chosen = choices(bench, fitness, lambda method, share: method in asked)
    expected = {(m, share) for m in (*DIMENSION_RULES, *asked) for share in SHARES}
    assert set(chosen) == {("full table", 1.0), *expected}
    for method in asked:
        assert chosen[method, 0.5][1]["fitness"] == 0  # 16 of the 64 numbers will do.
    if RANDOM in asked:
        for share in SHARES:
            evaluations = [chosen[m, share][1]["evaluations"] for m in (BUDGET, RANDOM)]
            assert evaluations[1] > 0 and evaluations[0] > 0
