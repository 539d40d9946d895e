"""A comparison of methods: its grid of runs, each a command of its own, and what each came to.

DIR/plan.json                     what is compared, and the flags of all runs
DIR/cells/<cell>/run/             the run of a method under a budget with a seed
DIR/cells/<cell>/bundle/          what it deploys
DIR/cells/<cell>/result.json      written last, so that its presence means the cell is finished

Data are prepared once. The plain model of a seed is trained once, and a supernet once for all
budgets that its flags do not depend on: the phase's folder is copied to where it is wanted next.
"""

import contextlib
import dataclasses
import fcntl
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.run.workdir import write_json
from optembed_jax.errors import InputError, Stopped
from optembed_jax.models.model_config import DEFAULT_ROW_KEEP
from optembed_jax.rivals.registry import OPTEMBED, rival_of

FULL = "full"
"""The plain model with the whole table, as it stands in a comparison."""

Record = dict[str, Any]

_LOCKS: list[int] = []
"""File descriptors of the locks that are held, which commands inherit."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A run of the grid.

    Attributes:
      method: of ``rivals.registry.METHODS``, or ``FULL``.
      share: of the parameters of the full table that may be kept, in (0, 1]; linear weights apart.
      seed: of the run.
    """

    method: str
    share: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.method}_{self.share!r}_{self.seed}"


@dataclasses.dataclass(frozen=True)
class Grid:
    """What is compared.

    Attributes:
      methods: of ``rivals.registry.METHODS``.
      shares: of the table's parameters.
      seeds: how many, from 0.
      parameters: of the full table.
      given: further flags of all runs, as a command line has them.

    Raises:
      InputError: nothing to compare, a method that is not there, or a share outside (0, 1].
    """

    methods: tuple[str, ...]
    shares: tuple[float, ...]
    seeds: int
    parameters: int
    given: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, values in (("methods", self.methods), ("budgets", self.shares)):
            if not values or len(set(values)) < len(values):
                raise InputError(f"--{name} must be given and differ: {','.join(map(str, values))}")
        for method in self.methods:
            rival_of(method)
        for share in self.shares:
            if not 0 < share <= 1:
                raise InputError(f"--budgets are shares of the table in (0, 1], not {share:g}")
        if self.seeds < 1:
            raise InputError(f"--seeds must be at least 1, not {self.seeds}")

    def cells(self) -> list[Cell]:
        """All runs, seed by seed, so that there is something to look at early."""
        found = []
        for seed in range(self.seeds):
            found += [Cell(m, share, seed) for share in self.shares for m in self.methods]
            found.append(Cell(FULL, 1.0, seed))
        return found

    def flags(self, cell: Cell) -> list[str]:
        """Of the run of a cell, but for its folder."""
        own = [f"--method={cell.method}", f"--seed={cell.seed}"]
        own.append(f"--max_table_parameters={int(cell.share * self.parameters)}")
        is_free = not any(flag.startswith("--row_keep=") for flag in self.given)
        if cell.method == OPTEMBED and is_free and cell.share > DEFAULT_ROW_KEEP:
            # The default's share of the rows could not spend so much.
            own.append(f"--row_keep={cell.share!r}")
        return [*self.given, *own]


def begin(folder: Path, grid: Grid) -> None:
    """Make the folder of a comparison, or go on with it; it may grow by methods, budgets, seeds.

    Raises:
      InputError: it is of another comparison.
    """
    plan, wanted = folder / "plan.json", json.loads(json.dumps(dataclasses.asdict(grid)))
    if plan.exists():
        found = json.loads(plan.read_text(encoding="utf-8"))
        of_all_runs = ("parameters", "given")
        changed = [name for name in of_all_runs if found.get(name) != wanted[name]]
        if changed:
            raise InputError(
                f"{folder} was begun with {changed[0]} {found.get(changed[0])}, and the flags ask "
                f"for {wanted[changed[0]]}; use another --workdir"
            )
    write_json(plan, wanted)


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


