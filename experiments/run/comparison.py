"""A comparison of methods: its grid of runs, each a command of its own, and what each came to.

DIR/plan.json                     what is compared, and the flags of all runs
DIR/cells/<cell>/run/             the run of a method under a budget with a seed
DIR/cells/<cell>/bundle/          what it deploys
DIR/cells/<cell>/result.json      written last, so that its presence means the cell is finished

Data are prepared once. The plain model of a seed is tuned and trained once, first of all, and a
supernet once for all budgets that its flags do not depend on: the phase's folder is copied to where
it is wanted next. What a cell came to are figures of the model as its bundle stores it.

Nothing here asks JAX for its devices: they belong to the commands, and some to one process alone.
"""

import contextlib
import dataclasses
import fcntl
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from experiments.run import cli
from experiments.run.comparison_grid import BYTES, FULL, PARAMETERS, Cell, Grid, parts_of
from experiments.run.comparison_record import (
    OF_MODEL,
    as_stored,
    figures,
    finished_record,
)
from experiments.run.records import Record, read_json, write_json
from experiments.run.workdir import UNRECORDED
from optembed_jax.errors import InputError, Stopped
from optembed_jax.rivals.registry import rival_of
from optembed_jax.serving.bundle_format import MANIFEST

_OF_EXPORT = ("counts", "data_dir", "fine_tune_steps", "full_ids", "max_auc_drop", "platforms")
"""Of the flags of all runs those that an export is told too."""

_OF_THEN = (
    f"--table_optimiser={UNRECORDED['table_optimiser']}",
    "--group_lasso=0.001",
    "--fine_tune_steps=0",
)
_FINE_TUNED = "--fine_tune_steps"
"""What comparisons did not tell their commands while it was the default of all."""

_LOCKS: list[int] = []
"""File descriptors of the locks that are held, which commands inherit."""


def check_folder(folder: Path, of_all_runs: Mapping[str, Any]) -> None:
    """Refuse a folder that was begun as another comparison.

    Args:
      folder: of the comparison; need not be there.
      of_all_runs: attributes of a grid that all its runs have in common, as far as they are known.

    Raises:
      InputError: it was, or what it was begun with cannot be read.
    """
    plan = folder / "plan.json"
    if not plan.exists():
        return
    wanted = json.loads(json.dumps(of_all_runs))
    before = {"counts": PARAMETERS, "data": wanted.get("data")}  # What was not recorded always.
    found = {**before, **read_json(plan, "use another --workdir")}
    given, asked = found.get("given"), wanted.get("given", [])
    advice = "use another --workdir"
    if isinstance(given, list) and all(isinstance(text, str) for text in given):
        told, known = (set(map(_name_of, texts)) for texts in (given, asked))
        untold = {_name_of(text): text for text in _OF_THEN if _name_of(text) in known - told}
        if _FINE_TUNED in untold and not _has_codes(found):
            # Whatever is asked for is of no bundle that there is.
            untold[_FINE_TUNED] = next(t for t in asked if _name_of(t) == _FINE_TUNED)
        begun = sorted([*given, *untold.values()])
        if begun == sorted(asked):
            found["given"] = asked
        elif begun == sorted(untold.get(_name_of(text), text) for text in asked):
            advice = f"give {' '.join(untold.values())} to go on with it, or {advice}"
    changed = [name for name in wanted if found.get(name) != wanted[name]]
    if changed:
        was, asks = _differences(found.get(changed[0]), wanted[changed[0]])
        raise InputError(
            f"{folder} was begun with {changed[0]} {was}, and the flags ask for {asks}; {advice}"
        )


def _name_of(flag: str) -> str:
    return flag.partition("=")[0]


def _has_codes(plan: Mapping[str, Any]) -> bool:
    """Whether bundles of a comparison may be stored in codes."""
    given = [*plan.get("methods", []), *plan.get("given", [])]
    is_stored = any(":" in text or _name_of(text) == "--storage" for text in given)
    return is_stored or plan.get("counts") == BYTES


