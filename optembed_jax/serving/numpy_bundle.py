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
from optembed_jax.serving.numpy_backbones import Read, backbone_of
from optembed_jax.table import sharing
from optembed_jax.values.description import read_description
from optembed_jax.values.rows import RowEncoder, as_columns
from optembed_jax.values.spelling import check_spellings
from optembed_jax.values.unseen import Expected, Watch
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
        self._starts = sharing.starts(range(len(rows)), rows)
        arrays = sharing.sharing(
            *zip(*((f["dim"], f["storage"]) for f in self._fields), strict=True)
        )
        self._arrays = [np.array(fields) for fields in arrays]
        self._array_starts = [sharing.starts(fields, rows) for fields in arrays]
        self._runs = sharing.runs(arrays)
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
            if field.step is None and field.rule is None
        ]
        check_spellings(plain, self._encoder.lookup, columns, first_row)
        ids = self._encoder.encode(columns, first_row)
        self._watch.add((ids == self._offsets[:-1]).sum(axis=0), len(ids), stacklevel)
        return ids

    def predict(
        self, rows: np.ndarray | Mapping[str, Sequence[Any]], *, batch_size: int = 2048
    ) -> np.ndarray:
        """Click probabilities float32 ``[N]`` of ids, integers ``[N, F]``, or of raw columns by
        name: a mapping, a ``pyarrow.Table`` or a data frame.

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
        if ids.ndim != 2 or ids.shape[1] != len(self._fields):
            raise InputError(f"ids have shape {ids.shape}, expected [N, {len(self._fields)}]")
        if not np.issubdtype(ids.dtype, np.integer):
            raise InputError(f"ids are {ids.dtype}, expected integers")
        wrong = (ids < self._offsets[:-1]) | (ids >= self._offsets[1:])
        if wrong.any():
            row, field = np.argwhere(wrong)[0]
            raise InputError(
                f"row {row}: id {ids[row, field]} is not one of field "
                f"{self._fields[field]['name']!r}"
            )
        parts = [
            self._batch(ids[start : start + batch_size].astype(np.int64))
            for start in range(0, len(ids), batch_size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0,), np.float32)

    def _batch(self, ids: np.ndarray) -> np.ndarray:
        places = self._places(ids)
        arrays = [self._read(number, places) for number in range(len(self._arrays))]
        parts = [arrays[array][:, begin:end] for array, begin, end in self._runs]
        linear = self._linear(ids, places) if "linear" in self._tensors else None
        return self._backbone(Read(len(ids), parts, linear))

    def _places(self, ids: np.ndarray) -> np.ndarray:
        """Where each id's row stands among those of its field, ``[N, F]``."""
        places = ids - self._offsets[:-1]
        for field in range(len(self._fields)):
            remap = self._tensors.get(f"remap/{field}")
            if remap is not None:
                places[:, field] = remap[places[:, field]]
        return places

    def _read(self, number: int, places: np.ndarray) -> np.ndarray:
        """Rows float32 ``[N, k, d]`` of the fields that share an array."""
        fields, begins = self._arrays[number], self._array_starts[number]
        at = places[:, fields] + begins
        read = self._tensors[f"rows/{number}"][at].astype(np.float32)
        scale = self._tensors.get(f"scale/{number}")
        if scale is not None:
            # Of each field, or of each row; one field of one row is the same either way.
            each = scale if scale.shape == begins.shape else scale[at]
            read *= each.astype(np.float32)[..., None]
        return read

    def _linear(self, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
        at = ids if self.manifest["linear_by_id"] else places + self._starts
        weights = self._tensors["linear"][at].astype(np.float32)
        if "linear_scale" in self._tensors:
            weights *= self._tensors["linear_scale"].astype(np.float32)
        total: np.ndarray = weights.sum(axis=1)
        return total


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
    try:
        return RowEncoder(described.row_fields(), lookup), described.expected
    except InputError as error:
        return error, described.expected