def run_cell(folder: Path, grid: Grid, cell: Cell) -> Record:
    """Run a cell, or read what it came to.

    A budget that the method cannot keep to is an outcome too: the record has its ``refused``.

    Raises:
      InputError: the run failed; the message says why.
    """
    place = folder / "cells" / cell.name
    result = place / "result.json"
    if result.exists():
        found: Record = json.loads(result.read_text(encoding="utf-8"))
        return found
    started = time.monotonic()
    place.mkdir(parents=True, exist_ok=True)
    source = place / "run"
    record: Record = dataclasses.asdict(cell)
    if cell.method == FULL:
        source = _trained_with(folder, grid, cell.seed, "baseline")
    else:
        _share_phases(folder, grid, cell)
        refused = _command("pipeline", [*grid.flags(cell), f"--workdir={source}"])
        if refused is not None:
            return _finished(result, {**record, "refused": refused})
    bundle = place / "bundle"
    phase = ["--phase=baseline"] if cell.method == FULL else []
    _require(
        _command("export", [f"--workdir={source}", f"--bundle={bundle}", *_where(grid), *phase])
    )
    summary = json.loads((source / "summary.json").read_text(encoding="utf-8"))
    of_model = summary["baseline" if cell.method == FULL else "retrain"]
    for name in ("val_auc", "test_auc", "test_logloss", "table_parameters", "total_parameters"):
        record[name] = of_model[name]
    record["bundle_bytes"] = sum(file.stat().st_size for file in bundle.iterdir())
    record["seconds"] = round(time.monotonic() - started, 1)
    return _finished(result, record)


def run_all(
    folder: Path, grid: Grid, say: Callable[[str], None], clock: Callable[[float], str]
) -> list[Record]:
    """Run all cells that are not finished; ``say`` is told of each, with what is left."""
    with locked(folder):
        begin(folder, grid)
        return _run_each(folder, grid, say, clock)


def _run_each(
    folder: Path, grid: Grid, say: Callable[[str], None], clock: Callable[[float], str]
) -> list[Record]:
    cells, records, spent = grid.cells(), list[Record](), list[float]()
    for number, cell in enumerate(cells, 1):
        started, is_new = (
            time.monotonic(),
            not (folder / "cells" / cell.name / "result.json").exists(),
        )
        records.append(run_cell(folder, grid, cell))
        if is_new:
            spent.append(time.monotonic() - started)
            left = (len(cells) - number) * sum(spent) / len(spent)
            told = records[-1].get("refused") or f"test AUC {records[-1]['test_auc']:.4f}"
            say(f"compare  {number} of {len(cells)}: {cell.name}  {told}  ETA {clock(left)}")
    return records


def _finished(result: Path, record: Record) -> Record:
    write_json(result, record)
    return record


def _where(grid: Grid) -> Sequence[str]:
    """Of the flags of a run those that an export is to be told again."""
    return [flag for flag in grid.given if flag.startswith("--data_dir=")]


def _share_phases(folder: Path, grid: Grid, cell: Cell) -> None:
    """Copy phases that another run of the seed has finished with the same flags."""
    run = folder / "cells" / cell.name / "run"
    rival = rival_of(cell.method)
    has_supernet = rival is None or rival.layer is not None
    phases = ("baseline", "supernet") if has_supernet else ("baseline",)
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
        is_alike = other.seed == cell.seed and other.method != FULL and other != cell
        if phase == "supernet":
            budget = "--max_table_parameters"
            flags, own = grid.flags(other), grid.flags(cell)
            is_alike &= [f for f in flags if not f.startswith(budget)] == [
                f for f in own if not f.startswith(budget)
            ]
        if is_alike and (run / phase / "result.json").exists():
            return run
    return None


def _trained_with(folder: Path, grid: Grid, seed: int, phase: str) -> Path:
    """A finished run of a seed.

    Raises:
      InputError: there is none.
    """
    for cell in grid.cells():
        run = folder / "cells" / cell.name / "run"
        is_its = cell.seed == seed and cell.method != FULL
        if is_its and (run / "summary.json").exists() and (run / phase / "result.json").exists():
            return run
    raise InputError(f"no run of seed {seed} in {folder} has kept to any budget; raise --budgets")


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
    if process.returncode == 2 and ("budget of" in last or "max_table_bytes=" in last):
        return last
    raise InputError(f"experiments.{main} of {' '.join(arguments)}: {last or process.returncode}")


def _require(refused: str | None) -> None:
    if refused is not None:
        raise InputError(refused)
