"""A warm start: a finished run's model as the beginning of one on another log.

Rows are carried over by the value that they are of, with their moments and counts; the network is
as it was. A value that is new starts as what the earlier model read of it, its field's stand-in, so
that before the first step the model scores any example as the earlier one did. An earlier log is
remembered as far as the last vocabulary: a value that comes back after a day away is new.
"""

import dataclasses
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.run.settings import Settings
from experiments.run.trained import Trained, model_of
from experiments.run.warm_options import WarmOptions
from optembed_jax.data import PreparedData, catalog
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.forward import Params, init_params
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.output_bias import shifted
from optembed_jax.models.parameter_count import rows_in_budget
from optembed_jax.rivals.registry import OPTEMBED, rival_of
from optembed_jax.step.optimiser_memory import OptimiserMemory
from optembed_jax.storage import array_file, saved_state
from optembed_jax.storage.object_store import in_file_system
from optembed_jax.table import carry
from optembed_jax.table.decay import RowRule
from optembed_jax.table.score import FREQUENCY_BANDS, keep_best
from optembed_jax.values.matching import rows_before

MEMORY = "memory.safetensors"
"""In a phase's folder: what its optimisers remembered when it ended."""

_FROM = {
    "baseline": ("baseline", "retrain", "supernet"),
    "supernet": ("supernet", "retrain"),
    "retrain": ("retrain", "supernet"),
}
"""Which of the earlier phases each starts from: the first that is finished."""

_SAME = (
    *("latent_dim", "mlp_dims", "cross_layers", "attention_heads", "attention_units"),
    *("fusion_heads", "pooling", "mode", "mode_threshold", "mode_oov", "mode_linear"),
)
"""Settings of the model that, beside its name, have to be those of the earlier run."""


@dataclasses.dataclass(frozen=True)
class Beginning:
    """What a phase begins with, on the host, in the vocabulary of today.

    Attributes:
      phase: of the earlier run, that it is from.
      params, batch_stats: of the full model.
      memory: of the optimisers; None where the earlier run left none.
    """

    phase: str
    params: Params
    batch_stats: Any
    memory: OptimiserMemory | None


