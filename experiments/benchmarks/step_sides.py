"""The sides of ``training_step``: a process each, of ours in JAX, of peers in their environment."""

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks.click_log import field_sizes, fields_of, zipf_batches
from experiments.benchmarks.peer_environment import PeerEnvironment
from experiments.benchmarks.step_comparison import BATCH, BATCHES, DIM, MLP_DIMS, Side
from experiments.benchmarks.timed_steps import Program
from optembed_jax.errors import InputError
from optembed_jax.step.optimisers import TrainConfig

SIDES = ("torch", "dense", "embedding", "sparse_torch", "fbgemm")
PEERS = ("torch", "sparse_torch", "fbgemm")
"""Those that run in an environment of their own, and have DeepFM alone."""

_PATH = os.pathsep.join(
    [str(pathlib.Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
)
"""So that every process imports these modules, whatever its interpreter has installed."""

ENVIRONMENT = PeerEnvironment(
    name="PyTorch's and FBGEMM's tables",
    requirements=pathlib.Path(__file__).parent / "sparse_peers" / "requirements.txt",
    program=("-m", "experiments.benchmarks.sparse_peers"),
    flag="--tables_python",
    variables={"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": _PATH},
)


@dataclasses.dataclass(frozen=True)
class Peers:
    """The interpreter that runs the sides of ``PEERS``.

    Attributes:
      python: its path.
      fbgemm_missing: why FBGEMM cannot be used there; None where it can.
      versions: of what is there.
    """

    python: str
    fbgemm_missing: str | None
    versions: Mapping[str, str]


def find_peers(
    sides: Sequence[str], python: str | None, folder: pathlib.Path, say: Callable[[str], None]
) -> Peers | None:
    """The peers, checked, in an environment that is made where need be; None where none is asked.

    Args:
      sides: of ``SIDES``.
      python: an interpreter that has them; None has an environment made.
      folder: of that environment.
      say: told before the long wait.

    Raises:
      InputError: a side that there is not, an interpreter without PyTorch, or no environment could
        be made.
    """
    for name in sides:
        if name not in SIDES:
            raise InputError(f"--sides: no {name!r}; there are {', '.join(SIDES)}")
    if not set(sides) & set(PEERS):
        return None
    if python is None:
        python = str(ENVIRONMENT.make(folder.expanduser().absolute(), say))
    found = ENVIRONMENT.check(python, {})
    missing = found.pop("missing")
    return Peers(python, missing, found)


def threads() -> int:
    """Cores that this process, and any that it starts, may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def our_program(side: Side) -> Program:
    """The process of a side in JAX. XLA takes as many threads as there are cores to use."""
    # On a GPU the first process would take most of the memory at once and leave the others little.
    variables = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ, "PYTHONPATH": _PATH}
    job = json.dumps(dataclasses.asdict(side))
    line = [sys.executable, "-m", "experiments.benchmarks.step_comparison", job]
    return Program(line, variables)


def peer_job(task: str, side: str, rows: int, arrays: pathlib.Path) -> dict[str, Any]:
    """What a peer is told, as ``sparse_peers/__main__.py`` describes it."""
    train = TrainConfig()
    return {
        "task": task,
        "side": side,
        "arrays": str(arrays),
        "sizes": field_sizes(rows),
        "dim": DIM,
        "mlp_dims": MLP_DIMS,
        "threads": threads(),
        **{name: getattr(train, name) for name in ("lr", "l2", "t_lr", "alpha")},
    }


def peer_program(peers: Peers, job: Mapping[str, Any]) -> Program:
    """The process of a side of ``PEERS``."""
    variables = ENVIRONMENT.surroundings(threads())
    return Program([peers.python, *ENVIRONMENT.program, json.dumps(job)], variables)


@contextlib.contextmanager
def batches_for_peers(rows: int) -> Iterator[pathlib.Path]:
    """A folder with the batches that our sides draw for themselves."""
    with tempfile.TemporaryDirectory(prefix="training_step_") as name:
        folder = pathlib.Path(name)
        ids, labels = zip(*zipf_batches(fields_of(rows), BATCH, BATCHES), strict=True)
        np.save(folder / "ids.npy", np.stack(ids))
        np.save(folder / "labels.npy", np.stack(labels))
        yield folder
