"""Fitness of candidates that choose their row mask too."""

from collections.abc import Sequence

import numpy as np

from optembed_jax.fitness.validation_fitness import ValidationFitness
from optembed_jax.search.space import SearchSpace
from optembed_jax.search.successive_halving import Fitness


def over_masks(space: SearchSpace, by_mask: Sequence[ValidationFitness]) -> ValidationFitness:
    """A fitness that asks each candidate's mask about its dimensions.

    Args:
      space: of the candidates, with ``M`` masks.
      by_mask: the ``M`` fitness functions, with parts of the same sizes.
    """

    def on(parts: tuple[Fitness, ...]) -> Fitness:
        def fitness(candidates: np.ndarray) -> np.ndarray:
            found = np.full(len(candidates), np.nan)
            mask, dims = space.mask(candidates), space.dims(candidates)
            for number in np.unique(mask):
                of_mask = mask == number
                found[of_mask] = parts[number](dims[of_mask])
            return found

        return fitness

    return ValidationFitness(
        tuple(on(parts) for parts in zip(*(f.parts for f in by_mask), strict=True)),
        by_mask[0].part_rows,
    )