@dataclasses.dataclass(frozen=True, eq=False)
class WarmStart:
    """A finished run, matched with the data of another.

    Attributes:
      path: its folder.
      identity: of the models in it.
      model: its model.
      before: its data.
      prepared: the data of this run.
      rule: how rows are updated now.
      source: int64 ``[V]``, the earlier row of each row; -1 of new ones.
    """

    path: Path
    identity: str
    model: ModelConfig
    before: PreparedData
    prepared: PreparedData
    rule: RowRule
    source: np.ndarray

    def phase_for(self, phase: str) -> str:
        """The earlier phase that a phase starts from.

        Raises:
          InputError: there is none.
        """
        for earlier in _FROM[phase]:
            if (self.path / earlier / "result.json").exists():
                return earlier
        raise InputError(
            f"warm_start {self.path} has no finished {' or '.join(_FROM[phase])} for the {phase}"
        )

    def beginning(self, phase: str) -> Beginning:
        """What a phase begins with.

        Raises:
          InputError: the earlier model is missing or damaged.
        """
        earlier = self.phase_for(phase)
        model, fields = model_of(phase, self.model), self.before.fields
        trained = self._trained(earlier)
        params = trained.params
        table, source = params.table, self.source
        if earlier == "retrain":
            rows = trained.rows if self.model.shares_stand_in else None
            table = carry.as_read(table, fields, rows, trained.dims)
        start = carry.rows_to_start_from(source, self.prepared.fields, fields)
        table = carry.carried(table, start)
        thresholds: Any = None
        if model.learns_thresholds:
            thresholds = params.thresholds
            if model.mode_threshold == "feature":
                thresholds = np.asarray(thresholds)[start]
        if not (model.prunes_rows and model.mode_oov == "oov"):
            table = dataclasses.replace(table, oov=None)
        # What was saved predicts all rows; what is trained, those that were drawn.
        network = shifted(params.network, -math.log(self.prepared.negative_share))
        memory, file = None, self.path / earlier / MEMORY
        if file.exists():
            memory = OptimiserMemory.from_arrays(array_file.load(file))
            memory = dataclasses.replace(memory, rows=memory.rows.carried(source))
            memory = memory if self._fits(memory) else None
        return Beginning(
            earlier,
            Params(table=table, thresholds=thresholds, network=jax.device_get(network)),
            trained.batch_stats,
            memory,
        )

    def _fits(self, memory: OptimiserMemory) -> bool:
        """Whether the table's optimiser and decay remember the same as those of the earlier run."""
        rule, rows = self.rule, memory.rows
        wanted = (rule.moments.has_first, rule.moments.is_rowwise, rule.counts_visits)
        return wanted == (
            rows.mu.rows is not None,
            rows.columns is not None,
            rows.visits is not None,
        )

    def kept(self, model: ModelConfig) -> Trained:
        """The earlier rows and dimensions in today's vocabulary, as ``--keep_shape`` keeps them.

        Rows that were kept stay, as many as the budget pays for; places that are free go to the
        values that are read most. Without a budget there are as many rows as there were.
        """
        if self.phase_for("retrain") != "retrain":
            raise InputError(
                f"keep_shape: {self.path} has no finished retrain to keep the shape of"
            )
        trained = self._trained("retrain")
        fields, counts = self.prepared.fields, self.prepared.counts
        rows = np.ones(fields.num_features, bool)
        if model.prunes_rows:
            budget = int(trained.rows.sum())
            if model.has_row_budget:
                budget = rows_in_budget(model, fields)
            was_kept = (self.source >= 0) & trained.rows[np.maximum(self.source, 0)]
            order = counts.astype(np.float64) + was_kept * (counts.max() + 1.0)
            if model.shares_stand_in:
                order[fields.oov_ids] = np.inf
            rows = keep_best(order, min(budget, fields.num_features))
        return Trained(None, None, rows, trained.dims)  # type: ignore[arg-type]

    def dims(self) -> np.ndarray | None:
        """The dimensions int32 ``[F]`` of the earlier retrained model; None if there is none."""
        is_there = (self.path / "retrain" / "result.json").exists()
        return self._trained("retrain").dims if is_there else None

    def _trained(self, phase: str) -> Trained:
        model, fields = model_of(phase, self.model), self.before.fields
        params, batch_stats = jax.eval_shape(
            lambda key: init_params(key, model, fields), jax.random.key(0)
        )
        like = {
            "params": params,
            "batch_stats": batch_stats,
            "rows": jax.ShapeDtypeStruct((fields.num_features,), np.bool_),
            "dims": jax.ShapeDtypeStruct((fields.num_fields,), np.int32),
        }
        found = saved_state.restore(self.path / phase / "state", like, on_host=True)
        rows, dims = np.asarray(found["rows"]), np.asarray(found["dims"])
        return Trained(found["params"], found["batch_stats"], rows, dims)

    def record(self) -> dict[str, Any]:
        """How many rows were carried, are new and gone, of each field and by how often they are
        read: of rows that are gone by the earlier counts.
        """
        fields, before = self.prepared.fields, self.before.fields
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
            own, theirs = banded(counts, low, high), banded(self.before.counts, low, high)
            bands.append(
                {"seen": name}
                | {k: int((m & (theirs if k == "gone" else own)).sum()) for k, m in kinds.items()}
            )
        reads = max(int(counts[is_value].sum()), 1)
        return {
            "from": self.path.name,
            "identity": self.identity,
            **{kind: int(mask.sum()) for kind, mask in kinds.items()},
            "reads_of_carried": round(int(counts[is_carried].sum()) / reads, 6),
            "fields": [
                {"name": name, **{kind: int(per_field[kind][number]) for kind in kinds}}
                for number, name in enumerate(fields.names)
            ],
            "by_frequency": bands,
        }


