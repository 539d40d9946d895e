"""A side of ``training_step`` in PyTorch: a job in JSON, answered as ``timed_steps`` says.

It runs in an environment of its own, with PyTorch and NumPy but without JAX.

``JOB`` is a JSON object. Its ``task`` is ``check``: answers with the versions found, and with
``missing``, why FBGEMM cannot be used, or null. ``time``: takes steps when asked to.
``follow``: takes a step on each batch, and answers with the ``losses`` and, of the last batch's
first examples, ``values`` of the table afterwards. The last two need ``side`` (``torch``, the
supernet under dense Adam; ``sparse_torch``, ``fbgemm``, or either with ``_embedding``),
``arrays`` (a folder with ``ids.npy``, int32 ``[N, B, F]``, ``labels.npy``, float32 ``[N, B]``, and,
to begin with given values, ``start.npz``), ``sizes`` (rows of each field), ``dim``, ``mlp_dims``,
``threads``, and ``lr``, ``l2``, ``t_lr``, ``alpha``.
"""

import importlib.metadata
import json
import pathlib
import sys
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.sparse_peers.steps import (
    Step,
    deepfm_step,
    embedding_step,
    network_of,
)
from experiments.benchmarks.sparse_peers.tables import TABLES, PeerTable
from experiments.benchmarks.timed_steps import answers, serve
from experiments.benchmarks.torch_supernet import make_step

EXAMPLES_SHOWN = 8


def check() -> dict[str, Any]:
    """Versions of what is there, and why FBGEMM is not, if it is not."""
    found: dict[str, Any] = {"torch": torch.__version__, "missing": None}
    try:
        TABLES["fbgemm"]([8], 4, 0.1).read(torch.zeros((1, 1), dtype=torch.int32))
        found["fbgemm-gpu-cpu"] = importlib.metadata.version("fbgemm-gpu-cpu")
    except Exception as error:  # A build for another PyTorch fails in many ways.
        found["missing"] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found


def side_of(job: dict[str, Any], start: Any) -> tuple[PeerTable | None, Step]:
    """The table, unless it is the dense supernet's, and the step of a job's side."""
    torch.manual_seed(0)
    sizes, dim = job["sizes"], job["dim"]
    if job["side"] == "torch":
        return None, make_step(
            sum(sizes), len(sizes), dim, job["mlp_dims"],
            lr=job["lr"], l2=job["l2"], t_lr=job["t_lr"], alpha=job["alpha"],
        )  # fmt: skip
    name = job["side"].removesuffix("_embedding")
    table = TABLES[name](sizes, dim, job["lr"])
    if start is not None:
        table.start(start)
    if name != job["side"]:
        return table, embedding_step(table)
    network = network_of(len(sizes) * dim, job["mlp_dims"], start)
    return table, deepfm_step(table, network, job["lr"], job["l2"])


def main() -> None:
    """Do what the job says."""
    job = json.loads(sys.argv[1])
    with answers() as answer:
        if job["task"] == "check":
            answer(check())
            return
        torch.set_num_threads(job["threads"])
        folder = pathlib.Path(job["arrays"])
        ids, labels = (np.load(folder / f"{name}.npy") for name in ("ids", "labels"))
        start = folder / "start.npz"
        table, step = side_of(job, dict(np.load(start)) if start.exists() else None)
        batches = list(zip(ids, labels, strict=True))
        if job["task"] == "time":
            serve(step, batches, answer, sys.stdin)
            return
        losses = [step(*batch) for batch in batches]
        assert table is not None
        values = table.values(torch.from_numpy(ids[-1][:EXAMPLES_SHOWN]))
        answer({"losses": losses, "values": values.tolist()})


if __name__ == "__main__":
    main()