def _differences(before: Any, now: Any) -> tuple[Any, Any]:
    """What was and what is asked for, of two lists of flags only those that differ."""
    if not all(isinstance(each, list) for each in (before, now)):
        return before, now
    gone, come = ([t for t in a if t not in b] for a, b in ((before, now), (now, before)))
    if not gone and not come:  # Another order.
        return before, now
    of_gone, of_come = ({_name_of(str(text)) for text in texts} for texts in (gone, come))
    was = [*map(str, gone), *(f"no {name}" for name in sorted(of_come - of_gone))]
    asks = [*map(str, come), *(f"no {name}" for name in sorted(of_gone - of_come))]
    return ", ".join(was), ", ".join(asks)


def begin(folder: Path, grid: Grid) -> None:
    """Make the folder of a comparison, or go on with it; it may grow by methods, budgets, seeds.

    Raises:
      InputError: it is of another comparison, or its plan cannot be read.
    """
    of_all_runs = {name: getattr(grid, name) for name in ("parameters", "given", "counts", "data")}
    check_folder(folder, of_all_runs)
    write_json(folder / "plan.json", dataclasses.asdict(grid))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a comparison's folder: two commands in one run would spoil it.

    The commands of cells hold it too, so that one that outlives a killed comparison is waited for.

    Raises:
      InputError: another comparison, or a run that it left behind, holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder} is held by another comparison, or by a run that a killed one left "
                "behind; wait until it has ended"
            ) from error
        _LOCKS.append(file.fileno())
        try:
            yield
        finally:
            _LOCKS.remove(file.fileno())


def run_cell(folder: Path, grid: Grid, cell: Cell, full_bytes: int = 0) -> Record:
    """Run a cell, or read what it came to.

    A budget that the method cannot keep to is an outcome too: the record has its ``refused``.

    Args:
      folder: of the comparison.
      grid: what is compared.
      cell: of the grid.
      full_bytes: of the full model's bundle, where budgets are of bytes.

    Raises:
      InputError: the run failed, or what it came to cannot be read; the message says why.
    """
    place = folder / "cells" / cell.name
    result = place / "result.json"
    if result.exists():
        return finished_record(result, cell)
    place.mkdir(parents=True, exist_ok=True)
    source, bundle, is_full = place / "run", place / "bundle", cell.method == FULL
    record: Record = dataclasses.asdict(cell)
    _share_phases(folder, grid, cell)
    asked = [*grid.flags(cell, full_bytes), f"--workdir={source}"]
    mains = ["baseline"] if is_full else ["pipeline"]
    if is_full and grid.is_tuned:
        mains.insert(0, "tune")
    refused = None
    for main in mains:
        refused = refused or _command(main, asked)
    if refused is None:
        asked = [f"--workdir={source}", f"--bundle={bundle}"]
        # What fewer bits lose is part of what is compared.
        asked += ["--max_auc_drop=1"] if grid.counts == BYTES else []
        asked += _told_again(grid)
        asked += ["--phase=baseline", "--storage=float32"] if is_full else []
        refused = _command("export", asked)
    if refused is not None:
        record["refused"] = refused
        write_json(result, record)
        return record
    again = f"remove {source}"
    summary = read_json(source / "summary.json", again)
    of_model = summary.get("baseline" if is_full else "retrain")
    record |= figures(source / "summary.json", of_model, OF_MODEL, again)
    record |= as_stored(bundle / MANIFEST, again)
    record["bundle_bytes"] = sum(file.stat().st_size for file in bundle.iterdir())
    # Of its phases, whoever ran them: of a run that went on, or took phases over, the clock says
    # less.
    phases = [phase for phase in summary.values() if isinstance(phase, dict)]
    record["seconds"] = round(sum(phase.get("seconds", 0.0) for phase in phases), 1)
    record["versions"] = summary.get("versions", {})
    write_json(result, record)
    return record


def run_all(
    folder: Path,
    grid: Grid,
    say: Callable[[str], None],
    clock: Callable[[float], str],
    unsuited: Mapping[str, str] = MappingProxyType({}),
) -> list[Record]:
    """Run all cells that are not finished.

    Args:
      folder: of the comparison.
      grid: what is compared.
      say: told of each cell that has ended, and how long the others will take.
      clock: seconds as they are told.
      unsuited: methods of the grid that do not take these data, and why: their cells are refused
        without being run.
    """
    with locked(folder):
        begin(folder, grid)
        return _run_each(folder, grid, say, clock, unsuited)