def open_warm_start(
    options: WarmOptions, settings: Settings, prepared: PreparedData, workdir: Any
) -> WarmStart:
    """A finished run, checked against the settings and data of this one.

    Raises:
      InputError: it is not there or not finished, or does not fit; the message names what.
    """
    path = Path(in_file_system(options.source, "--warm_start")).expanduser()
    if os.path.realpath(path) == os.path.realpath(str(workdir)):
        raise InputError(f"warm_start {path} is this run's own --workdir; use another for it")
    try:
        flags = json.loads((path / "summary.json").read_text(encoding="utf-8"))["flags"]
        data = json.loads((path / "data.json").read_text(encoding="utf-8"))
        dataset, fingerprint = data["dataset"], data["fingerprint"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"warm_start {path} is no finished run: {error.filename} is missing"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"warm_start {path} cannot be read: {error!r}") from error
    rival = rival_of(flags.get("method", OPTEMBED))
    if rival is not None and not rival.carries:
        raise InputError(
            f"warm_start {path} is a run of --method={rival.name}, which leaves no table of rows "
            "that another run can begin with; use a run of another method"
        )
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    had: dict[str, Any] = {
        k: tuple(v) if k == "mlp_dims" else v for k, v in flags.items() if k in known
    }
    _check_same(path, "model", settings.model.model_name, had.get("model"))
    model = ModelConfig(**{**had, "model": settings.model.model})  # Perhaps a module of one's own.
    for name in _SAME:
        _check_same(path, name, getattr(settings.model, name), getattr(model, name))
    places = dict.fromkeys((settings.data_dir, data.get("data_dir") or settings.data_dir))
    found = (catalog.with_vocabulary(dataset, place, fingerprint) for place in places)
    before = next(filter(None, found), None)
    if before is None:
        raise InputError(
            f"the data that warm_start {path} was trained on are not in --data_dir="
            f"{' or '.join(map(str, places))} any more, and with them its vocabulary: prepare them "
            "there again"
        )
    _check_fields(path, prepared.fields, before.fields)
    names = prepared.fields.names
    try:
        source = rows_before(prepared.vocabulary.lookup, before.vocabulary.lookup, names)
    except InputError as error:
        raise InputError(f"warm_start {path} does not fit the data set: {error}") from error
    identity = _identity(path, fingerprint)
    return WarmStart(path, identity, model, before, prepared, settings.train.row_rule, source)


def _check_same(path: Path, name: str, now: Any, was: Any) -> None:
    if now != was:
        raise InputError(
            f"warm_start {path} was trained with --{name}={_told(was)}, and this run asks for "
            f"{_told(now)}: they have to be the same"
        )


def _told(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_fields(path: Path, fields: Fields, before: Fields) -> None:
    if fields.names == before.names:
        return
    more = [name for name in fields.names if name not in before.names]
    less = [name for name in before.names if name not in fields.names]
    what = [f"no field {name!r}" for name in more] + [f"a field {name!r}, too" for name in less]
    told = ", ".join(what) or f"its fields in another order: {', '.join(before.names)}"
    raise InputError(f"warm_start {path} does not fit the data set: it has {told}")


def _identity(path: Path, fingerprint: str) -> str:
    """Of the data and of all states that are finished."""
    digest = hashlib.sha256(fingerprint.encode())
    for phase in ("baseline", "supernet", "retrain"):
        manifest = path / phase / "state" / "manifest.json"
        if (path / phase / "result.json").exists() and manifest.exists():
            digest.update(phase.encode() + manifest.read_bytes())
            memory = path / phase / MEMORY
            digest.update(memory.read_bytes() if memory.exists() else b"")
    return digest.hexdigest()[:16]
