"""The folder of a run: what each phase left there, and whether it still fits what is asked for.

DIR/data.json                 which prepared data set the run belongs to, and the folder's format
DIR/<phase>/begun.json        the flags that the phase was begun with
DIR/<phase>/versions.json     of Python and the packages, those that it was begun under first
DIR/<phase>/checkpoints/      states to go on from, until the phase is finished
DIR/choose/kept.safetensors   the rows and dimensions that a rival keeps
DIR/retrain/kept.safetensors  those of an earlier run that were begun with, where its shape is kept
DIR/search/masks.safetensors  how many rows each mask keeps, where the bytes of a bundle say it
DIR/tune/rungs/<strength>/    the training with a strength: metrics.jsonl, result.json
DIR/retrain/finalists/        the tables of a short list, until the best of them is known
DIR/<phase>/metrics.jsonl     a line per epoch or generation
DIR/<phase>/state/            the model that the phase leaves
DIR/<phase>/memory.safetensors  moments and counts of its optimisers, for a warm start
DIR/<phase>/result.json       written last, so that its presence means the phase is finished
DIR/summary.json              the whole run
DIR/report.html               the same for people, with pictures
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from etils.epath import Path, PathLike

from experiments.run import processes
from experiments.run.records import read_json, run_again, write_json
from optembed_jax.data.options import PATH_OPTIONS
from optembed_jax.errors import InputError
from optembed_jax.storage import barrier

PHASES = ("baseline", "supernet", "search", "retrain", "verify", "tune", "choose")
"""Keys are drawn by places in this list, so that what was added later comes last."""

AS_TOLD = ("baseline", "supernet", "search", "choose", "retrain", "verify", "tune")
"""The phases as a summary lists them."""

_BUILT_ON = {
    "tune": ("baseline", "supernet", "search", "retrain", "verify", "choose"),
    "baseline": (),
    "supernet": ("search", "choose", "retrain", "verify"),
    "search": ("retrain", "verify"),
    "choose": ("retrain",),
    "retrain": ("verify",),
    "verify": (),
}
FORMAT = 3
"""Of the folder. Raised where flags or states of an older version no longer serve."""

UNRECORDED = {
    **{"table_optimiser": "adam", "pooling": "mean", "method": "optembed"},
    **{"attention_heads": 2, "attention_units": 32, "compute_dtype": "float32"},
    **{"fusion_heads": 1, "table_dtype": "float32", "tune_l2_ladder": []},
}
"""What older folders of this format do not record, because there was no choice."""

_CUT, _OF_BYTES = ("supernet", "retrain"), ("max_bundle_bytes", "storage")
"""Phases that rows are cut in by the bytes of a bundle, and the flags of it. Older folders of this
format record there how many rows that leaves instead, as ``max_table_bytes``."""

UNDER_WAY = "finalists"
"""Where a phase trains several tables of which it keeps one."""

_BEFORE_WORK = frozenset(
    ["begun.json", "versions.json", "begun_on.json", "masks.safetensors", "initial"]
)
"""What a phase notes before it trains, scores or chooses anything."""


@dataclasses.dataclass(frozen=True)
class Workdir:
    """A run's folder.

    Attributes:
      path: the folder, in a file system or a bucket; made by the first phase that starts.
    """

    path: Path

    def phase_dir(self, phase: str) -> Path:
        """The folder of a phase."""
        return Path(self.path) / phase

    def result(self, phase: str) -> dict[str, Any] | None:
        """What a finished phase recorded; None while it is not finished.

        Raises:
          InputError: the record cannot be read.
        """
        return self._read(phase, "result.json")

    def begun_with(self, phase: str) -> dict[str, Any] | None:
        """The flags that a phase was begun with; None before it was.

        Raises:
          InputError: the record cannot be read.
        """
        return self._read(phase, "begun.json")

    def flags_of(self, phase: str) -> dict[str, Any] | None:
        """The flags of a phase that is finished or begun; None of one that is neither.

        Raises:
          InputError: the record cannot be read.
        """
        result = self.result(phase)
        return self.begun_with(phase) if result is None else result.get("flags")

    def _read(self, phase: str, name: str) -> dict[str, Any] | None:
        path = self.phase_dir(phase) / name
        return read_json(path, run_again(path.parent)) if path.exists() else None

    def summary(self) -> dict[str, Any]:
        """The record of the whole run.

        Raises:
          InputError: it cannot be read, as where the run is not finished.
        """
        try:
            text = (self.path / "summary.json").read_text(encoding="utf-8")
            found: dict[str, Any] = json.loads(text)
        except (OSError, ValueError) as error:
            raise InputError(
                f"no finished run in {self.path}: summary.json cannot be read; run "
                "`python -m experiments.pipeline` with this --workdir first"
            ) from error
        if not isinstance(found, dict) or "flags" not in found:
            raise InputError(
                f"{self.path / 'summary.json'} is no summary of a run: it has no flags; use "
                "another --workdir"
            )
        return found

    def fingerprint(self) -> str | None:
        """Of the prepared data that the run was begun with; None before it was.

        Raises:
          InputError: the record cannot be read.
        """
        found = self._data()
        return None if found is None else str(found["fingerprint"])

    def data_flags(self) -> dict[str, Any]:
        """Where the raw files and the prepared data were when the run was begun, by flags' names.

        Raises:
          InputError: the record cannot be read.
        """
        found = self._data() or {}
        paths = {name: (found.get("options") or {}).get(name) for name in PATH_OPTIONS}
        every = {**paths, "data_dir": found.get("data_dir")}
        return {name: path for name, path in every.items() if path is not None}

    def _data(self) -> dict[str, Any] | None:
        path = self.path / "data.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            _ = found["fingerprint"]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({error!r}); use another --workdir") from error
        return found

    def check_data(
        self, dataset: str, fingerprint: str, options: Mapping[str, Any] | None = None
    ) -> None:
        """Refuse a folder that belongs to another data set, or to another version's runs.

        Args:
          dataset: its name.
          fingerprint: of the prepared data.
          options: that they were prepared with; those that differ are named.

        Raises:
          InputError: it does, or it is not a folder.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"workdir {self.path} is a file, not a folder")
        recorded = self._data()
        if recorded is None:
            return
        made = recorded.pop("format", 1)
        if made != FORMAT:
            older = "an older" if isinstance(made, int) and made < FORMAT else "another"
            raise InputError(
                f"workdir {self.path} was begun by {older} version of this program (format {made}, "
                f"now {FORMAT}), whose flags and states differ; use another --workdir, or that "
                "version to go on with it"
            )
        before, _ = recorded.pop("options", None), recorded.pop("data_dir", None)
        if recorded != {"dataset": dataset, "fingerprint": fingerprint}:
            what = f"data set {dataset!r}"
            if recorded.get("dataset") == dataset:
                what = _changed_options(before, options) or "other data options or files"
            raise InputError(
                f"workdir {self.path} belongs to data set {recorded.get('dataset')!r}, and the "
                f"flags ask for {what}; use another --workdir"
            )

    def check_flags(self, phase: str, flags: Mapping[str, Any]) -> bool:
        """Whether the phase is finished, with these very flags; one under way must have them too.

        Raises:
          InputError: it was run with others; the message names the phase and the flags.
        """
        result, recorded = self.result(phase), self.flags_of(phase)
        if recorded is None:
            return False
        wanted, recorded = json.loads(json.dumps(flags)), {**UNRECORDED, **recorded}
        if phase in _CUT and "max_bundle_bytes" not in recorded:
            wanted = {name: value for name, value in wanted.items() if name not in _OF_BYTES}
        changed = [name for name in wanted if recorded.get(name) != wanted[name]]
        if changed:
            differences = ", ".join(
                f"--{name}={_as_flag(recorded.get(name))} (now {_as_flag(wanted[name])})"
                for name in changed
            )
            raise InputError(
                f"phase {phase} in {self.path} is {'begun' if result is None else 'finished'} with "
                f"{differences}; "
                f"use another --workdir, or remove {_and_later(phase)} there to run it again"
            )
        return result is not None

    def check_later(self, phase: str) -> None:
        """Refuse to run a phase anew under others that were built on its earlier outcome.

        Raises:
          InputError: there are such phases, finished or begun; the message names them.
        """
        later = [
            name
            for name in _BUILT_ON[phase]
            if self.result(name) is not None or self.begun_with(name) is not None
        ]
        if later:
            folders = " and ".join(f"{name}/" for name in later)
            raise InputError(
                f"{self.path} has no finished {phase}, but {folders} built on an earlier one; "
                f"remove {folders} there, or use another --workdir"
            )

    def start(
        self,
        phase: str,
        flags: Mapping[str, Any],
        dataset: str,
        fingerprint: str,
        options: Mapping[str, Any] | None = None,
        data_dir: PathLike | None = None,
    ) -> Path:
        """The folder of a phase: empty where it starts, as it was left where it goes on.

        The flags have passed :meth:`check_flags`; they and the data set are recorded, and where
        that lies, so that the folder says all that an export needs.
        """
        if processes.is_first():
            told: dict[str, Any] = {"dataset": dataset, "fingerprint": fingerprint}
            if options is not None:
                told["options"] = dict(options)
            if data_dir is not None:
                told["data_dir"] = os.path.realpath(Path(data_dir).expanduser())
            self._start(phase, flags, told)
        barrier.wait(f"{phase} begins")
        return self.phase_dir(phase)

    def _start(self, phase: str, flags: Mapping[str, Any], told: Mapping[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        data = self.path / "data.json"
        if not data.exists():
            write_json(data, {**told, "format": FORMAT})
        folder = self.phase_dir(phase)
        if self.begun_with(phase) is None:
            folder.rmtree(missing_ok=True)
            folder.mkdir(parents=True)
            write_json(folder / "begun.json", dict(flags))

    def withdraw(self, phase: str) -> None:
        """Forget a phase that was refused before it did anything: other flags may begin it then.

        One that has trained or scored is left as it is. Nor does the folder belong to a data set
        any more, where no phase is left in it.
        """
        folder = self.phase_dir(phase)
        if not processes.is_first() or not folder.exists() or _has_work(folder):
            return
        folder.rmtree()
        if not any(self.phase_dir(each).exists() for each in PHASES):
            (self.path / "data.json").unlink(missing_ok=True)

    def finish(self, phase: str, flags: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Record the outcome of a phase; from here on it is finished."""
        write_json(self.phase_dir(phase) / "result.json", {"flags": dict(flags), **record})
        self.clear(phase)
        barrier.wait(f"{phase} ends")

    def clear(self, phase: str) -> None:
        """Remove what a finished phase needed only while it was under way."""
        if processes.is_first():
            for leftover in ("checkpoints", UNDER_WAY):
                (self.phase_dir(phase) / leftover).rmtree(missing_ok=True)

    def require(self, phase: str, wanted_by: str) -> dict[str, Any]:
        """The record of a phase that another one builds on.

        Raises:
          InputError: it is not finished.
        """
        result = self.result(phase)
        if result is None:
            raise InputError(
                f"{wanted_by} needs the {phase} in {self.path}, which is not there; run "
                f"`python -m experiments.{phase}` with the same flags first"
            )
        return result


def _has_work(place: Path) -> bool:
    """Whether there is more in a phase's folder than what it notes first, and empty files."""
    if place.name in _BEFORE_WORK:
        return False
    if place.is_dir():
        return any(_has_work(Path(each)) for each in place.iterdir())
    return bool(place.stat().length)


def _as_flag(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _and_later(phase: str) -> str:
    folders = [f"{name}/" for name in (phase, *_BUILT_ON[phase])]
    return " and ".join([", ".join(folders[:-1]), folders[-1]] if len(folders) > 1 else folders)


def _changed_options(before: Any, now: Mapping[str, Any] | None) -> str | None:
    """What data flags were and are, of those that differ; None where that is not known."""
    if not isinstance(before, Mapping) or now is None:
        return None
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    told = [
        f"--{name}={_as_flag(now.get(name))} (begun with {_as_flag(before.get(name))})"
        for name in names
    ]
    return ", ".join(told) or "files with another content"
