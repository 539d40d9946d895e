"""What a partial evaluation, the fitness on a part of the rows, says of the fitness on all rows.

The part favours some columns by chance, and a search that took it at its word would find the best
table for the part. What the part says too much is, like the fitness, mostly a sum over fields. So
the model of the fitness is fitted to the difference as well, on those that were scored both ways,
and corrects what is known from a partial evaluation alone (a control variate; in Gaussian process
regression the scheme of Kennedy and O'Hagan, 2000, with two fidelities).
"""

import dataclasses

import numpy as np

from optembed_jax.search.score_cache import ScoreCache
from optembed_jax.search.space import SearchSpace
from optembed_jax.search.surrogate import fit_surrogate


def likely(space: SearchSpace, cache: ScoreCache) -> ScoreCache:
    """The cache with the fitness that is to be expected where there was only a partial evaluation.

    Args:
      space: of the candidates.
      cache: what was scored. Without a candidate that was scored both ways it stays as it is.
    """
    both = ~np.isnan(cache.fitness + cache.partial)
    if not both.any():
        return cache
    differences = (cache.fitness - cache.partial)[both]
    model = fit_surrogate(space, cache.dims[both], differences)
    expected = cache.partial + model.expected(cache.dims)
    fitness = np.where(np.isnan(cache.fitness), expected, cache.fitness)
    return dataclasses.replace(cache, fitness=fitness)
