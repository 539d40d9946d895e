"""Cells of several values in NumPy: which ids a row has, and how those of a field are pooled.

What ``method.bag`` is to the model; a field of one value has one slot, and nothing to pool.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import id_array
from optembed_jax.serving import request


@dataclasses.dataclass(frozen=True, eq=False)
class NumpyBags:
    """The ``S`` slots of the ``F`` fields, of which ``W`` hold values with weights.

    Attributes:
      names: of the fields.
      offsets: int64 ``[F + 1]``, the first id of each field, and ``V``: the id of no value.
      slots: int64 ``[F]``, slots of each field.
      weighted: bool ``[F]``, whether its values have weights.
      is_mean: whether values are pooled to their mean; else to their sum.
    """

    names: tuple[str, ...]
    offsets: np.ndarray
    slots: np.ndarray
    weighted: np.ndarray
    is_mean: bool

    @functools.cached_property
    def of_slot(self) -> np.ndarray:
        """The field of each slot, int64 ``[S]``."""
        return np.repeat(np.arange(len(self.slots)), self.slots)

    @functools.cached_property
    def weighted_slots(self) -> np.ndarray:
        """The slots of values with weights, int64 ``[W]``."""
        return np.flatnonzero(self.weighted[self.of_slot])

    @functools.cached_property
    def are_pooled(self) -> bool:
        """Whether some field is read otherwise than by its only id."""
        return len(self.of_slot) > len(self.slots) or bool(self.weighted.any())

    @functools.cached_property
    def _first_slot(self) -> np.ndarray:
        return np.cumsum(self.slots) - self.slots

    def is_value(self, ids: np.ndarray) -> np.ndarray:
        """Whether an id is that of a value."""
        return ids < self.offsets[-1]

    def split(self, rows: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Ids and what stands behind them, once they were found to be such.

        Args:
          rows: ids, integers ``[N, S + W]``, the last ones weights by their bits.

        Returns:
          Ids ``[N, S]``, and float32 weights ``[N, S]``; None where no value has one.

        Raises:
          InputError: another shape or type, an id outside its field's block, or no weight.
        """
        count = len(self.of_slot)
        whole = id_array(rows, count + len(self.weighted_slots))
        ids = whole[:, :count]
        wrong = (ids < self.offsets[self.of_slot]) | (ids >= self.offsets[self.of_slot + 1])
        # A field of one value has one.
        wrong &= (ids != self.offsets[-1]) | (self.slots == 1)[self.of_slot]
        if wrong.any():
            row, slot = np.argwhere(wrong)[0]
            raise InputError(
                f"row {row}: id {ids[row, slot]} is not one of field "
                f"{self.names[self.of_slot[slot]]!r}"
            )
        if not self.weighted.any():
            return ids, None
        request.check_weights(
            whole, ids != self.offsets[-1], self.weighted_slots, self.names, self.of_slot
        )
        weights = np.ones(ids.shape, np.float32)
        bits = whole[:, count:].astype(np.int32)
        weights[:, self.weighted_slots] = bits.view(np.float32)
        return ids, weights

    def slots_of(self, fields: np.ndarray) -> np.ndarray:
        """The slots of some fields, one field after the other."""
        spans = [np.arange(self.slots[f]) + self._first_slot[f] for f in fields.tolist()]
        return np.concatenate(spans)

    def pooled(
        self, seen: np.ndarray, ids: np.ndarray, weights: np.ndarray | None, fields: np.ndarray
    ) -> np.ndarray:
        """What fields have, of what their slots have.

        Args:
          seen: ``[N, sum(S_f), ...]``, of the slots of ``fields``, one field after the other.
          ids: ``[N, sum(S_f)]``, theirs.
          weights: ``[N, S]`` as :meth:`split` gives them.
          fields: which, ``[k]``.

        Returns:
          Float32 ``[N, k, ...]``.
        """
        inner = np.cumsum(self.slots[fields])[:-1]
        found = []
        for number, own, own_ids in zip(
            fields.tolist(),
            np.split(seen, inner, axis=1),
            np.split(ids, inner, axis=1),
            strict=True,
        ):
            if weights is not None and self.weighted[number]:
                slots = slice(self._first_slot[number], self._first_slot[number] + own.shape[1])
                found.append(self._by_weight(own, own_ids, weights[:, slots]))
                continue
            if own.shape[1] == 1:
                found.append(own[:, 0])
                continue
            is_value = self.is_value(own_ids)
            one_each = (1,) * (own.ndim - 2)
            total = np.where(is_value.reshape(*is_value.shape, *one_each), own, 0).sum(axis=1)
            if self.is_mean:
                count = np.maximum(is_value.sum(axis=1), 1).astype(np.float32)
                total = total / count.reshape(-1, *one_each)
            found.append(total)
        return np.stack(found, axis=1).astype(np.float32)

    def _by_weight(self, own: np.ndarray, ids: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """What a field has ``[N, ...]``, of what its slots have, whose values have weights."""
        share = np.where(self.is_value(ids), weights, np.float32(0))
        if self.is_mean:
            total = share.sum(axis=1, keepdims=True)
            share = share / np.where(total > 0, total, np.float32(1))
        pooled: np.ndarray = (own * share.reshape(*share.shape, *(1,) * (own.ndim - 2))).sum(axis=1)
        return pooled


def bags_of(manifest: Mapping[str, Any]) -> NumpyBags:
    """The slots of a bundle's fields, by its manifest."""
    fields = manifest["fields"]
    return NumpyBags(
        names=tuple(field["name"] for field in fields),
        offsets=np.cumsum([0, *(field["ids"] for field in fields)], dtype=np.int64),
        slots=np.array([field.get("slots", 1) for field in fields], np.int64),
        weighted=np.array([field.get("weighted", False) for field in fields], bool),
        is_mean=manifest["model"].get("pooling", "mean") == "mean",
    )
