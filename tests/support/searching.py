"""What tests of searches share: a fitness that remembers what it was asked, and a whole search."""

import jax
import numpy as np

from optembed_jax.search.loop import SearchConfig, SearchState, evolve

SMALL = SearchConfig(6, 5, 5, 0.3, 4, search_patience=0)
ROWS = np.array([[50, 20, 5, 90]])


class Judge:
    """A fitness that prefers given genes, and remembers what it was asked."""

    def __init__(self, target):
        self.target = np.asarray(target)
        self.asked = []

    def __call__(self, dims):
        self.asked += [tuple(d) for d in dims.tolist()]
        return -np.abs(dims - self.target).sum(axis=1).astype(np.float64)


def nobody(genes):
    """Seeds of a search that has none."""
    return np.zeros((0, genes), np.int32)


def run(searcher, fitness, genes, config=SMALL, seed=0):
    """The state after each generation."""
    start = SearchState.start(genes)
    return list(evolve(jax.random.key(seed), searcher, fitness, start, config))
