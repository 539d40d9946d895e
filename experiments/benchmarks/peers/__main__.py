"""Our models against FuxiCTR's and deepctr-torch's, with LightGBM as a line beside them.

    python -m experiments.benchmarks.peers --json=FILE.json [--runs=FILE.jsonl]
        [--raw_dir=MOVIELENS] [--jobs=16] [--peers_env=DIR | --peers_python=PATH]
        [--datasets=flights] [--models=deepfm] [--sides=ours,fuxictr] [--ladder=0,3,6]
        [--margin=0.005] [--choosing_seeds=3] [--seeds=5] [--stages=train,time]

All sides get the ids that our preparation makes of flights and MovieLens by default (``min_count``,
the random split), D = 16, a perceptron of 128 and 64 units with batch normalisation, Adam at 1e-3,
batches of 2,048. Ours is ``experiments.baseline`` with its default flags otherwise. The peers are
as good as they come: FuxiCTR's learning rate falls on a plateau and its gradients are clipped, see
the docstrings of ``process/``. Each side climbs a ladder of strengths (``grid.LADDERS``) with one
seed; the rungs with nearly the best validation AUC are trained with further seeds, and the one with
the best mean of those with all (``grid.Grid``).

Stage ``train`` runs each training in a process on a core of its own, ``--jobs`` at once, and
appends it to ``--runs``; the same command goes on where it was stopped. Stage ``time`` follows when
nothing else runs: the sides of a place take turns of an epoch. Without either, what ``--runs``
holds is reported. docs/peers.md says what the figures mean.
"""

import pathlib
import sys
import tempfile

from absl import flags

from experiments.benchmarks import json_file, runs_file
from experiments.benchmarks.peers import commands, report, timing, training
from experiments.benchmarks.peers.environment import ENVIRONMENT
from experiments.benchmarks.peers.grid import (
    DATASETS,
    FIRST_SEED,
    KEY,
    LADDERS,
    MODELS,
    SIDES,
    Grid,
    Run,
    places,
)
from experiments.benchmarks.peers.handover import hand_over
from experiments.run import cli
from experiments.run.progress import Progress
from optembed_jax.errors import InputError

STAGES = ("train", "time")
_LONGEST = max(map(len, LADDERS.values()))

_RUNS = flags.DEFINE_string(
    "runs",
    None,
    "JSONL file to which finished trainings are appended; None: beside --json, ending in .jsonl.",
)
_STAGES = flags.DEFINE_list("stages", list(STAGES), f"Of {', '.join(STAGES)}; empty reports.")
_DATASETS = flags.DEFINE_list("datasets", list(DATASETS), f"Of {', '.join(DATASETS)}.")
_MODELS = flags.DEFINE_list("models", list(MODELS), f"Of {', '.join(MODELS)}.")
_SIDES = flags.DEFINE_list("sides", list(SIDES), f"Of {', '.join(SIDES)}.")
_LADDER = flags.DEFINE_list(
    "ladder", [str(number) for number in range(_LONGEST)], "Numbers of the rungs to try, from 0."
)
_MARGIN = flags.DEFINE_float(
    "margin",
    0.005,
    "Rungs whose validation AUC is behind the best by no more than this get --choosing_seeds.",
    lower_bound=0.0,
)
_CHOOSING_SEEDS = flags.DEFINE_integer(
    "choosing_seeds", 3, "Seeds by whose mean one of them is chosen.", lower_bound=1
)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Seeds of the chosen rung.", lower_bound=1)
_JOBS = flags.DEFINE_integer("jobs", 1, "Trainings at once, a core each.", lower_bound=1)
_TURNS = flags.DEFINE_integer("turns", 5, "Timed epochs of each side.", lower_bound=1)
_CORES = flags.DEFINE_integer(
    "timing_cores", 1, "Cores of each side in stage time; 0 is all there are.", lower_bound=0
)
_PEERS_ENV = flags.DEFINE_string(
    "peers_env", "~/.cache/optembed_jax/peers", "Folder of the peers' environment, made if absent."
)
_PEERS_PYTHON = flags.DEFINE_string(
    "peers_python", None, "An interpreter that has the peers already, instead of --peers_env."
)
_RAW_DIR = flags.DEFINE_string("raw_dir", None, "Folder of MovieLens; left out without it.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "~/.cache/optembed_jax", "Folder in which prepared data sets are kept."
)


