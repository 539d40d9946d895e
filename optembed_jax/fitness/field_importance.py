"""What each field is worth to the frozen supernet: the fitness that is lost without its columns.

A dimension of 0 takes a field away: the model reads zeros for it, as for a pruned row. That is an
ablation of what was trained with the field, not of a model trained without it; beside it stands
``training.feature_worth``, where the field is there and its values are another row's.
"""

import numpy as np

from optembed_jax.search.scorer import checked
from optembed_jax.search.successive_halving import Fitness


def field_importance(fitness: Fitness, dims: np.ndarray) -> np.ndarray:
    """The fitness lost without each field.

    Args:
      fitness: of candidates, such as :func:`validation_fitness.make_fitness`.
      dims: int ``[F]``, from which a field at a time is taken away; 0 where one is away already.

    Returns:
      float64 ``[F]``, in units of the fitness; below 0 where the field does harm.

    Raises:
      InputError: the fitness gives something else than a finite number for each candidate.
    """
    whole = np.asarray(dims, np.int32)
    without = np.where(np.eye(len(whole), dtype=bool), 0, whole).astype(np.int32)
    found = checked(fitness)(np.concatenate([whole[None], without]))
    return np.asarray(found[0] - found[1:])
