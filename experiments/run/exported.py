"""A compact model on its way into a bundle: its vocabulary, and in how many bits it goes."""

import dataclasses
import functools
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.run.bundle_budget import Chosen, choose
from optembed_jax import metrics
from optembed_jax.data.encoder import Encoder
from optembed_jax.fields import Fields
from optembed_jax.models.forward import Params, forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving import bit_allocation
from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving.bundle_writer import Provenance, content_of
from optembed_jax.serving.network_storage import kernels_of
from optembed_jax.serving.stored_model import Storage, served_network, store
from optembed_jax.table.compact import CompactIndex, with_own_ids
from optembed_jax.table.composed import ComposedIndex
from optembed_jax.values.cells import with_slots

BATCH = 2048
JUDGED_ROWS = 2**14
"""Validation rows on which each storage of each part is tried."""

_UNKNOWN_BYTES = 160  # two more metrics, in manifest and card


@dataclasses.dataclass(frozen=True)
class Served:
    """The ids that a bundle takes.

    Attributes:
      index: how they find rows.
      fields: theirs.
      encoder: raw columns to them.
      new_ids: of each id of the prepared data set, int32 ``[V]``; None where they are the same.
      slots: of each field in the prepared data set.
      why_full: why pruned values have ids, where they do.
    """

    index: CompactIndex | ComposedIndex
    fields: Fields
    encoder: Encoder
    new_ids: np.ndarray | None
    slots: tuple[int, ...]
    why_full: str | None

    def ids(self, prepared: np.ndarray) -> np.ndarray:
        """Ids of the bundle int32 ``[N, F]``, of those of the prepared data set."""
        fields = self.fields
        if self.new_ids is not None:
            ids, weights = np.split(prepared, [sum(self.slots)], axis=1)
            new = np.append(self.new_ids, np.int32(fields.num_features))[ids]
            prepared = np.concatenate([new, weights], axis=1)
        return with_slots(prepared, self.slots, fields.slots, fields.num_features, fields.weighted)

    def counts(self, prepared: np.ndarray) -> np.ndarray:
        """Training rows that had each id of the bundle, int64, of those of the prepared data."""
        if self.new_ids is None:
            return prepared
        return np.bincount(self.new_ids, prepared, self.fields.num_features).astype(np.int64)


def with_kept_vocabulary(
    index: CompactIndex, fields: Fields, encoder: Encoder, counts: np.ndarray, least: int
) -> tuple[CompactIndex, Fields, Encoder, np.ndarray]:
    """Index, fields and encoder of the values that have a row, and the new id of each old one.

    Args:
      index: of the compact table.
      fields: of the prepared data set.
      encoder: raw columns to its ids.
      counts: training rows that had each of them, int ``[V]``.
      least: as ``min_count`` of the preparation.
    """
    own, kept, new_ids = with_own_ids(index, fields.names)
    has_row = new_ids != kept.oov_ids[fields.field_of_row]
    return own, kept, encoder.keep(has_row, counts, least), new_ids


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
    """The compact model, and the validation rows that say what a storage costs.

    Attributes:
      model: the model.
      params: compact, in float32.
      batch_stats: its running batch statistics.
      served: its vocabulary.
      ids: of the validation rows, as the bundle takes them, int32 ``[N, F]``.
      labels: float32 ``[N]``.
      weights: float32 ``[N]``; None where all rows count alike.
      provenance: of the model, as far as it is known.
      full_rows: of the table that the model was cut from.
      counts: training rows that had each id, where they are written.
    """

    model: ModelConfig
    params: Params
    batch_stats: Any
    served: Served
    ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    provenance: Provenance
    full_rows: int
    counts: np.ndarray | None

    def chosen(
        self,
        storage: str,
        max_bytes: int | None,
        max_drop: float,
        platforms: Sequence[str],
    ) -> Chosen | None:
        """The storage to take and what it costs; None for plain float32.

        Raises:
          InputError: see :func:`bundle_budget.choose`.
        """
        if storage == "float32" and max_bytes is None:
            return None
        candidates = [self._uniform(storage)] if storage != "auto" else self._allocations()
        if storage == "float32":  # It is the default, and more than a limit of bytes asks for.
            candidates = [self._uniform(storage), *self._allocations()]

        return choose(
            candidates,
            self._auc,
            lambda candidate: self._bytes(candidate, platforms),
            self._auc(None),
            max_bytes,
            max_drop,
        )

    def logits(self, storage: Storage | None) -> np.ndarray:
        """Logits of the validation rows float32 ``[N]`` by the live model in a storage."""
        params, batch_stats = self.params, self.batch_stats
        if storage is not None:
            params, batch_stats = store(params, batch_stats, self.served.index, storage).live()
        index, model = self.served.index, self.model
        step = jax.jit(lambda p, stats, ids: forward(model, p, stats, ids, index)[0])
        parts = []
        for start in range(0, len(self.ids), BATCH):
            batch = self.ids[start : start + BATCH]
            padded = np.pad(batch, ((0, BATCH - len(batch)), (0, 0)), mode="edge")
            parts.append(np.asarray(step(params, batch_stats, padded))[: len(batch)])
        return np.concatenate(parts)

    def told(self, storage: Storage) -> str:
        """A line about what is stored in how many bits."""
        columns = self.served.index.fields_with_columns
        rows = Counter(storage.rows[field] for field in columns)
        parts = [f"rows of {count} fields {kind}" for kind, count in sorted(rows.items())]
        if self.params.table.linear is not None:
            parts.append(f"linear weights {storage.linear}")
        kernels = Counter(storage.kernels.values())
        parts += [f"{count} kernels {kind}" for kind, count in sorted(kernels.items())]
        return f"stored  {', '.join(parts)}"

    def _uniform(self, storage: str) -> Storage:
        kernels = kernels_of(served_network(self.params, self.batch_stats))
        return Storage.uniform(storage, self.served.fields.num_fields, kernels)

    def _allocations(self) -> list[Storage]:
        assert isinstance(self.served.index, CompactIndex), self.served.index.why_float32
        parts = bit_allocation.measured(
            self.model,
            self.params,
            self.batch_stats,
            self.served.index,
            self.ids[:JUDGED_ROWS],
            None if self.weights is None else self.weights[:JUDGED_ROWS],
        )
        fields = self.served.fields.num_fields
        return [bit_allocation.storages(choice, fields) for choice in bit_allocation.path(parts)]

    def _auc(self, storage: Storage | None) -> float:
        return metrics.auc(self.labels, self.logits(storage), self.weights)

    def _bytes(self, storage: Storage, platforms: Sequence[str]) -> int:
        """Bytes of the folder at most: metrics that are still unknown are some bytes long."""
        model = store(self.params, self.batch_stats, self.served.index, storage)
        files = content_of(
            self.model,
            model,
            self.served.index,
            self.served.fields,
            self.provenance,
            self.full_rows,
            platforms,
        )
        return sum(map(len, files.values())) + self._vocabulary_bytes + _UNKNOWN_BYTES

    @functools.cached_property
    def _vocabulary_bytes(self) -> int:
        """Bytes of the files of the vocabulary and of counts, and of the list of all files."""
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in (layout.ENCODER, layout.VOCABULARY)]
            self.served.encoder.write(*files)
            names = (*layout.REQUIRED, *layout.OPTIONAL)
            of_sums = len(layout.format_sums(dict.fromkeys(names, b"")))
            of_counts = 0 if self.counts is None else self.counts.nbytes + 2**8
            return of_sums + of_counts + sum(file.stat().st_size for file in files)
