"""A warm start: an earlier model as the beginning of a run on another log.

Rows are carried over by the value that they are of, with their moments and counts where there are
any; the network is as it was. A value that is new starts as what the earlier model read of it, its
field's stand-in, so that before the first step the model scores any example as the earlier one did.
An earlier log is remembered as far as the last vocabulary: a value that comes back after a day away
is new.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.run import earlier_bundle, earlier_run
from experiments.run.earlier import Earlier, Found
from experiments.run.earlier_bundle import open_bundle
from experiments.run.earlier_run import open_run
from experiments.run.settings import Settings
from experiments.run.trained import model_of
from experiments.run.warm_options import WarmOptions
from optembed_jax.data import PreparedData, Reader
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.output_bias import shifted
from optembed_jax.models.parameter_count import rows_in_budget
from optembed_jax.models.params import Params
from optembed_jax.serving import bundle_format, taken_up
from optembed_jax.serving.kept_table import RowsAndDims
from optembed_jax.step.optimiser_memory import OptimiserMemory
from optembed_jax.storage.object_store import in_file_system
from optembed_jax.table import carry
from optembed_jax.table.decay import RowRule
from optembed_jax.table.score import FREQUENCY_BANDS, keep_best, with_memory
from optembed_jax.values.matching import rows_before

_MEASURED_ON = 2**13
"""Training rows that say how a bundle's units vary: to about a hundredth."""


