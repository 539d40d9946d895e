"""A bundle served with NumPy alone: no JAX, no compiler, the same scores.

    from optembed_jax.serving.numpy_bundle import NumpyBundle
    probabilities = NumpyBundle.load("bundle").predict({"user": ["u1"], "age": [17]})  # or ids

It needs ``numpy`` and ``safetensors``, and imports no more. The formulas are those of
``optembed_jax.models``, written again; what they read was checked by ``bundle_format``.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.serving import bundle_content, bundle_samples, request
from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving.bundle_format import BundleError
from optembed_jax.serving.freed_memory import give_back
from optembed_jax.serving.numpy_backbones import backbone_of
from optembed_jax.serving.numpy_bags import bags_of
from optembed_jax.serving.numpy_table import NumpyTable
from optembed_jax.table import packing
from optembed_jax.values.columns import as_columns, columns_by_name
from optembed_jax.values.description import read_description
from optembed_jax.values.lookup_tables import read_tables
from optembed_jax.values.rows import RowEncoder
from optembed_jax.values.unseen import Expected, Watch, unseen_rows
from optembed_jax.values.vocabulary_file import read_values

_AT_ONCE = 2**12
"""Texts that are looked up at a time, so that this takes less memory than a small bundle holds."""


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
        self._bags = bags_of(manifest)
        self._table = NumpyTable(manifest, tensors, self._bags)
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
        tensors = content.served(
            lambda bits: (bits.astype(np.uint32) << 16).view(np.float32), packing.in_few_bits
        )
        encoder = _read_encoder(folder, content.files, content.manifest)
        try:
            bundle = cls(folder, content.manifest, tensors, *encoder)
        except (InputError, KeyError, TypeError) as error:
            raise BundleError(f"{folder} cannot be served by NumPy: {error}") from error
        bundle_samples.check_samples(folder, content.manifest, bundle.logits)
        del content
        give_back()  # what inflating and unpacking took, half as much again as the bundle holds
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
        ids = self._encoder.encode(columns_by_name(rows), first_row)
        unseen = unseen_rows(ids, self._bags.offsets[:-1], self._bags.slots)
        self._watch.add(unseen, len(ids), stacklevel)
        return ids

    def predict(
        self, rows: np.ndarray | Mapping[str, Sequence[Any]], *, batch_size: int = 128
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
        self, rows: np.ndarray | Mapping[str, Sequence[Any]], *, batch_size: int = 128
    ) -> np.ndarray:
        """Logits float32 ``[N]``; arguments as of :meth:`predict`."""
        return self._logits(rows, batch_size, stacklevel=4)

    def _logits(self, rows: Any, batch_size: int, stacklevel: int) -> np.ndarray:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        columns = as_columns(rows)
        ids, weights = self._bags.split(
            rows if columns is None else self.encode(columns, stacklevel=stacklevel)
        )
        parts = [
            self._batch(
                ids[start : start + batch_size].astype(np.int64),
                None if weights is None else weights[start : start + batch_size],
            )
            for start in range(0, len(ids), batch_size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0,), np.float32)

    def _batch(self, ids: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        read = self._table.read(ids, weights)
        # OpenBLAS 0.3.31 (NumPy 2.4.6) warns of NaN at random on CPUs with AVX-512: products of 5
        # columns read leftovers on the stack, which they do not use. What is loaded is finite.
        with np.errstate(invalid="ignore"):
            return self._backbone(read)


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
        tables = read_tables(files[layout.TABLES]) if layout.TABLES in files else None
        described = read_description(files[layout.ENCODER], names, tables)
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
        return RowEncoder(described.row_fields(), lookup, _AT_ONCE), described.expected
    except InputError as error:
        return error, described.expected
