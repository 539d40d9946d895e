"""A finished run as the beginning of another: its states, moments and scores, by phase."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from experiments.run.earlier import Found, check_model, check_same
from experiments.run.records import run_again
from experiments.run.settings import Settings
from experiments.run.trained import Trained, model_of, read_trained
from optembed_jax.data import PreparedData, catalog
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.rivals.registry import OPTEMBED, rival_of
from optembed_jax.step.optimiser_memory import OptimiserMemory
from optembed_jax.storage import array_file
from optembed_jax.table import carry
from optembed_jax.values.lookup import Lookup

MEMORY = "memory.safetensors"
"""In a phase's folder: what its optimisers remembered when it ended."""

SCORES = "row_scores.safetensors"
"""In the supernet's folder: what a budget chooses rows by."""

_FROM = {
    "baseline": ("baseline", "retrain"),
    "supernet": ("supernet", "retrain"),
    "search": ("retrain",),
    "retrain": ("retrain",),
    "verify": ("retrain",),
}
"""Which of the earlier phases each starts from: the first that is finished.

A search has its dimensions. A run that is finished has one for each phase that another goes through
(of mode none there is only a baseline): all else is of a run that was stopped on its way.
"""

_OF_PRUNING = ("mode", "mode_threshold", "mode_oov", "mode_linear")
"""Settings by which full tables differ in what their rows mean."""


@dataclasses.dataclass(frozen=True, eq=False)
class EarlierRun:
    """A finished run.

    Attributes:
      path: its folder.
      model: its model.
      before: its data.
      remembers: whether its scores count, too.
    """

    path: Path
    model: ModelConfig
    before: PreparedData
    remembers: bool = False

    kind = "run"

    @property
    def fields(self) -> Fields:
        """Of its data."""
        return self.before.fields

    @property
    def lookup(self) -> Lookup:
        """Of its data."""
        return self.before.vocabulary.lookup

    @property
    def counts(self) -> np.ndarray | None:
        """Of its data."""
        return self.before.counts

    @functools.cached_property
    def identity(self) -> str:
        """Of the data and of all that is finished."""
        return identity_of(self.path, self.remembers)

    def model_for(self, phase: str) -> str:
        """The earlier phase that a phase starts from."""
        for earlier in _FROM[phase]:
            if self._is_finished(earlier):
                return earlier
        raise InputError(
            f"warm_start {self.path} is not finished: it has no {' or '.join(_FROM[phase])}, which "
            f"the {phase} of this run begins with; run it to its end, with the flags that it was "
            "begun with"
        )

    def found(self, name: str) -> Found:
        """What a phase left; of a retrained model what pruned rows and columns read, too."""
        trained = self._trained(name)
        params = trained.params
        memory, file = None, self.path / name / MEMORY
        if file.exists():
            memory = OptimiserMemory.from_arrays(array_file.load(file, run_again(file.parent)))
        if name == "retrain" and self.model.prunes_rows and memory is not None:
            rows = memory.rows.of_kept(trained.rows, prunes_linear=self._prunes_linear)
            memory = dataclasses.replace(memory, rows=rows)
        if name == "retrain":
            kept = trained.rows if self.model.shares_stand_in else None
            table = carry.as_read(
                params.table, self.fields, kept, trained.dims, prunes_linear=self._prunes_linear
            )
            params = dataclasses.replace(params, table=table)
        return Found(params, trained.batch_stats, memory)

    def kept(self) -> tuple[np.ndarray, np.ndarray]:
        """What was retrained."""
        trained = self._trained("retrain")
        return trained.rows, trained.dims

    def dims(self) -> np.ndarray | None:
        """Of what was retrained."""
        return self._trained("retrain").dims if self._is_finished("retrain") else None

    def scores(self) -> np.ndarray | None:
        """Those of the supernet."""
        file = self.path / "supernet" / SCORES
        if not self._is_finished("supernet") or not file.exists():
            return None
        return array_file.load(file, run_again(file.parent))["scores"]

    @property
    def _prunes_linear(self) -> bool:
        return self.model.mode_linear == "prune"

    def _is_finished(self, phase: str) -> bool:
        return _is_finished(self.path, phase)

    def _trained(self, phase: str) -> Trained:
        model = model_of(phase, self.model)
        return read_trained(self.path / phase, model, self.fields, on_host=True)


def identity_of(path: Path, remembers: bool) -> str:
    """What a finished run is, by the content of its files: of the data and of all that is finished.

    Args:
      path: its folder.
      remembers: whether its scores count, too.

    Raises:
      InputError: it is no finished run.
    """
    digest = hashlib.sha256(_records(path)[1]["fingerprint"].encode())
    for phase in ("baseline", "supernet", "retrain"):
        manifest = path / phase / "state" / "manifest.json"
        if _is_finished(path, phase) and manifest.exists():
            digest.update(phase.encode() + manifest.read_bytes())
            memory = path / phase / MEMORY
            digest.update(memory.read_bytes() if memory.exists() else b"")
    scores = path / "supernet" / SCORES
    if remembers and scores.exists():
        digest.update(scores.read_bytes())
    return digest.hexdigest()[:16]


def _is_finished(path: Path, phase: str) -> bool:
    return (path / phase / "result.json").exists()


def _records(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The flags of a run, and what it recorded of its data.

    Raises:
      InputError: they are not there, or cannot be read.
    """
    try:
        flags = json.loads((path / "summary.json").read_text(encoding="utf-8"))["flags"]
        data = json.loads((path / "data.json").read_text(encoding="utf-8"))
        _ = data["dataset"], data["fingerprint"].encode()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"warm_start {path} is no finished run, and no bundle: {error.filename} is missing"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"warm_start {path} cannot be read: {error!r}") from error
    return flags, data


def open_run(path: Path, settings: Settings) -> EarlierRun:
    """A finished run, checked against the settings of this one.

    Raises:
      InputError: it is not there or not finished, or does not fit; the message names what.
    """
    flags, data = _records(path)
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
    check_same(path, "model", settings.model.model_name, had.get("model"))
    model = ModelConfig(**{**had, "model": settings.model.model})  # Perhaps a module of one's own.
    check_model(path, settings.model, model, _OF_PRUNING)
    remembers = settings.warm is not None and settings.warm.row_memory > 0
    if remembers:
        check_same(path, "row_score", settings.model.budget_score, model.budget_score)
    places = dict.fromkeys((settings.data_dir, data.get("data_dir") or settings.data_dir))
    dataset, fingerprint = data["dataset"], data["fingerprint"]
    found = (catalog.with_vocabulary(dataset, place, fingerprint) for place in places)
    before = next(filter(None, found), None)
    if before is None:
        raise InputError(
            f"the data that warm_start {path} was trained on are not in --data_dir="
            f"{' or '.join(map(str, places))} any more, and with them its vocabulary: prepare them "
            "there again"
        )
    return EarlierRun(path, model, before, remembers)
