"""The command line of a training on either side, and how its outcome is read."""

import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from experiments.benchmarks.peer_environment import thread_variables
from experiments.benchmarks.peers.environment import ENVIRONMENT
from experiments.benchmarks.peers.grid import Run
from experiments.benchmarks.peers.handover import Handed

DIM, HIDDEN, CROSS_LAYERS = 16, (128, 64), 3
LR, BATCH_SIZE = 1e-3, 2048
PEERS_EPOCHS = 100
"""At most; early stopping ends a training long before."""

_ROOT = pathlib.Path(__file__).parents[3]
_OUTCOME = ("val_auc", "test_auc", "test_logloss", "test_calibration", "best_epoch", "epochs")


@dataclasses.dataclass(frozen=True)
class Command:
    """A process to be run.

    Attributes:
      line: the program and its arguments.
      variables: its environment.
      read: its outcome, of what it wrote to standard output.
    """

    line: list[str]
    variables: Mapping[str, str]
    read: Callable[[str], dict[str, Any]]


def our_flags(run: Run, handed: Handed) -> list[str]:
    """The flags of our commands: sizes, the rung and the seed; all else is their default."""
    given = {
        **handed.flags,
        "model": run.place.model,
        "mode": "none",
        "latent_dim": DIM,
        "mlp_dims": ",".join(map(str, HIDDEN)),
        "lr": LR,
        "batch_size": BATCH_SIZE,
        "seed": run.seed,
        **dict(run.rung.settings),
    }
    if run.place.model == "dcnv2":
        given["cross_layers"] = CROSS_LAYERS
    return [f"--{name}={value}" for name, value in given.items()]


def our_process(module: str, flags: list[str], threads: int | None) -> tuple[list[str], Any]:
    """Command line and environment of a module of ours, on the CPU."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    variables = {
        **os.environ,
        "PYTHONPATH": path,
        "JAX_PLATFORMS": "cpu",
        **thread_variables(threads),
    }
    return [sys.executable, "-m", module, *flags], variables


def our_training(run: Run, handed: Handed, folder: pathlib.Path) -> Command:
    """``experiments.baseline``, in a folder of its own."""
    flags = [*our_flags(run, handed), f"--workdir={folder}"]
    line, variables = our_process("experiments.baseline", flags, threads=1)

    def read(_: str) -> dict[str, Any]:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        found = summary["baseline"]
        outcome = {name: found[name] for name in _OUTCOME}
        versions = {name: summary["versions"][name] for name in ("optembed-jax", "jax")}
        return outcome | {"seconds": round(found["seconds"], 2), "versions": versions}

    return Command(line, variables, read)


def peer_job(run: Run, handed: Handed, task: str, threads: int | None) -> str:
    """What a peer is told, as ``process/__main__.py`` describes it."""
    return json.dumps(
        {
            "task": task,
            "side": run.place.side,
            "model": run.place.model,
            "arrays": str(handed.arrays),
            "sizes": handed.sizes,
            "dim": DIM,
            "hidden": HIDDEN,
            "cross_layers": CROSS_LAYERS,
            "lr": LR,
            "batch_size": BATCH_SIZE,
            "strength": dict(run.rung.settings)["strength"],
            "max_epochs": PEERS_EPOCHS,
            "seed": run.seed,
            "threads": threads,
        }
    )


def peer_training(run: Run, handed: Handed, python: str) -> Command:
    """The peers' program."""
    line = [python, *ENVIRONMENT.program, peer_job(run, handed, "train", threads=1)]
    return Command(line, ENVIRONMENT.surroundings(threads=1), json.loads)
