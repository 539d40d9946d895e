"""What both loaders do with a request: weights behind ids checked, logits to probabilities."""

from collections.abc import Sequence

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.values.cells import MOST_WEIGHT


def check_weights(
    ids: np.ndarray,
    is_value: np.ndarray,
    slots: np.ndarray,
    names: Sequence[str],
    field_of_slot: np.ndarray,
) -> None:
    """Compares the weights that stand behind ids with what a weight may be.

    Args:
      ids: int ``[N, S + W]``.
      is_value: bool ``[N, S]``.
      slots: those with weights, ``[W]``.
      names: of the fields.
      field_of_slot: int ``[S]``.

    Raises:
      InputError: naming row and field.
    """
    bits = ids[:, is_value.shape[1] :].astype(np.int32)
    weights = bits.view(np.float32)
    usable = (weights == 0) | ((weights > 0) & (weights <= np.float32(MOST_WEIGHT)))
    bad = is_value[:, slots] & ~usable
    if bad.any():
        row, place = np.argwhere(bad)[0]
        raise InputError(
            f"row {row}: a value of field {names[field_of_slot[slots[place]]]!r} has the weight "
            f"{weights[row, place]}; float32 weights of 0 or more, at most 1e12, stand behind the "
            "ids as the bits of int32 (ids, weights.view(np.int32))"
        )


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Click probabilities float32 ``[N]`` of logits: the sigmoid, which overflows nowhere."""
    wide = logits.astype(np.float64)
    return (0.5 * (1.0 + np.tanh(0.5 * wide))).astype(np.float32)
