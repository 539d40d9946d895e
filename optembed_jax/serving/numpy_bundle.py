"""A bundle served with NumPy alone: no JAX, no compiler, the same scores.

    from optembed_jax.serving.numpy_bundle import NumpyBundle
    probabilities = NumpyBundle.load("bundle").predict({"user": ["u1"], "age": [17]})  # or ids

It needs ``numpy`` and ``safetensors``, and imports no more. The formulas are those of
``optembed_jax.models``, written again; what they read was checked by ``bundle_format``.
"""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import id_array
from optembed_jax.serving import bundle_content, bundle_samples, request
from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving.bundle_format import BundleError
from optembed_jax.serving.numpy_backbones import Read, backbone_of
from optembed_jax.table import sharing
from optembed_jax.values.columns import as_columns
from optembed_jax.values.description import read_description
from optembed_jax.values.rows import RowEncoder
from optembed_jax.values.unseen import Expected, Watch, unseen_rows
from optembed_jax.values.vocabulary_file import read_values


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


class NumpyBundle:
    """A loaded bundle; make one with :meth:`load`.

    Attributes:
      path: its folder.
      manifest: what it is.
    """

    def __init__(
        self,
        path: pathlib.Path,
        manifest: Mapping[str, Any],
        tensors: Mapping[str, np.ndarray],
        encoder: RowEncoder | InputError | None = None,
        expected: Expected | None = None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self._tensors = tensors
        self._fields = manifest["fields"]
        ids, rows = ([field[count] for field in self._fields] for count in ("ids", "rows"))
        self._offsets = np.array([0, *itertools.accumulate(ids)], np.int64)
        self._slots = np.array([field.get("slots", 1) for field in self._fields], np.int64)
        self._of_slot = np.repeat(np.arange(len(self._fields)), self._slots)
        self._first_slot = np.cumsum(self._slots) - self._slots
        self._weighted = np.array([field.get("weighted", False) for field in self._fields], bool)
        self._weighted_slots = np.flatnonzero(self._weighted[self._of_slot])
        self._has_bags = len(self._of_slot) > len(self._fields) or bool(self._weighted.any())
        self._is_mean = manifest["model"].get("pooling", "mean") == "mean"
        self._first, self._end = (self._offsets[self._of_slot + n] for n in range(2))
        self._is_cell = (self._slots > 1)[self._of_slot]
        self._remaps = {
            slot: tensors[f"remap/{field}"]
            for slot, field in enumerate(self._of_slot.tolist())
            if f"remap/{field}" in tensors
        }
        self._starts = sharing.starts(range(len(rows)), rows)[self._of_slot]
        arrays = sharing.sharing(
            *zip(*((f["dim"], f["storage"]) for f in self._fields), strict=True)
        )
        self._arrays = [self._array(fields, rows) for fields in arrays]
        # Brought into the arrays' order at once: what an array reads is a slice then.
        nothing = np.zeros(0, np.int64)
        self._order = np.concatenate([nothing, *(array.slots for array in self._arrays)])
        self._array_starts = np.concatenate([nothing, *(a.starts for a in self._arrays)])
        self._runs = sharing.runs(arrays)
        if "places" in tensors:
            # One line more, of ones: what is read where a value has no further factor.
            stored, scale = tensors["rows/0"], tensors.get("scale/0")
            if scale is not None:
                scale = _with_ones(np.broadcast_to(scale, stored.shape[:1]))
            self._stored = [(_with_ones(stored), scale)]
            if "linear" in tensors:
                self._stored.append((_with_ones(tensors["linear"]), None))
        self._backbone = backbone_of(manifest["model"], tensors)
        self._encoder = encoder
        self._watch = None if expected is None else Watch(expected)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "NumpyBundle":
        """Read a bundle after checking checksums, versions, shapes, and scores of its samples.

        Raises:
          BundleError: anything in it is missing, changed, too new, or not as described.
        """
        folder = pathlib.Path(path).expanduser()
        content = bundle_content.read_content(folder)
        tensors = content.served(lambda bits: (bits.astype(np.uint32) << 16).view(np.float32))
        encoder = _read_encoder(folder, content.files, content.manifest)
        try:
            bundle = cls(folder, content.manifest, tensors, *encoder)
        except (InputError, KeyError, TypeError) as error:
            raise BundleError(f"{folder} cannot be served by NumPy: {error}") from error
        bundle_samples.check_samples(folder, content.manifest, bundle.logits)
        return bundle

    def encode(
        self, rows: Mapping[str, Sequence[Any]], first_row: int = 0, *, stacklevel: int = 2
    ) -> np.ndarray:
        """Ids int32 ``[N, F]`` of raw columns; see :meth:`values.rows.RowEncoder.encode`.

        Warns (:class:`values.unseen.UnseenValues`), once for each field, when far more of the
        values that this bundle has been given have no row than in the training data.

        Args:
          rows: values by column, ``N`` each.
          first_row: number of the first row, for messages.
          stacklevel: of the warning, as for ``warnings.warn``.

        Raises:
          BundleError: the bundle was made without a vocabulary.
          InputError: a column is missing, lengths differ, or a value cannot be used.
        """
        if self._encoder is None or self._watch is None:
            raise BundleError(f"{self.path} has no vocabulary: it takes ids, not raw columns")
        if isinstance(self._encoder, InputError):
            raise self._encoder
        columns = as_columns(rows)
        if columns is None:
            raise InputError(f"rows are {type(rows).__name__}; raw columns by name are needed")
        ids = self._encoder.encode(columns, first_row)
        unseen = unseen_rows(ids, self._offsets[:-1], self._slots)
        self._watch.add(unseen, len(ids), stacklevel)
        return ids

    def predict(
        self, rows: np.ndarray | Mapping[str, Sequence[Any]], *, batch_size: int = 512
    ) -> np.ndarray:
        """Click probabilities float32 ``[N]``.

        Args:
          rows: ids, integers ``[N, F]``, of fields with several values ``[N, S]`` with ``V`` in
            slots without a value; or raw columns by name: a mapping, a ``pyarrow.Table`` or a data
            frame.
          batch_size: rows at a time.

        Raises:
          InputError: another shape or type, an id outside its field's block, or raw columns that
            cannot be used.
        """
        return request.probabilities(self._logits(rows, batch_size, stacklevel=4))

    def logits(
        self, rows: np.ndarray | Mapping[str, Sequence[Any]], *, batch_size: int = 512
    ) -> np.ndarray:
        """Logits float32 ``[N]``; arguments as of :meth:`predict`."""
        return self._logits(rows, batch_size, stacklevel=4)

    def _logits(self, rows: Any, batch_size: int, stacklevel: int) -> np.ndarray:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        columns = as_columns(rows)
        width = len(self._of_slot) + len(self._weighted_slots)
        ids = id_array(
            rows if columns is None else self.encode(columns, stacklevel=stacklevel), width
        )
        ids, whole = ids[:, : len(self._of_slot)], ids
        wrong = (ids < self._first) | (ids >= self._end)
        # A field of one value has one.
        wrong &= (ids != self._offsets[-1]) | ~self._is_cell
        if wrong.any():
            row, slot = np.argwhere(wrong)[0]
            raise InputError(
                f"row {row}: id {ids[row, slot]} is not one of field "
                f"{self._fields[self._of_slot[slot]]['name']!r}"
            )
        weights = None
        if self._weighted.any():
            names = [field["name"] for field in self._fields]
            request.check_weights(
                whole, ids != self._offsets[-1], self._weighted_slots, names, self._of_slot
            )
            weights = np.ones(ids.shape, np.float32)
            bits = whole[:, len(self._of_slot) :].astype(np.int32)
            weights[:, self._weighted_slots] = bits.view(np.float32)
        parts = [
            self._batch(
                ids[start : start + batch_size].astype(np.int64),
                None if weights is None else weights[start : start + batch_size],
            )
            for start in range(0, len(ids), batch_size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0,), np.float32)

    def _batch(self, ids: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        if "places" in self._tensors:
            parts, linear = self._composed(ids, weights)
        else:
            places = self._places(ids)
            at, end, read = places.take(self._order, axis=1) + self._array_starts, 0, []
            for number, array in enumerate(self._arrays):
                begin, end = end, end + len(array.slots)
                read.append(self._read(number, array, at[:, begin:end], ids, weights))
            parts = [read[array][:, begin:end] for array, begin, end in self._runs]
            linear = self._linear(ids, places, weights) if "linear" in self._tensors else None
        # OpenBLAS 0.3.31 (NumPy 2.4.6) warns of NaN at random on CPUs with AVX-512: products of 5
        # columns read leftovers on the stack, which they do not use. What is loaded is finite.
        with np.errstate(invalid="ignore"):
            return self._backbone(Read(len(ids), parts, linear, len(self._fields)))

    def _composed(
        self, ids: np.ndarray, weights: np.ndarray | None
    ) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Rows ``[N, F, D]`` and the linear term ``[N]``, where values read products of rows."""
        value = np.minimum(ids, self._offsets[-1] - 1)  # Of what is no value, pooling takes none.
        places, signs = self._tensors["places"], self._tensors.get("signs")
        every = np.arange(len(self._fields))

        def read(stored: np.ndarray, scale: np.ndarray | None, at: np.ndarray) -> np.ndarray:
            found = stored[at].astype(np.float32)
            return found if scale is None else found * scale[at].astype(np.float32)[..., None]

        def product(stored: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
            factors = [read(stored, scale, factor[value]) for factor in places]
            whole: np.ndarray = np.prod(factors, axis=0)
            if signs is not None:
                whole *= signs[value].reshape(*value.shape, *(1,) * (whole.ndim - value.ndim))
            return self._pooled(whole, ids, weights, every) if self._has_bags else whole

        rows, *linear = itertools.starmap(product, self._stored)
        return [rows], linear[0].sum(axis=1) if linear else None

    def _slots_of(self, fields: np.ndarray) -> np.ndarray:
        """The slots of some fields, one field after the other."""
        spans = [np.arange(self._slots[f]) + self._first_slot[f] for f in fields.tolist()]
        return np.concatenate(spans)

    def _pooled(
        self, seen: np.ndarray, ids: np.ndarray, weights: np.ndarray | None, fields: np.ndarray
    ) -> np.ndarray:
        """What fields have ``[N, k, ...]``, of what their slots have, ``[N, sum(S_f), ...]``."""
        inner = np.cumsum(self._slots[fields])[:-1]
        found = []
        for number, own, own_ids in zip(
            fields.tolist(),
            np.split(seen, inner, axis=1),
            np.split(ids, inner, axis=1),
            strict=True,
        ):
            if weights is not None and self._weighted[number]:
                slots = slice(self._first_slot[number], self._first_slot[number] + own.shape[1])
                found.append(self._weighted_pool(own, own_ids, weights[:, slots]))
                continue
            if own.shape[1] == 1:
                found.append(own[:, 0])
                continue
            is_value = own_ids < self._offsets[-1]
            one_each = (1,) * (own.ndim - 2)
            total = np.where(is_value.reshape(*is_value.shape, *one_each), own, 0).sum(axis=1)
            if self._is_mean:
                count = np.maximum(is_value.sum(axis=1), 1).astype(np.float32)
                total = total / count.reshape(-1, *one_each)
            found.append(total)
        return np.stack(found, axis=1).astype(np.float32)

    def _weighted_pool(self, own: np.ndarray, ids: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """What a field has ``[N, ...]``, of what its slots have, whose values have weights."""
        share = np.where(ids < self._offsets[-1], weights, np.float32(0))
        if self._is_mean:
            total = share.sum(axis=1, keepdims=True)
            share = share / np.where(total > 0, total, np.float32(1))
        pooled: np.ndarray = (own * share.reshape(*share.shape, *(1,) * (own.ndim - 2))).sum(axis=1)
        return pooled

    def _places(self, ids: np.ndarray) -> np.ndarray:
        """Where each id's row stands among those of its field, ``[N, F]``, of bags ``[N, S]``; in
        slots without a value 0.
        """
        places = ids - self._first
        if self._has_bags:
            places[ids == self._offsets[-1]] = 0
        for slot, remap in self._remaps.items():
            places[:, slot] = remap[places[:, slot]]
        return places

    def _array(self, fields: Sequence[int], rows: Sequence[int]) -> _Array:
        """How the slots of fields that share an array read it; ``rows`` are those of all fields."""
        own, starts = np.array(fields), sharing.starts(fields, rows).astype(np.int64)
        of_slot = np.repeat(np.arange(len(own)), self._slots[own])
        return _Array(own, self._slots_of(own), of_slot, starts[of_slot])

    def _read(
        self,
        number: int,
        array: _Array,
        at: np.ndarray,
        ids: np.ndarray,
        weights: np.ndarray | None,
    ) -> np.ndarray:
        """What is read at rows ``[N, s]`` of an array by its slots, float32 ``[N, k, d]``."""
        stored = self._tensors[f"rows/{number}"].take(at, axis=0)
        read = stored.astype(np.float32, copy=False)
        scale = self._tensors.get(f"scale/{number}")
        if scale is not None:
            # Of each field, or of each row; one field of one row is the same either way.
            is_of_field = scale.shape == array.fields.shape
            each = scale[array.field_of_slot] if is_of_field else scale.take(at)
            read *= each.astype(np.float32)[..., None]
        if not self._has_bags:
            return read
        return self._pooled(read, ids[:, array.slots], weights, array.fields)

    def _linear(
        self, ids: np.ndarray, places: np.ndarray, of_values: np.ndarray | None
    ) -> np.ndarray:
        at = places + self._starts
        if self.manifest["linear_by_id"]:
            at = np.minimum(ids, self._offsets[-1] - 1)
        weights = self._tensors["linear"][at].astype(np.float32)
        if "linear_scale" in self._tensors:
            weights *= self._tensors["linear_scale"].astype(np.float32)[self._of_slot]
        if self._has_bags:
            weights = self._pooled(weights, ids, of_values, np.arange(len(self._fields)))
        total: np.ndarray = weights.sum(axis=1)
        return total


def _with_ones(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array, np.ones_like(array[:1])])


def _read_encoder(
    path: pathlib.Path, files: Mapping[str, bytes], manifest: Mapping[str, Any]
) -> tuple[RowEncoder | InputError | None, Expected | None]:
    """What raw columns are encoded by, or why they cannot be; and what is expected of them.

    Raises:
      BundleError: the vocabulary or the description cannot be used.
    """
    if layout.VOCABULARY not in files:
        return None, None
    names, sizes = zip(*((f["name"], f["ids"]) for f in manifest["fields"]), strict=True)
    try:
        described = read_description(files[layout.ENCODER], names)
        lookup = read_values(files[layout.VOCABULARY], sizes, described.rules, described.bins)
    except InputError as error:
        raise BundleError(
            f"{path / layout.ENCODER} and {layout.VOCABULARY} cannot be used: {error}"
        ) from error
    slots = tuple(field.get("slots", 1) for field in manifest["fields"])
    if described.slots != slots:
        raise BundleError(
            f"{path / layout.ENCODER} is of other fields: cells of {described.slots} values, not "
            f"{slots}"
        )
    weighted = tuple(field.get("weighted", False) for field in manifest["fields"])
    if described.weighted != weighted:
        raise BundleError(f"{path / layout.ENCODER}: values of other fields have weights")
    try:
        return RowEncoder(described.row_fields(), lookup), described.expected
    except InputError as error:
        return error, described.expected
