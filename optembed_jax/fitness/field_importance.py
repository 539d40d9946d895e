"""What each field is worth to the frozen supernet: the fitness that is lost without it.

A dimension of 0 takes a field's columns away: the model reads zeros for them, as for a pruned row;
its linear weights, where the model has some, count as zeros too. That is an ablation of what was
trained with the field, not of a model trained without it; beside it stands
``training.feature_worth``, where the field is there and its values are another row's.
"""

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import integer_array
from optembed_jax.fitness.validation_fitness import ValidationFitness
from optembed_jax.search.scorer import checked
from optembed_jax.search.successive_halving import Fitness


def field_importance(fitness: Fitness, dims: np.ndarray) -> np.ndarray:
    """The fitness lost without each field.

    Args:
      fitness: of candidates, such as :func:`validation_fitness.make_fitness`. Of a function of
        one's own nothing but the dimensions says what there is of a field.
      dims: int ``[F]``, from which a field at a time is taken away; 0 where its columns are away
        already.

    Returns:
      float64 ``[F]``, in units of the fitness; below 0 where the field does harm.

    Raises:
      InputError: dims that are no integers ``[F]``, or that the fitness refuses; or the fitness
        gives something else than a finite number for each candidate.
    """
    whole = integer_array(dims, "dims").astype(np.int32)
    if whole.ndim != 1:
        raise InputError(f"dims have shape {list(whole.shape)}: one of each field is wanted, [F]")
    without = np.where(np.eye(len(whole), dtype=bool), 0, whole).astype(np.int32)
    if not isinstance(fitness, ValidationFitness) or fitness.without_linear is None:
        found = checked(fitness)(np.concatenate([whole[None], without]))
        return np.asarray(found[0] - found[1:])
    left = [
        checked(fitness.without_linear(field))(one[None])[0] for field, one in enumerate(without)
    ]
    return np.asarray(checked(fitness)(whole[None])[0] - np.array(left))
