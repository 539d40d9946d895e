"""A compact model on its way into a bundle: its vocabulary, and in how many bits it goes."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from experiments.run.bundle_budget import Chosen, choose
from optembed_jax import data, metrics
from optembed_jax.data.encoder import Encoder
from optembed_jax.data.prepared import encoder_of
from optembed_jax.fields import Fields
from optembed_jax.method.bag import bags_of
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.serving import bit_allocation
from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving.bundle_writer import (
    Provenance,
    content_of,
    counts_file,
    encoder_files,
)
from optembed_jax.serving.forward_module import export_forward
from optembed_jax.serving.kept_table import KeptTable
from optembed_jax.serving.network_storage import kernels_of
from optembed_jax.serving.stored_model import Storage, served_network, store
from optembed_jax.table.compact import CompactIndex, with_own_ids
from optembed_jax.table.composed import ComposedIndex
from optembed_jax.table.sharing import sharing
from optembed_jax.values.cells import with_slots

BATCH = 2048
JUDGED_ROWS = 2**14
"""Validation rows on which each storage of each part is tried."""

TOLD_OF_STORAGE = ("val_auc_float32", "val_auc_stored", "test_auc_stored", "test_logloss_stored")
"""Metrics that a bundle in few bits tells besides."""

_WIDEST = 1.2345678901234567e-05
"""A metric with as many characters as any has."""

_OF_COMPOSED = ("float16", "int8", "int6", "int4", "int3", "int2")
"""What a table of composed rows is stored in as a whole, from the least harm to the least bytes."""


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


def own_storage(kept: KeptTable, fields: Fields) -> Storage | None:
    """In what a form is stored where nothing else is asked for; None for plain float32."""
    return None if kept.storage == "float32" else Storage((kept.storage,) * fields.num_fields)


def served_of(
    index: CompactIndex | ComposedIndex,
    prepared: data.PreparedData,
    pooling: str,
    full_ids: bool = False,
) -> Served:
    """The vocabulary of a bundle: of the values that are kept, or all of them.

    Args:
      index: of the compact table.
      prepared: the data set.
      pooling: of fields with several values.
      full_ids: whether all values are to have ids, pruned ones too.
    """
    fields, encoder = prepared.fields, encoder_of(prepared)
    why = "--full_ids" if full_ids else index.why_not_own_ids
    # Cells may have more values than any that was trained on.
    wide = dataclasses.replace(fields, slots=encoder.slots)
    index = dataclasses.replace(index, bags=bags_of(wide, pooling))
    if why is not None:
        return Served(index, wide, encoder, None, fields.slots, why if index.prunes else None)
    assert isinstance(index, CompactIndex)  # Others say why not.
    least = int(prepared.options["min_count"])
    own, kept, encoder, new_ids = with_kept_vocabulary(
        index, fields, encoder, prepared.counts, least
    )
    return Served(own, kept, encoder, new_ids, fields.slots, None)


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
      own: the storage of what is kept in a form of its own, where nothing else is asked for.
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
    counts: np.ndarray | None = None
    own: Storage | None = None

    def chosen(
        self,
        storage: str | None,
        max_bytes: int | None,
        max_drop: float,
        platforms: Sequence[str],
    ) -> Chosen | None:
        """The storage to take and what it costs, maybe too much; None for plain float32.

        Where none is asked for it is float32, or the first below it that keeps to a limit of bytes.

        Raises:
          BudgetError: see :func:`bundle_budget.choose`.
        """
        if storage in (None, "float32") and max_bytes is None:
            return None
        candidates = []
        if storage != "auto":
            candidates.append(self._whole(storage or "float32"))
        if storage in (None, "auto"):
            candidates += self._allocations()
        return choose(
            candidates,
            self.auc,
            lambda candidate: self.bytes_in(candidate, platforms),
            self.auc(None),
            max_bytes,
            max_drop,
        )

    def logits(
        self,
        storage: Storage | None,
        ids: np.ndarray | None = None,
        numbers: tuple[Params, Any] | None = None,
    ) -> np.ndarray:
        """Logits of the validation rows float32 ``[N]`` by the live model in a storage.

        Of other rows where their ``ids`` are given, as the bundle takes them; of other parameters
        and batch statistics where they are given.
        """
        ids = self.ids if ids is None else ids
        params, batch_stats = numbers or (self.params, self.batch_stats)
        if storage is not None:
            params, batch_stats = store(params, batch_stats, self.served.index, storage).live()
        step = self._forward
        parts = []
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
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

    def _whole(self, storage: str) -> Storage:
        return self.own if storage == "float32" and self.own is not None else self.uniform(storage)

    def uniform(self, storage: str) -> Storage:
        """All rows in one storage, see :meth:`Storage.uniform`."""
        return Storage.uniform(
            storage,
            self.served.fields.num_fields,
            kernels_of(served_network(self.params, self.batch_stats)),
            is_composed=isinstance(self.served.index, ComposedIndex),
        )

    def _allocations(self) -> list[Storage]:
        if self.own is not None:  # Its rows have no other form; all else has.
            beside = self.uniform("int8")
            return [dataclasses.replace(beside, rows=self.own.rows)]
        if isinstance(self.served.index, ComposedIndex):
            return [self.uniform(storage) for storage in _OF_COMPOSED]
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

    def auc(self, storage: Storage | None, numbers: tuple[Params, Any] | None = None) -> float:
        """Validation AUC in a storage; of other numbers as of :meth:`logits`."""
        return metrics.auc(self.labels, self.logits(storage, numbers=numbers), self.weights)

    @functools.cached_property
    def _forward(self) -> Callable[..., jax.Array]:
        """One function for all, which is compiled once for storages that have alike arrays."""
        index, model = self.served.index, self.model
        return jax.jit(lambda p, stats, ids: forward(model, p, stats, ids, index)[0])

    def bytes_in(self, storage: Storage, platforms: Sequence[str]) -> int:
        """Bytes of the folder in a storage, at most: a metric of it may have fewer digits."""
        model = store(self.params, self.batch_stats, self.served.index, storage)
        of_storage = dict.fromkeys(TOLD_OF_STORAGE, _WIDEST)
        told = {**self.provenance.metrics, **of_storage}
        files = content_of(
            self.model,
            model,
            self.served.index,
            self.served.fields,
            dataclasses.replace(self.provenance, metrics=told),
            self.full_rows,
            platforms,
            self._module_of,
        )
        files |= self._of_vocabulary
        return sum(map(len, files.values())) + len(layout.format_sums(files))

    @functools.cached_property
    def _of_vocabulary(self) -> dict[str, bytes]:
        """The files of the vocabulary and of counts, by name."""
        files = encoder_files(self.served.encoder)
        return files if self.counts is None else files | {layout.COUNTS: counts_file(self.counts)}

    @functools.cached_property
    def _module_of(self) -> Callable[..., bytes]:
        """The forward module, made once of all storages that are served in the same arrays."""
        made: dict[Any, bytes] = {}

        def module_of(
            config: ModelConfig, served: Any, described: Any, linear_by_id: bool, platforms: Any
        ) -> bytes:
            arrays = sharing([f["dim"] for f in described], [f["storage"] for f in described])
            shapes = tuple((name, a.shape, str(a.dtype)) for name, a in sorted(served.items()))
            key = (arrays, shapes, tuple(platforms))
            if key not in made:
                made[key] = export_forward(config, served, described, linear_by_id, platforms)
            return made[key]

        return module_of
