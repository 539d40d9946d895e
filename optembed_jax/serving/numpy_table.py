"""The table of a bundle in NumPy: how ids read it, as the exported module does."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.serving.numpy_backbones import Read
from optembed_jax.serving.numpy_bags import NumpyBags
from optembed_jax.serving.numpy_rows import rows_of
from optembed_jax.table import packing, sharing


@dataclasses.dataclass(frozen=True)
class _Array:
    """How the slots of some fields read the array that the fields share.

    Attributes:
      fields: those fields, int64 ``[k]``.
      slots: theirs, one field after the other, int64 ``[s]``.
      field_of_slot: which of these fields each of these slots is of, int64 ``[s]``.
      starts: where its rows begin in the array, int64 ``[s]``.
    """

    fields: np.ndarray
    slots: np.ndarray
    field_of_slot: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, fields: Sequence[int], rows: Sequence[int], bags: NumpyBags) -> "_Array":
        """The array of some fields; ``rows`` are those of all fields."""
        own, starts = np.array(fields), sharing.starts(fields, rows).astype(np.int64)
        of_slot = np.repeat(np.arange(len(own)), bags.slots[own])
        return cls(own, bags.slots_of(own), of_slot, starts[of_slot])


class NumpyTable:
    """The arrays of a bundle's table, and what is read of them.

    What depends on the bundle alone is computed once: of one row, that would take longer than
    reading it.

    Args:
      manifest: of the bundle.
      tensors: as they are served, by name, codes ``packing.in_few_bits``.
      bags: the slots of its fields.
    """

    def __init__(
        self, manifest: Mapping[str, Any], tensors: Mapping[str, np.ndarray], bags: NumpyBags
    ) -> None:
        self._tensors, self._bags = tensors, bags
        self._linear_by_id = manifest["linear_by_id"]
        fields = manifest["fields"]
        rows = [field["rows"] for field in fields]
        self._starts = sharing.starts(range(len(rows)), rows)[bags.of_slot]
        self._remaps = {
            slot: tensors[f"remap/{field}"]
            for slot, field in enumerate(bags.of_slot.tolist())
            if f"remap/{field}" in tensors
        }
        kinds = [(field["dim"], field["storage"]) for field in fields]
        arrays = sharing.sharing(*zip(*kinds, strict=True), held=packing.in_few_bits)
        self._arrays = [_Array.of(fields, rows, bags) for fields in arrays]
        # Brought into the arrays' order at once: what an array reads is a slice then.
        nothing = np.zeros(0, np.int64)
        self._order = np.concatenate([nothing, *(array.slots for array in self._arrays)])
        self._array_starts = np.concatenate([nothing, *(a.starts for a in self._arrays)])
        dims = [dim for dim, _ in kinds]
        self._runs = [(len(list(run)), dim) for dim, run in itertools.groupby(filter(None, dims))]
        self._width, self._unit = sum(dims), math.gcd(*dims) or 1
        ends = list(itertools.accumulate(dims))
        places = np.arange(self._width // self._unit)
        # Of each array the places of its columns among those of all fields, so many at a time.
        self._units = [
            np.concatenate(
                [places[(ends[f] - dims[f]) // self._unit : ends[f] // self._unit] for f in own]
            )
            for own in arrays
        ]
        self._every = np.arange(len(rows))
        if "places" in tensors:
            # One line more, of ones: what is read where a value has no further factor.
            stored, scale = tensors["rows/0"], tensors.get("scale/0")
            if scale is not None:
                scale = _with_ones(np.broadcast_to(scale, stored.shape[:1]))
            self._stored = [(_with_ones(stored), scale)]
            if "linear" in tensors:
                self._stored.append((_with_ones(tensors["linear"]), None))
        else:
            self._rows_of = [
                rows_of(tensors[f"rows/{number}"], kinds[own[0]][1], kinds[own[0]][0])
                for number, own in enumerate(arrays)
            ]

    def read(self, ids: np.ndarray, weights: np.ndarray | None) -> Read:
        """What a batch reads: int64 ``[N, S]`` and weights as of :meth:`NumpyBags.split`."""
        if "places" in self._tensors:
            rows, linear = self._composed(ids, weights)
            flat = _side_by_side(rows)
        else:
            places = self._places(ids)
            flat = self._flat(places, ids, weights)
            linear = self._linear(ids, places, weights) if "linear" in self._tensors else None
        return Read(flat, self._runs, linear, len(self._every))

    def _flat(self, places: np.ndarray, ids: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """The rows of all fields ``[N, sum(dims)]``, of :meth:`_places`."""
        at, end = places.take(self._order, axis=1) + self._array_starts, 0
        flat = np.empty((len(ids), self._width // self._unit, self._unit), np.float32)
        for number, (array, units) in enumerate(zip(self._arrays, self._units, strict=True)):
            begin, end = end, end + len(array.slots)
            read = self._rows(number, at[:, begin:end], ids, weights)
            if len(self._arrays) == 1:
                return _side_by_side(read)
            # At once: a copy for each run of neighbours is what one row would wait for.
            flat[:, units] = read.reshape(len(ids), len(units), self._unit)
        return _side_by_side(flat)

    def _composed(
        self, ids: np.ndarray, weights: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows ``[N, F, D]`` and the linear term ``[N]``, where values read products of rows."""
        # Of what is no value, pooling takes none.
        value = np.minimum(ids, self._bags.offsets[-1] - 1)
        places, signs = self._tensors["places"], self._tensors.get("signs")

        def read(stored: np.ndarray, scale: np.ndarray | None, at: np.ndarray) -> np.ndarray:
            found = stored[at].astype(np.float32)
            return found if scale is None else found * scale[at].astype(np.float32)[..., None]

        def product(stored: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
            factors = [read(stored, scale, factor[value]) for factor in places]
            whole: np.ndarray = np.prod(factors, axis=0)
            if signs is not None:
                whole *= signs[value].reshape(*value.shape, *(1,) * (whole.ndim - value.ndim))
            if not self._bags.are_pooled:
                return whole
            return self._bags.pooled(whole, ids, weights, self._every)

        rows, *linear = itertools.starmap(product, self._stored)
        return rows, linear[0].sum(axis=1) if linear else None

    def _places(self, ids: np.ndarray) -> np.ndarray:
        """Where each id's row stands among those of its field, ``[N, F]``, of bags ``[N, S]``; in
        slots without a value 0.
        """
        bags = self._bags
        places = ids - bags.first_id
        if bags.are_pooled:
            places[~bags.is_value(ids)] = 0
        for slot, remap in self._remaps.items():
            places[:, slot] = remap[places[:, slot]]
        return places

    def _rows(
        self, number: int, at: np.ndarray, ids: np.ndarray, weights: np.ndarray | None
    ) -> np.ndarray:
        """What the fields that share an array have, of its rows ``at`` ``[N, s]`` that their slots
        read: float32 ``[N, k, d]``.
        """
        array = self._arrays[number]
        read = self._rows_of[number].take(at)
        scale = self._tensors.get(f"scale/{number}")
        if scale is not None:
            # Of each field, or of each row; one field of one row is the same either way.
            is_of_field = scale.shape == array.fields.shape
            each = scale[array.field_of_slot] if is_of_field else scale.take(at)
            read *= each.astype(np.float32)[..., None]
        if not self._bags.are_pooled:
            return read
        return self._bags.pooled(read, ids[:, array.slots], weights, array.fields)

    def _linear(
        self, ids: np.ndarray, places: np.ndarray, of_values: np.ndarray | None
    ) -> np.ndarray:
        bags = self._bags
        at = places + self._starts
        if self._linear_by_id:
            at = np.minimum(ids, bags.offsets[-1] - 1)
        weights = self._tensors["linear"][at].astype(np.float32)
        if "linear_scale" in self._tensors:
            weights *= self._tensors["linear_scale"].astype(np.float32)[bags.of_slot]
        if bags.are_pooled:
            weights = bags.pooled(weights, ids, of_values, self._every)
        total: np.ndarray = weights.sum(axis=1)
        return total


def _side_by_side(rows: np.ndarray) -> np.ndarray:
    """Rows ``[N, k, d]`` as ``[N, k * d]``; there may be none."""
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def _with_ones(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array, np.ones_like(array[:1])])