def chosen_grid() -> Grid:
    """What the flags ask for.

    Raises:
      InputError: a name or a number that there is not.
    """
    flags_of = (_STAGES, _DATASETS, _MODELS, _SIDES)
    for flag, known in zip(flags_of, (STAGES, DATASETS, MODELS, SIDES), strict=True):
        for name in flag.value:
            if name not in known:
                raise InputError(f"--{flag.name}: no {name!r}; there are {', '.join(known)}")
    try:
        rungs = tuple(int(number) for number in _LADDER.value)
    except ValueError as error:
        raise InputError(f"--ladder must be numbers of rungs, such as 0,3,6: {error}") from error
    if not rungs or min(rungs) < 0 or max(rungs) >= _LONGEST:
        raise InputError(f"--ladder must be numbers of rungs from 0 to {_LONGEST - 1}")
    datasets = list(_DATASETS.value)
    if "movielens" in datasets and _RAW_DIR.value is None and _STAGES.value:
        datasets.remove("movielens")
        print("movielens is left out: --raw_dir says where its files are", file=sys.stderr)
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + _SEEDS.value))
    met = places(datasets, _MODELS.value, _SIDES.value)
    return Grid(met, rungs, seeds, _CHOOSING_SEEDS.value, _MARGIN.value)


def peers_python(grid: Grid, progress: Progress) -> str | None:
    """The peers' interpreter, made where need be, and checked; None where no peer is asked for."""
    sides = [side for side in SIDES if side != "ours" and any(p.side == side for p in grid.places)]
    if not sides:
        return None
    python = _PEERS_PYTHON.value
    if python is None:
        folder = pathlib.Path(_PEERS_ENV.value).expanduser().absolute()
        python = str(ENVIRONMENT.make(folder, progress.say))
    found = ENVIRONMENT.check(python, {"sides": sides})
    progress.say("peers: " + ", ".join(f"{name} {version}" for name, version in found.items()))
    return python


def main() -> None:
    """Train what is missing, time what was not timed, report."""
    grid, progress = chosen_grid(), Progress()
    path = runs_file.path_of(_RUNS.value, json_file.JSON.value)
    if _STAGES.value:
        with tempfile.TemporaryDirectory(prefix="peers_arrays_") as folder:
            _run_stages(grid, path, pathlib.Path(folder), progress)
    summary = report.summarise(grid, runs_file.read(path, KEY))
    print(report.tables(summary))
    json_file.write({**json_file.machine(), **summary})


def _run_stages(grid: Grid, path: pathlib.Path, folder: pathlib.Path, progress: Progress) -> None:
    python = peers_python(grid, progress)
    data_dir = pathlib.Path(_DATA_DIR.value).expanduser()
    names = dict.fromkeys(place.dataset for place in grid.places)
    handed = {name: hand_over(name, data_dir, _RAW_DIR.value, folder) for name in names}

    def command_of(run: Run, own: pathlib.Path) -> commands.Command:
        data = handed[run.place.dataset]
        if run.place.side == "ours":
            return commands.our_training(run, data, own)
        assert python is not None
        return commands.peer_training(run, data, python)

    if "train" in _STAGES.value:
        training.train_all(grid, path, _JOBS.value, command_of, progress)
    if "time" in _STAGES.value:
        for runs in timing.wanted(grid, runs_file.read(path, KEY)):
            place = runs[0].place
            progress.say(f"timing {place.dataset} {place.model}")
            timed = timing.time_place(
                runs, handed[place.dataset], python, _TURNS.value, _CORES.value
            )
            list(runs_file.append(path, timed))


if __name__ == "__main__":
    cli.run(main)
