"""The table of a bundle in NumPy: how ids read it, as the exported module does."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from optembed_jax.serving.numpy_backbones import Read
from optembed_jax.serving.numpy_bags import NumpyBags
from optembed_jax.table import sharing


class NumpyTable:
    """The arrays of a bundle's table, and what is read of them.

    Args:
      manifest: of the bundle.
      tensors: as they are served, by name.
      bags: the slots of its fields.
    """

    def __init__(
        self, manifest: Mapping[str, Any], tensors: Mapping[str, np.ndarray], bags: NumpyBags
    ) -> None:
        self._tensors, self._bags = tensors, bags
        self._linear_by_id = manifest["linear_by_id"]
        fields = manifest["fields"]
        rows = [field["rows"] for field in fields]
        self._starts = sharing.starts(range(len(rows)), rows)
        arrays = sharing.sharing(*zip(*((f["dim"], f["storage"]) for f in fields), strict=True))
        self._arrays = [np.array(fields) for fields in arrays]
        self._array_starts = [sharing.starts(fields, rows) for fields in arrays]
        self._runs = sharing.runs(arrays)
        self._every = np.arange(len(rows))
        if "places" in tensors:
            # One line more, of ones: what is read where a value has no further factor.
            stored, scale = tensors["rows/0"], tensors.get("scale/0")
            if scale is not None:
                scale = _with_ones(np.broadcast_to(scale, stored.shape[:1]))
            self._stored = [(_with_ones(stored), scale)]
            if "linear" in tensors:
                self._stored.append((_with_ones(tensors["linear"]), None))

    def read(self, ids: np.ndarray, weights: np.ndarray | None) -> Read:
        """What a batch reads: int64 ``[N, S]`` and weights as of :meth:`NumpyBags.split`."""
        if "places" in self._tensors:
            parts, linear = self._composed(ids, weights)
        else:
            places = self._places(ids)
            arrays = [self._rows(n, places, ids, weights) for n in range(len(self._arrays))]
            parts = [arrays[array][:, begin:end] for array, begin, end in self._runs]
            linear = self._linear(ids, places, weights) if "linear" in self._tensors else None
        return Read(len(ids), parts, linear, len(self._every))

    def _composed(
        self, ids: np.ndarray, weights: np.ndarray | None
    ) -> tuple[list[np.ndarray], np.ndarray | None]:
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
        return [rows], linear[0].sum(axis=1) if linear else None

    def _places(self, ids: np.ndarray) -> np.ndarray:
        """Where each id's row stands among those of its field, ``[N, F]``, of bags ``[N, S]``; in
        slots without a value 0.
        """
        bags = self._bags
        places = ids - bags.offsets[bags.of_slot]
        if bags.are_pooled:
            places[~bags.is_value(ids)] = 0
        for slot, field in enumerate(bags.of_slot.tolist()):
            remap = self._tensors.get(f"remap/{field}")
            if remap is not None:
                places[:, slot] = remap[places[:, slot]]
        return places

    def _rows(
        self, number: int, places: np.ndarray, ids: np.ndarray, weights: np.ndarray | None
    ) -> np.ndarray:
        """What is read of the fields that share an array, float32 ``[N, k, d]``."""
        bags, fields, begins = self._bags, self._arrays[number], self._array_starts[number]
        slots, of_slot = fields, np.arange(len(fields))
        if bags.are_pooled:
            slots, of_slot = bags.slots_of(fields), np.repeat(of_slot, bags.slots[fields])
        at = places[:, slots] + begins[of_slot]
        read = self._tensors[f"rows/{number}"][at].astype(np.float32)
        scale = self._tensors.get(f"scale/{number}")
        if scale is not None:
            # Of each field, or of each row; one field of one row is the same either way.
            is_of_field = scale.shape == begins.shape
            each = scale[of_slot] if is_of_field else scale[at]
            read *= each.astype(np.float32)[..., None]
        return bags.pooled(read, ids[:, slots], weights, fields) if bags.are_pooled else read

    def _linear(
        self, ids: np.ndarray, places: np.ndarray, of_values: np.ndarray | None
    ) -> np.ndarray:
        bags = self._bags
        at = places + self._starts[bags.of_slot]
        if self._linear_by_id:
            at = np.minimum(ids, bags.offsets[-1] - 1)
        weights = self._tensors["linear"][at].astype(np.float32)
        if "linear_scale" in self._tensors:
            weights *= self._tensors["linear_scale"].astype(np.float32)[bags.of_slot]
        if bags.are_pooled:
            weights = bags.pooled(weights, ids, of_values, self._every)
        total: np.ndarray = weights.sum(axis=1)
        return total


def _with_ones(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array, np.ones_like(array[:1])])