def _run_each(
    folder: Path,
    grid: Grid,
    say: Callable[[str], None],
    clock: Callable[[float], str],
    unsuited: Mapping[str, str],
) -> list[Record]:
    cells, records, spent, full_bytes = grid.cells(), list[Record](), list[float](), 0

    def is_run(cell: Cell) -> bool:
        is_finished = (folder / "cells" / cell.name / "result.json").exists()
        return not is_finished and cell.method not in unsuited

    to_run = {cell for cell in cells if is_run(cell)}
    for number, cell in enumerate(cells, 1):
        started = time.monotonic()
        if cell.method in unsuited:
            records.append({**dataclasses.asdict(cell), "refused": unsuited[cell.method]})
        else:
            records.append(run_cell(folder, grid, cell, full_bytes))
        if not full_bytes:  # The first is the plain model of the first seed.
            full_bytes = int(records[0]["bundle_bytes"])
        if cell in to_run:
            to_run.remove(cell)
            spent.append(time.monotonic() - started)
            left = len(to_run) * sum(spent) / len(spent)
            told = records[-1].get("refused") or f"test AUC {records[-1]['test_auc']:.4f}"
            say(f"compare  {number} of {len(cells)}: {cell.name}  {told}  ETA {clock(left)}")
    return records


def _told_again(grid: Grid) -> list[str]:
    """Of the flags of a run those that an export is to be told again."""
    found = []
    for flag in grid.given:
        name, _, value = flag.removeprefix("--").partition("=")
        is_own_backbone = name == "model" and ":" in value
        if is_own_backbone or name.removeprefix("no") in _OF_EXPORT:
            found.append(flag)
    return found


def _share_phases(folder: Path, grid: Grid, cell: Cell) -> None:
    """Copy phases that another run of the seed has finished with the same flags."""
    if cell.method == FULL:
        return
    run = folder / "cells" / cell.name / "run"
    rival = rival_of(parts_of(cell.method)[0])
    has_supernet = rival is None or rival.layer is not None
    phases = (*(("tune",) if grid.is_tuned else ()), "baseline")
    phases += ("supernet",) if has_supernet else ()
    for phase in phases:
        source = _finished_in(folder, grid, cell, phase)
        if source is None or (run / phase).exists():
            continue
        under_way = run / f".{phase}"
        shutil.rmtree(under_way, ignore_errors=True)
        shutil.copytree(source / phase, under_way)
        under_way.rename(run / phase)


def _finished_in(folder: Path, grid: Grid, cell: Cell, phase: str) -> Path | None:
    """The run with the phase that this cell needs."""
    for other in grid.cells():
        run = folder / "cells" / other.name / "run"
        is_alike = other.seed == cell.seed and other != cell
        if phase == "supernet":
            is_alike &= _of_supernet(grid, other) == _of_supernet(grid, cell)
        if is_alike and (run / phase / "result.json").exists():
            return run
    return None


def _of_supernet(grid: Grid, cell: Cell) -> list[str]:
    """The flags of a cell that its supernet depends on."""
    of_its_end = (f"--{PARAMETERS}=", f"--{BYTES}=", "--storage=")
    return [flag for flag in grid.flags(cell) if not flag.startswith(of_its_end)]


def _command(main: str, arguments: Sequence[str]) -> str | None:
    """Run a main; None, or the error by which it refused a budget.

    Raises:
      InputError: any other failure.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", f"experiments.{main}", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=_LOCKS,
    )
    try:
        told = process.communicate()[1]
    except BaseException:
        process.terminate()  # It saves what it needs to go on.
        process.wait()
        raise
    last = (told.strip().splitlines() or [""])[-1].removeprefix("error: ")
    if "stopped by SIGTERM" in last:
        raise Stopped("SIGTERM")
    if process.returncode == 0:
        return None
    if process.returncode == cli.BUDGET_REFUSED:
        return last
    raise InputError(f"experiments.{main} of {' '.join(arguments)}: {last or process.returncode}")
