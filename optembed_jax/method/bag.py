"""Bags: what the backbone reads of a field whose cells hold several values.

The rows of a cell's values are pooled to one vector, after they were masked and cut as any row is:

    mean:  ``sum_i E[id_i] * m[id_i] * prefix(d) / n``
    sum:   ``sum_i E[id_i] * m[id_i] * prefix(d)``

over the ``n`` values of the cell. A pruned value counts: it reads a zero vector (or a stand-in), as
in a field of one value, and the mean is linear in the masks. Divided by the kept ones alone, a cell
of one kept and one pruned value would read what the kept one reads alone. The published method has
fields of one value only.

A value that is in a cell twice is read twice. Slots that no value fills hold an id of ``V`` or
above. They add zero and are given a gradient of zero, whatever row such an id sees. The linear term
is pooled like the rows.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.fields import Fields

POOLINGS = ("mean", "sum")


@dataclasses.dataclass(frozen=True)
class Bags:
    """How slots are pooled to fields; hashable, static under jit.

    Attributes:
      slots: of each field, ``F``, each at least 1.
      features: ``V``; ids below are values.
      pooling: one of ``POOLINGS``.
    """

    slots: tuple[int, ...]
    features: int
    pooling: str = "mean"

    @property
    def num_slots(self) -> int:
        """``S``."""
        return sum(self.slots)

    @functools.cached_property
    def field_of_slot(self) -> np.ndarray:
        """The field that each slot is of, int32 ``[S]``."""
        return np.repeat(np.arange(len(self.slots), dtype=np.int32), self.slots)

    def of_fields(self, numbers: Sequence[int]) -> "Bags":
        """The bags of some fields, in their order."""
        return dataclasses.replace(self, slots=tuple(self.slots[number] for number in numbers))

    def slots_of_fields(self, numbers: Sequence[int]) -> np.ndarray:
        """Where the slots of some fields are among all, int64, field after field."""
        start = np.cumsum((0, *self.slots))
        parts = [np.arange(start[number], start[number + 1]) for number in numbers]
        return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)

    def pooled(self, values: jax.Array, ids: jax.Array) -> jax.Array:
        """What fields have, of what their slots have.

        Args:
          values: float ``[B, S, ...]``.
          ids: int32 ``[B, S]``; those of ``V`` and above are no values.

        Returns:
          float ``[B, F, ...]``; zeros of a cell without values, and of a field with one slot what
          that has.
        """
        batch, *rest = values.shape[0], *values.shape[2:]
        runs = [(len(list(run)), slots) for slots, run in itertools.groupby(self.slots)]
        # Not slices: the gradient of each would be an array as large as all slots, to be added up.
        widths = [count * slots for count, slots in runs]
        parts = []
        for own, own_ids, (count, slots) in zip(
            jax.lax.split(values, widths, axis=1),
            jax.lax.split(ids, widths, axis=1),
            runs,
            strict=True,
        ):
            if slots == 1:
                parts.append(own)
                continue
            # A product, not a choice: it is fused with the sum, and so is its gradient.
            share = self._shares((own_ids < self.features).reshape(batch, count, slots))
            share = share.reshape(*share.shape, *(1 for _ in rest)).astype(values.dtype)
            parts.append(jnp.sum(own.reshape(batch, count, slots, *rest) * share, axis=2))
        return jnp.concatenate(parts, axis=1)

    def _shares(self, is_value: jax.Array) -> jax.Array:
        """What each slot's value is multiplied by, float32, of bool ``[..., S_f]``."""
        share = is_value.astype(jnp.float32)
        if self.pooling == "sum":
            return share
        return share / jnp.maximum(jnp.sum(share, axis=-1, keepdims=True), 1.0)


def bags_of(fields: Fields, pooling: str) -> Bags | None:
    """The bags of a data set; None where every field has one value, and nothing is to be pooled."""
    if fields.num_slots == fields.num_fields:
        return None
    return Bags(fields.slots, fields.num_features, pooling)
