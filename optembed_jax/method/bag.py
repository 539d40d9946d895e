"""Bags: what the backbone reads of a field whose cells hold several values.

The rows of a cell's values are pooled to one vector, after they were masked and cut as any row is:

    mean:  ``sum_i E[id_i] * m[id_i] * prefix(d) / n``
    sum:   ``sum_i E[id_i] * m[id_i] * prefix(d)``

over the ``n`` values of the cell. Where values have weights ``w_i`` (at least 0), these are

    mean:  ``sum_i w_i E[id_i] * m[id_i] * prefix(d) / sum_i w_i``
    sum:   ``sum_i w_i E[id_i] * m[id_i] * prefix(d)``

and a cell whose weights are all 0 reads zeros. Weights of 1 are none.

A pruned value counts: it reads a zero vector (or a stand-in), as in a field of one value, and the
mean is linear in the masks. Divided by the kept ones alone, a cell of one kept and one pruned value
would read what the kept one reads alone. The published method has fields of one value only.

The weights are no parameters. The array of ids carries them (``fields``), and what a row is given
of a gradient is scaled by its value's share. TensorFlow's and Keras' "mean" of weighted values is
the one above; FBGEMM's kernels, which TorchRec calls, have none: on the CPU they divide by the
number of values, or where numbers are no float32 not at all.

A value that is in a cell twice is read twice. Slots that no value fills hold an id of ``V`` or
above. They add zero and are given a gradient of zero, whatever row such an id sees. The linear term
is pooled like the rows.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.fields import Fields

POOLINGS = ("mean", "sum")

ArrayT = TypeVar("ArrayT", jax.Array, np.ndarray)


@dataclasses.dataclass(frozen=True)
class Bags:
    """How slots are pooled to fields; hashable, static under jit.

    Attributes:
      slots: of each field, ``F``, each at least 1.
      features: ``V``; ids below are values.
      pooling: one of ``POOLINGS``.
      weighted: whether the values of each field have weights, ``F``; empty: of none.
    """

    slots: tuple[int, ...]
    features: int
    pooling: str = "mean"
    weighted: tuple[bool, ...] = ()

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
        own = tuple(self.slots[number] for number in numbers)
        weighted = tuple(self._is_weighted[number] for number in numbers)
        return dataclasses.replace(self, slots=own, weighted=weighted if any(weighted) else ())

    @property
    def _is_weighted(self) -> tuple[bool, ...]:
        return self.weighted or (False,) * len(self.slots)

    def ids(self, columns: ArrayT) -> ArrayT:
        """The ids ``[B, S]`` of what an example has, ``[B, S + W]``."""
        found: ArrayT = columns[:, : self.num_slots] if self.weighted else columns
        return found

    def columns_of_fields(self, numbers: Sequence[int]) -> np.ndarray:
        """What some fields have of an example's ``S + W`` numbers: where ids are, then weights."""
        slots = self.slots_of_fields(numbers)
        if not self.weighted:
            return slots
        is_weighted = np.repeat(np.array(self.weighted, bool), self.slots)
        place = self.num_slots + np.cumsum(is_weighted) - 1
        return np.concatenate([slots, place[slots[is_weighted[slots]]]])

    def slots_of_fields(self, numbers: Sequence[int]) -> np.ndarray:
        """Where the slots of some fields are among all, int64, field after field."""
        start = np.cumsum((0, *self.slots))
        parts = [np.arange(start[number], start[number + 1]) for number in numbers]
        return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)

    def pooled(self, values: jax.Array, ids: jax.Array) -> jax.Array:
        """What fields have, of what their slots have.

        Args:
          values: float ``[B, S, ...]``.
          ids: int32 ``[B, S]``; those of ``V`` and above are no values. Where values have weights
            ``[B, S + W]``.

        Returns:
          float ``[B, F, ...]``; zeros of a cell without values, and of a field with one slot what
          that has.
        """
        batch, *rest = values.shape[0], *values.shape[2:]
        kinds = zip(self.slots, self._is_weighted, strict=True)
        runs = [(len(list(run)), *kind) for kind, run in itertools.groupby(kinds)]
        # Not slices: the gradient of each would be an array as large as all slots, to be added up.
        widths = [count * slots for count, slots, _ in runs]
        weight_widths = [count * slots for count, slots, is_weighted in runs if is_weighted]
        weights: Iterator[jax.Array] = iter(())
        if self.weighted:
            bits = ids[:, self.num_slots :]
            as_numbers = jax.lax.bitcast_convert_type(bits, jnp.float32)
            weights = iter(jax.lax.split(as_numbers, weight_widths, axis=1))
        parts = []
        for own, own_ids, (count, slots, is_weighted) in zip(
            jax.lax.split(values, widths, axis=1),
            jax.lax.split(self.ids(ids), widths, axis=1),
            runs,
            strict=True,
        ):
            if slots == 1 and not is_weighted:
                parts.append(own)
                continue
            # A product, not a choice: it is fused with the sum, and so is its gradient.
            is_value = (own_ids < self.features).reshape(batch, count, slots)
            weight = next(weights).reshape(batch, count, slots) if is_weighted else None
            share = self._shares(is_value, weight)
            share = share.reshape(*share.shape, *(1 for _ in rest)).astype(values.dtype)
            parts.append(jnp.sum(own.reshape(batch, count, slots, *rest) * share, axis=2))
        return jnp.concatenate(parts, axis=1)

    def _shares(self, is_value: jax.Array, weights: jax.Array | None) -> jax.Array:
        """What each slot's value is multiplied by, float32, of bool ``[..., S_f]`` and weights."""
        if weights is None:
            share = is_value.astype(jnp.float32)
            if self.pooling == "sum":
                return share
            return share / jnp.maximum(jnp.sum(share, axis=-1, keepdims=True), 1.0)
        # What stands in a slot without a value may be any bits.
        share = jnp.where(is_value, weights, 0.0)
        if self.pooling == "sum":
            return share
        total = jnp.sum(share, axis=-1, keepdims=True)
        return share / jnp.where(total > 0.0, total, 1.0)


def bags_of(fields: Fields, pooling: str) -> Bags | None:
    """The bags of a data set; None where every field has one value, and nothing is to be pooled."""
    weighted = fields.weighted if any(fields.weighted) else ()
    if fields.num_slots == fields.num_fields and not weighted:
        return None
    return Bags(fields.slots, fields.num_features, pooling, weighted)
