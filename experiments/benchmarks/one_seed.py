"""Training steps from one seed, and a digest of what they leave: a process of its own.

    python -m experiments.benchmarks.one_seed '{"rows": 100000, "steps": 50, ...}'

The job is the arguments of :func:`run`; the answer is its outcome in JSON, on stdout.
"""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.click_log import fields_of, zipf_batches
from experiments.benchmarks.step_comparison import full_step
from experiments.run.deterministic import OPTION, is_known
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state


def run(rows: int, steps: int, batch: int, dim: int, mlp_dims: list[int]) -> dict[str, Any]:
    """Digest and median milliseconds of a supernet's steps, by sparse and by dense updates."""
    found = {}
    for update in ("sparse", "dense"):
        fields, model = fields_of(rows), ModelConfig("deepfm", dim, tuple(mlp_dims))
        train = TrainConfig(row_decay="group_lasso", table_update=update)
        state = init_state(jax.random.key(0), model, train, fields)
        step = jax.jit(full_step, static_argnums=(3, 4), donate_argnums=0)
        batches, taken = zipf_batches(fields, batch, 4), []
        for number in range(steps):
            started = time.perf_counter()
            state = jax.block_until_ready(step(state, *batches[number % 4], model, train))
            taken.append(1000 * (time.perf_counter() - started))
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves((state.params, state.batch_stats)):
            digest.update(np.asarray(leaf).tobytes())
        found[update] = {
            "digest": digest.hexdigest()[:16],
            "ms": round(statistics.median(taken[1:]), 3),
        }
    return found


def compare(job: dict[str, Any], ordered: bool) -> dict[str, Any]:
    """Two processes with one job: whether they leave the same bits, and what a step takes.

    Args:
      job: as of :func:`run`.
      ordered: whether XLA is asked for a fixed order, as ``--deterministic`` does.
    """
    surroundings = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if ordered:
        if not is_known(OPTION):
            return {"unknown_option": OPTION}
        given = surroundings.get("XLA_FLAGS", "")
        surroundings["XLA_FLAGS"] = f"{given} {OPTION}=true".strip()
    line = [sys.executable, "-m", "experiments.benchmarks.one_seed", json.dumps(job)]
    first, second = (
        json.loads(subprocess.run(line, env=surroundings, check=True, capture_output=True).stdout)
        for _ in range(2)
    )
    return {
        update: {
            "same_bits": first[update]["digest"] == second[update]["digest"],
            "ms": min(first[update]["ms"], second[update]["ms"]),
        }
        for update in first
    }


if __name__ == "__main__":
    print(json.dumps(run(**json.loads(sys.argv[1]))))
