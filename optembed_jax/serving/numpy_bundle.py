"""A bundle served with NumPy alone: no JAX, no compiler, the same scores.

    from optembed_jax.serving.numpy_bundle import NumpyBundle
    probabilities = NumpyBundle.load("bundle").predict({"user": ["u1"], "age": [17]})  # or ids

It needs ``numpy`` and ``safetensors``, and imports no more. The formulas are those of
``optembed_jax.models``, written again; what they read was checked by ``bundle_format``.
"""

import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.serving import bundle_content
from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving.bundle_format import BundleError
from optembed_jax.values.description import read_description
from optembed_jax.values.rows import RowEncoder, as_columns
from optembed_jax.values.spelling import check_spellings
from optembed_jax.values.unseen import Expected, Watch, unseen_rows
from optembed_jax.values.vocabulary_file import read_values


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
        self._starts = np.array([0, *itertools.accumulate(rows)][:-1], np.int64)
        self._slots = np.array([field.get("slots", 1) for field in self._fields], np.int64)
        self._of_slot = np.repeat(np.arange(len(self._fields)), self._slots)
        self._is_mean = manifest["model"].get("pooling", "mean") == "mean"
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
        tensors = content.served()
        for name, dtype in content.types.items():
            if dtype == "BF16":
                tensors[name] = (tensors[name].astype(np.uint32) << 16).view(np.float32)
        encoder = _read_encoder(folder, content.files, content.manifest)
        bundle = cls(folder, content.manifest, tensors, *encoder)
        bundle_content.check_samples(folder, content.manifest, bundle.logits)
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
        plain = [
            (number, field.source)
            for number, field in enumerate(self._encoder.fields)
            if field.step is None and field.rule is None and field.cells is None
        ]
        check_spellings(plain, self._encoder.lookup, columns, first_row)
        ids = self._encoder.encode(columns, first_row)
        unseen = unseen_rows(ids, self._offsets[:-1], self._slots)
        self._watch.add(unseen, len(ids), stacklevel)
        return ids

    def predict(
        self, rows: np.ndarray | Mapping[str, Sequence[Any]], *, batch_size: int = 2048
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
        logits = self._logits(rows, batch_size, stacklevel=4).astype(np.float64)
        return (0.5 * (1.0 + np.tanh(0.5 * logits))).astype(np.float32)

    def logits(
        self, rows: np.ndarray | Mapping[str, Sequence[Any]], *, batch_size: int = 2048
    ) -> np.ndarray:
        """Logits float32 ``[N]``; arguments as of :meth:`predict`."""
        return self._logits(rows, batch_size, stacklevel=4)

    def _logits(self, rows: Any, batch_size: int, stacklevel: int) -> np.ndarray:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        columns = as_columns(rows)
        ids = np.asarray(rows if columns is None else self.encode(columns, stacklevel=stacklevel))
        if ids.ndim != 2 or ids.shape[1] != len(self._of_slot):
            raise InputError(f"ids have shape {ids.shape}, expected [N, {len(self._of_slot)}]")
        if not np.issubdtype(ids.dtype, np.integer):
            raise InputError(f"ids are {ids.dtype}, expected integers")
        wrong = (ids < self._offsets[self._of_slot]) | (ids >= self._offsets[self._of_slot + 1])
        # A field of one value has one.
        wrong &= (ids != self._offsets[-1]) | (self._slots == 1)[self._of_slot]
        if wrong.any():
            row, slot = np.argwhere(wrong)[0]
            raise InputError(
                f"row {row}: id {ids[row, slot]} is not one of field "
                f"{self._fields[self._of_slot[slot]]['name']!r}"
            )
        parts = [
            self._batch(ids[start : start + batch_size].astype(np.int64))
            for start in range(0, len(ids), batch_size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0,), np.float32)

    def _batch(self, ids: np.ndarray) -> np.ndarray:
        cells = np.split(ids, np.cumsum(self._slots)[:-1], axis=1)
        position = [self._position(cells[f], f) for f in range(len(self._fields))]
        embedded = [
            self._pooled(self._rows(f, position[f]), cells[f])
            for f, field in enumerate(self._fields)
            if field["dim"]
        ]
        flat = np.concatenate([np.zeros((len(ids), 0), np.float32), *embedded], axis=1)
        model = self.manifest["model"]["model"]
        if model == "fm":
            return self._tensors["network/bias"] + self._linear(ids, position) + _fm(embedded, flat)
        if model == "fnn":
            return self._logit(self._mlp(flat))
        if model == "deepfm":
            deep = self._logit(self._mlp(flat))
            return deep + self._linear(ids, position) + _fm(embedded, flat)
        if model == "ipnn":
            return self._logit(self._mlp(np.concatenate([flat, _products(embedded, flat)], axis=1)))
        cross = self._cross if model == "dcn" else self._cross_matrices
        return self._logit(np.concatenate([cross(flat), self._mlp(flat)], axis=1))

    def _pooled(self, seen: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """What a field has ``[N, ...]``, of what its slots have ``[N, S_f, ...]``."""
        if ids.shape[1] == 1:
            return seen[:, 0]
        is_value = ids < self._offsets[-1]
        shape = (*ids.shape, *(1 for _ in seen.shape[2:]))
        total = np.where(is_value.reshape(shape), seen, np.float32(0)).sum(axis=1)
        if self._is_mean:
            found = np.maximum(is_value.sum(axis=1), 1).astype(np.float32)
            total = total / found.reshape(len(ids), *(1 for _ in seen.shape[2:]))
        return np.asarray(total)

    def _position(self, ids: np.ndarray, field: int) -> np.ndarray:
        """Rows int64 ``[N, S_f]``; in slots without a value some row or other."""
        local = np.minimum(ids, self._offsets[field + 1] - 1) - self._offsets[field]
        remap = self._tensors.get(f"remap/{field}")
        return local if remap is None else remap[local].astype(np.int64)

    def _rows(self, field: int, position: np.ndarray) -> np.ndarray:
        read = self._tensors[f"rows/{field}"][position].astype(np.float32)
        scale = self._tensors.get(f"scale/{field}")
        if scale is not None:
            of_rows = scale[position] if len(scale) > 1 else scale
            read *= of_rows.astype(np.float32)[..., None]
        return read

    def _linear(self, ids: np.ndarray, position: list[np.ndarray]) -> np.ndarray:
        if self.manifest["linear_by_id"]:
            at = np.minimum(ids, self._offsets[-1] - 1)
        else:
            at = np.concatenate(position, axis=1) + self._starts[self._of_slot]
        weights = self._tensors["linear"][at].astype(np.float32)
        if "linear_scale" in self._tensors:
            scale = self._tensors["linear_scale"].astype(np.float32)
            weights *= scale[self._of_slot]
        if len(self._of_slot) > len(self._fields):
            inner = np.cumsum(self._slots)[:-1]
            parts = zip(np.split(weights, inner, axis=1), np.split(ids, inner, axis=1), strict=True)
            weights = np.stack([self._pooled(*part) for part in parts], axis=1)
        total: np.ndarray = weights.sum(axis=1)
        return total

    def _mlp(self, x: np.ndarray) -> np.ndarray:
        for layer in range(len(self.manifest["model"]["mlp_dims"])):
            x = np.maximum(self._dense(x, f"mlp/Dense_{layer}"), 0)
        return x

    def _cross(self, x0: np.ndarray) -> np.ndarray:
        weights, biases = (self._tensors[f"network/cross_{n}"] for n in ("weight", "bias"))
        offsets = self._tensors.get("network/cross_offset", np.zeros(len(weights), np.float32))
        x = x0
        for weight, bias, offset in zip(weights, biases, offsets, strict=True):
            x = x0 * (x @ weight + offset)[:, None] + bias + x
        return x

    def _cross_matrices(self, x0: np.ndarray) -> np.ndarray:
        x = x0
        layer = 0
        while f"network/cross_{layer}/kernel" in self._tensors:
            x = x0 * self._dense(x, f"cross_{layer}") + x
            layer += 1
        return x

    def _logit(self, x: np.ndarray) -> np.ndarray:
        return self._dense(x, "logit/Dense_0")[:, 0]

    def _dense(self, x: np.ndarray, name: str) -> np.ndarray:
        kernel, bias = (self._tensors[f"network/{name}/{n}"] for n in ("kernel", "bias"))
        return x @ kernel + bias


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
    try:
        return RowEncoder(described.row_fields(), lookup), described.expected
    except InputError as error:
        return error, described.expected


def _fm(embedded: list[np.ndarray], flat: np.ndarray) -> np.ndarray:
    width = max((rows.shape[1] for rows in embedded), default=0)
    total = np.zeros((len(flat), width), np.float32)
    for rows in embedded:
        total[:, : rows.shape[1]] += rows
    return 0.5 * ((total * total).sum(axis=1) - (flat * flat).sum(axis=1))


def _products(embedded: list[np.ndarray], flat: np.ndarray) -> np.ndarray:
    pairs = [
        np.einsum("bd,bd->b", first[:, : second.shape[1]], second[:, : first.shape[1]])
        for first, second in itertools.combinations(embedded, 2)
    ]
    return np.stack(pairs, axis=1) if pairs else np.zeros((len(flat), 0), np.float32)