Choose = Callable[[np.ndarray, int, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Beginning:
    """What a phase begins with, on the host, in the vocabulary of today.

    Attributes:
      name: of the earlier phase that it is from, or ``bundle``.
      params, batch_stats: of the full model.
      memory: of the optimisers; None where there is none, or not of these optimisers.
    """

    name: str
    params: Params
    batch_stats: Any
    memory: OptimiserMemory | None


@dataclasses.dataclass(frozen=True, eq=False)
class WarmStart:
    """An earlier model, matched with the data of a run.

    Attributes:
      earlier: the model.
      model: of this run.
      prepared: the data of this run.
      rule: how rows are updated now.
      row_memory: how much of the earlier rows' scores counts now, in [0, 1).
      source: int64 ``[V]``, the earlier row of each row; -1 of new ones.
    """

    earlier: Earlier
    model: ModelConfig
    prepared: PreparedData
    rule: RowRule
    row_memory: float
    source: np.ndarray

    def beginning(self, phase: str) -> Beginning:
        """What a phase begins with.

        Raises:
          InputError: the earlier model is missing or damaged.
        """
        earlier, model = self.earlier, model_of(phase, self.model)
        name = earlier.model_for(phase)
        found = earlier.found(name)
        table = found.params.table
        start = carry.rows_to_start_from(self.source, self.prepared.fields, earlier.fields)
        table = carry.carried(table, start)
        if not (model.prunes_rows and model.mode_oov == "oov"):
            table = dataclasses.replace(table, oov=None)
        params = Params(
            table=table,
            thresholds=self._thresholds(model, found, start),
            network=found.params.network,
        )
        batch_stats, memory = found.batch_stats, found.memory
        if found.is_folded:
            network, batch_stats = taken_up.measured(
                model, params, batch_stats, self.prepared.fields, *self._some_rows()
            )
            params = dataclasses.replace(params, network=network)
        # What was saved predicts all rows; what is trained, those that were drawn.
        network = shifted(params.network, -math.log(self.prepared.negative_share))
        params = dataclasses.replace(params, network=jax.device_get(network))
        if memory is not None:
            memory = dataclasses.replace(memory, rows=memory.rows.carried(self.source))
            memory = memory if self._fits(memory) else None
        return Beginning(name, params, jax.device_get(batch_stats), memory)

    def _thresholds(self, model: ModelConfig, found: Found, start: np.ndarray) -> Any:
        """Those of the earlier model, where there are any; else they start at 0 (section 3.2)."""
        if not model.learns_thresholds:
            return None
        is_of_features, thresholds = model.mode_threshold == "feature", found.params.thresholds
        if thresholds is None:
            size = len(start) if is_of_features else self.prepared.fields.num_fields
            return np.zeros(size, np.float32)
        return np.asarray(thresholds)[start] if is_of_features else thresholds

    def _some_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids int32 ``[N, F]`` of some training rows, and their weights."""
        batches = Reader(
            self.prepared,
            "train",
            min(_MEASURED_ON, self.prepared.num_rows["train"]),
            shuffle=False,
            remainder="keep",
            first_rows=_MEASURED_ON,
        )
        ids, _, weights = zip(*batches.epoch(0), strict=True)
        return np.concatenate(ids), np.concatenate(weights)

    def _fits(self, memory: OptimiserMemory) -> bool:
        """Whether the table's optimiser and decay remember the same as those of the earlier run."""
        rule, rows = self.rule, memory.rows
        wanted = (rule.moments.has_first, rule.moments.is_rowwise, rule.counts_visits)
        return wanted == (
            rows.mu.rows is not None,
            rows.columns is not None,
            rows.visits is not None,
        )

    def kept(self, model: ModelConfig, choose: Choose | None = None) -> RowsAndDims:
        """The earlier rows and dimensions in today's vocabulary, as ``--keep_shape`` keeps them.

        Rows that were kept stay, as many as the budget pays for; places that are free go to the
        values that are read most. Without a budget there are as many rows as there were.

        Args:
          model: of this run.
          choose: the best rows by scores float64 ``[V]``, so many at most, of a table of so many
            columns in each field; None takes as many as there may be.
        """
        rows_kept, dims = self.earlier.kept()
        fields, counts = self.prepared.fields, self.prepared.counts
        rows = np.ones(fields.num_features, bool)
        if model.prunes_rows:
            budget = int(rows_kept.sum())
            if model.has_row_budget:
                budget = rows_in_budget(model, fields)
            was_kept = (self.source >= 0) & rows_kept[np.maximum(self.source, 0)]
            order = counts.astype(np.float64) + was_kept * (counts.max() + 1.0)
            if model.shares_stand_in:
                order[fields.oov_ids] = np.inf
            most = min(budget, fields.num_features)
            rows = keep_best(order, most) if choose is None else choose(order, most, dims)
        return RowsAndDims(rows, dims)

    def dims(self) -> np.ndarray | None:
        """The dimensions int32 ``[F]`` that were kept; None if none were chosen."""
        return self.earlier.dims()

    def scores(self, own: np.ndarray) -> np.ndarray:
        """What rows are chosen by: what they score now, and what is remembered of it.

        Args:
          own: float64 ``[V]``, at least 0.
        """
        before = self.earlier.scores() if self.row_memory else None
        return own if before is None else with_memory(own, before, self.source, self.row_memory)

    def record(self) -> dict[str, Any]:
        """How many rows were carried, are new and gone, of each field and by how often they are
        read: of rows that are gone by the earlier counts, where these are known.
        """
        fields, before = self.prepared.fields, self.earlier.fields
        known = self.earlier.counts
        is_value = np.ones(fields.num_features, bool)
        is_value[fields.oov_ids] = False
        is_new = (self.source < 0) & is_value
        is_carried = (self.source >= 0) & is_value
        is_gone = np.ones(before.num_features, bool)
        is_gone[before.oov_ids] = False
        is_gone[self.source[self.source >= 0]] = False
        counts = self.prepared.counts
        kinds = {"carried": is_carried, "new": is_new, "gone": is_gone}

        def banded(counts: np.ndarray, low: int, high: int | None) -> np.ndarray:
            return (counts >= low) & (counts <= (np.inf if high is None else high))

        def of_fields(kind: str) -> np.ndarray:
            return (before if kind == "gone" else fields).rows_per_field(kinds[kind])

        per_field = {kind: of_fields(kind) for kind in kinds}
        bands = []
        for low, high in FREQUENCY_BANDS:
            name = f"{low}+" if high is None else str(low) if low == high else f"{low}-{high}"
            own = banded(counts, low, high)
            band = {kind: int((kinds[kind] & own).sum()) for kind in ("carried", "new")}
            if known is not None:
                band["gone"] = int((is_gone & banded(known, low, high)).sum())
            bands.append({"seen": name} | band)
        reads = max(int(counts[is_value].sum()), 1)
        return {
            "from": self.earlier.path.name,
            "source": os.path.realpath(self.earlier.path),
            "kind": self.earlier.kind,
            "identity": self.earlier.identity,
            **{kind: int(mask.sum()) for kind, mask in kinds.items()},
            "reads_of_carried": round(int(counts[is_carried].sum()) / reads, 6),
            "fields": [
                {"name": name, **{kind: int(per_field[kind][number]) for kind in kinds}}
                for number, name in enumerate(fields.names)
            ],
            "by_frequency": bands,
        }


def open_warm_start(
    options: WarmOptions,
    settings: Settings,
    prepared: PreparedData,
    workdir: Any,
    phases: Sequence[str],
) -> WarmStart:
    """An earlier model, checked against the settings and data of this run.

    Args:
      options: where it is, and what of it counts.
      settings: of this run.
      prepared: its data.
      workdir: its folder.
      phases: that are to be run: each has to find there what it begins with, before any is run.

    Raises:
      InputError: it is not there or not finished, or does not fit; the message names what.
    """
    path = _place(options)
    if os.path.realpath(path) == os.path.realpath(str(workdir)):
        raise InputError(f"warm_start {path} is this run's own --workdir; use another for it")
    earlier: Earlier = (open_bundle if _is_bundle(path) else open_run)(path, settings)
    for phase in phases:
        earlier.model_for(phase)
    _check_fields(path, prepared.fields, earlier.fields)
    try:
        source = rows_before(prepared.vocabulary.lookup, earlier.lookup, prepared.fields.names)
    except InputError as error:
        raise InputError(f"warm_start {path} does not fit the data set: {error}") from error
    if options.row_memory and earlier.scores() is None:
        raise InputError(
            f"row_memory goes by what rows scored before, and warm_start {path} does not have that "
            "(a bundle never does, a run only of a supernet under a budget); leave it out"
        )
    rule, memory = settings.train.row_rule, options.row_memory
    return WarmStart(earlier, settings.model, prepared, rule, memory, source)


def is_there(options: WarmOptions) -> bool:
    """Whether there is anything at all where the earlier model was."""
    return _place(options).exists()


def identity_of(options: WarmOptions) -> str:
    """What the earlier model is now, by its content. Its data need not be there.

    Raises:
      InputError: it is no finished run, and no bundle.
    """
    path = _place(options)
    if _is_bundle(path):
        return earlier_bundle.identity_of(path)
    return earlier_run.identity_of(path, options.row_memory > 0)


def _place(options: WarmOptions) -> Path:
    return Path(in_file_system(options.source, "--warm_start")).expanduser()


def _is_bundle(path: Path) -> bool:
    """Whether it is a bundle, if perhaps a damaged one: saved states have a manifest, too."""
    return (path / bundle_format.SUMS).exists() or (path / bundle_format.WEIGHTS).exists()


def _check_fields(path: Path, fields: Fields, before: Fields) -> None:
    if fields.names == before.names:
        return
    more = [name for name in fields.names if name not in before.names]
    less = [name for name in before.names if name not in fields.names]
    what = [f"no field {name!r}" for name in more] + [f"a field {name!r}, too" for name in less]
    told = ", ".join(what) or f"its fields in another order: {', '.join(before.names)}"
    raise InputError(f"warm_start {path} does not fit the data set: it has {told}")
