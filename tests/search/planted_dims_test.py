"""On data whose dimensions are known, the search finds them for the fields that matter.

The label depends on two wide fields through an interaction of rank 4 with equal strengths, and on
two narrow ones through one of rank 1; two fields carry nothing. All have equally many rows, and the
budget pays for exactly 4 + 4 + 1 + 1 + 1 + 1 columns. Tolerance: one column for each wide field,
and one more than needed for any other.
"""

import functools

import jax
import numpy as np
import pytest

from optembed_jax.fields import Fields
from optembed_jax.fitness.validation_fitness import make_fitness
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.search.loop import SearchConfig, SearchState, evolve
from optembed_jax.search.space import SearchSpace
from optembed_jax.search.surrogate_assisted import SurrogateAssistedEvolution
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase, train_step

SIZE, D, BATCH, EPOCHS = 16, 8, 500, 12
FIELDS = Fields(("wide_0", "wide_1", "narrow_0", "narrow_1", "noise_0", "noise_1"), (SIZE,) * 6)
MODEL = ModelConfig("fm", D, mode="embed")
TRAIN = TrainConfig(lr=2e-2, l2=0.0)

step = jax.jit(functools.partial(train_step, phase=Phase.SUPERNET, model=MODEL, train=TRAIN))


def interaction(rng, rank):
    """A matrix [SIZE, SIZE] of that rank with equal singular values, its entries of variance 1."""
    left, right = (np.linalg.qr(rng.normal(size=(SIZE, rank)))[0] for _ in range(2))
    return left @ right.T * SIZE / np.sqrt(rank)


def draw(seed, rows, truth):
    rng = np.random.default_rng((seed, rows))
    values = rng.integers(0, SIZE, (rows, 6))
    wide, narrow = truth
    logits = 2 * wide[values[:, 0], values[:, 1]] + narrow[values[:, 2], values[:, 3]]
    labels = (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return (values + FIELDS.offsets).astype(np.int32), labels


@pytest.mark.parametrize("seed", [0, 1])
def test_the_search_finds_planted_dimensions(seed):
    rng = np.random.default_rng(seed)
    truth = interaction(rng, 4), interaction(rng, 1)
    ids, labels = draw(seed, 20_000, truth)
    state = init_state(jax.random.key(seed), MODEL, TRAIN, FIELDS)
    for _ in range(EPOCHS):
        for rows in rng.permutation(len(ids)).reshape(-1, BATCH):
            state, _ = step(state, ids[rows], labels[rows], Selection())
    fitness = make_fitness(MODEL, state.params, state.batch_stats, None, *draw(seed, 8000, truth))
    limit = (4 + 4 + 1 + 1 + 1 + 1) * SIZE
    space = SearchSpace(np.full((1, 6), SIZE), D, limit)
    config = SearchConfig()
    searcher = SurrogateAssistedEvolution(space, config, space.rule_candidates((limit,)))
    for after in evolve(jax.random.key(seed), searcher, fitness, SearchState.start(6), config):
        winner = after.population.winner
    assert (np.abs(winner[:2] - 4) <= 1).all(), winner
    assert (winner[2:] <= 2).all(), winner
    # The planted dimensions themselves are rated no better than what was found, within noise.
    planted = fitness(np.array([[4, 4, 1, 1, 1, 1]], np.int32))[0]
    assert after.population.fitness[0] >= planted - 1e-3
