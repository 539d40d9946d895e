"""A search's state as named arrays, so that it survives a kill between any two generations."""

from collections.abc import Mapping

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.search.loop import Generation, SearchState
from optembed_jax.search.population import Population
from optembed_jax.search.score_cache import ScoreCache

_FIGURES = ("best", "mean", "merit")
_COUNTS = ("number", "scored", "evaluations")


def to_arrays(state: SearchState) -> dict[str, np.ndarray]:
    """The state, exactly."""
    history, num_genes = state.history, state.population.dims.shape[1]
    winners = [generation.winner for generation in history]
    return {
        "population": state.population.dims,
        "population_fitness": state.population.fitness,
        "cache": state.cache.dims,
        "cache_fitness": state.cache.fitness,
        "cache_partial": state.cache.partial,
        "winners": np.array(winners, np.int32).reshape(-1, num_genes),
        **{
            name: np.array([getattr(generation, name) for generation in history], np.float64)
            for name in _FIGURES
        },
        **{
            name: np.array([getattr(generation, name) for generation in history], np.int64)
            for name in _COUNTS
        },
    }


def from_arrays(arrays: Mapping[str, np.ndarray]) -> SearchState:
    """What :func:`to_arrays` was given.

    Raises:
      InputError: an array is missing, or they do not fit each other.
    """
    try:
        columns = [arrays[name].tolist() for name in (*_COUNTS, *_FIGURES)]
        history = tuple(
            Generation(
                number=number,
                best=best,
                mean=mean,
                merit=merit,
                scored=scored,
                evaluations=evaluations,
                winner=winner,
            )
            for number, scored, evaluations, best, mean, merit, winner in zip(
                *columns, arrays["winners"], strict=True
            )
        )
        # Older versions saved no partial evaluations, and made none.
        no_partial = np.full(arrays["cache_fitness"].shape, np.nan)
        partial = arrays.get("cache_partial", no_partial)
        return SearchState(
            Population(arrays["population"], arrays["population_fitness"]),
            ScoreCache(arrays["cache"], arrays["cache_fitness"], partial),
            history,
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"not the state of a search: {error}") from error
