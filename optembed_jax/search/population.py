"""The population of a search: scored candidates, best first, and what is refused as one."""

import dataclasses

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.search.score_cache import ScoreCache


@dataclasses.dataclass(frozen=True)
class Population:
    """Scored candidates, best first.

    Attributes:
      dims: int32 ``[K, G]``: dimensions, ``G = F``, or any other genes (``space``).
      fitness: float64 ``[K]``, on all rows.
    """

    dims: np.ndarray
    fitness: np.ndarray

    @classmethod
    def empty(cls, num_genes: int) -> "Population":
        """Nobody yet, with ``G`` genes."""
        return cls(np.zeros((0, num_genes), np.int32), np.zeros((0,), np.float64))

    def __len__(self) -> int:
        return len(self.dims)

    @property
    def winner(self) -> np.ndarray:
        """The genes int32 ``[G]`` of the best candidate."""
        return self.dims[0]


def check_population(population: Population, cache: ScoreCache, *, is_ordered: bool) -> None:
    """Refuse what a searcher returns if it is no population: the first of it would be the winner.

    Args:
      population: as returned.
      cache: everything scored so far.
      is_ordered: whether the fitness has to fall; a front has another order.

    Raises:
      InputError: nobody in it, other shapes or types than a population has, a fitness that is not
        the one that was scored on all rows, or the best not first.
    """
    if not isinstance(population, Population):
        raise InputError(f"the searcher returns {type(population).__name__}, not a Population")
    dims, fitness = np.asarray(population.dims), np.asarray(population.fitness)
    genes = cache.dims.shape[1]
    if dims.ndim != 2 or dims.shape[1] != genes or fitness.shape != dims.shape[:1]:
        raise InputError(
            f"the searcher returns dims {list(dims.shape)} and fitness {list(fitness.shape)}, not "
            f"[K, {genes}] and [K]"
        )
    if dims.dtype.kind not in "iu":
        raise InputError(f"the searcher returns dims of {dims.dtype}, not integers")
    if not len(dims):
        raise InputError("the searcher returns nobody: a population has one candidate at least")
    scored = cache.lookup(dims)
    if not (same := scored == fitness).all():
        first = int(np.argmin(same))
        said = "was never scored on all rows" if np.isnan(scored[first]) else f"has {scored[first]}"
        raise InputError(
            f"the searcher returns {dims[first].tolist()} with a fitness of {fitness[first]}, "
            f"and it {said}"
        )
    if is_ordered and (np.diff(fitness) > 0).any():
        raise InputError(
            f"the searcher returns {dims[0].tolist()} first, with {fitness[0]}, and "
            f"{fitness.max()} is the best: the best comes first"
        )
