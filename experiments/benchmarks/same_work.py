"""Whether the sides of ``training_step`` do the same work, on a small table that all begin with.

A batch is repeated, so that each of its rows is read in every step: then SparseAdam, which counts
the steps of all rows together, and our rule, which counts each row's own, correct their moments
alike.
"""

import functools
import json
import pathlib
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import step_comparison
from experiments.benchmarks.click_log import fields_of, zipf_batches
from experiments.benchmarks.peer_environment import last_line
from experiments.benchmarks.step_sides import Peers, peer_job, peer_program
from optembed_jax.errors import InputError
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import TrainState, init_state
from optembed_jax.step.train_step import Phase, train_step

ROWS, STEPS = 2_000, 6
TOLERANCE = 1e-3
"""Of losses, and of values relative to their largest."""

_LINEAR_WIDTH = 4
"""Columns over which FBGEMM's table of linear weights takes its mean."""


def check(peers: Peers, sides: Sequence[str]) -> dict[str, float]:
    """How far the peers' losses, and their tables, are from what they should be.

    Returns:
      ``sparse_torch_loss_gap``: the largest difference of a loss, of some steps, from ours without
      decay of rows. ``fbgemm_loss_gap``: the same of the first step, before any update.
      ``..._table_gap``: the largest difference of the embedding part's rows from the rule reckoned
      by NumPy, as a share of the largest value.

    Raises:
      InputError: one is larger than ``TOLERANCE``.
    """
    asked = [name for name in ("sparse_torch", "fbgemm") if name in sides]
    if peers.fbgemm_missing is not None and "fbgemm" in asked:
        asked.remove("fbgemm")
    gaps: dict[str, float] = {}
    if not asked:
        return gaps
    batch = zipf_batches(fields_of(ROWS), step_comparison.BATCH, 1)[0]
    state = first_state()
    start = arrays_of(state)
    with tempfile.TemporaryDirectory(prefix="same_work_") as name:
        folder = pathlib.Path(name)
        np.save(folder / "ids.npy", np.stack([batch[0]] * STEPS))
        np.save(folder / "labels.npy", np.stack([batch[1]] * STEPS))
        np.savez(folder / "start.npz", **start)  # type: ignore[arg-type]
        losses = our_losses(state, *batch)
        for side in asked:
            counted = STEPS if side == "sparse_torch" else 1
            followed = np.array(_follow(peers, side, folder)["losses"])
            gaps[f"{side}_loss_gap"] = _largest(followed[:counted] - losses[:counted])
            values = np.array(_follow(peers, f"{side}_embedding", folder)["values"])
            expected = expected_values(side, start["rows"], start["linear"], batch[0])
            gap = _largest(values - expected[batch[0][: len(values)]])
            gaps[f"{side}_table_gap"] = gap / _largest(expected)
    for name, gap in gaps.items():
        if not gap <= TOLERANCE:
            raise InputError(
                f"the sides of the benchmark do not do the same work: {name} is {gap:.2g}, above "
                f"{TOLERANCE}; install the versions of sparse_peers/requirements.txt"
            )
    return gaps


def first_state(table_optimiser: str = "adam") -> TrainState:
    """What all sides begin with; linear weights that are not zero have a gradient to check."""
    train = TrainConfig(row_decay="none", table_update="sparse", table_optimiser=table_optimiser)
    state = init_state(jax.random.key(0), _model(), train, fields_of(ROWS))
    linear = 0.1 * jax.random.normal(jax.random.key(1), (ROWS,))
    table = state.params.table.replace(linear=linear)
    return state.replace(params=state.params.replace(table=table))  # type: ignore[attr-defined]


def arrays_of(state: TrainState) -> dict[str, np.ndarray]:
    """What ``start.npz`` holds: the table, and the kernels of the network in their order."""
    network = state.params.network
    layers = [network["mlp"][f"Dense_{n}"] for n in range(len(step_comparison.MLP_DIMS))]
    layers.append(network["logit"]["Dense_0"])
    kernels = {f"kernel_{n}": layer["kernel"] for n, layer in enumerate(layers)}
    table = {"rows": state.params.table.rows, "linear": state.params.table.linear}
    return {name: np.array(array) for name, array in (table | kernels).items()}


def our_losses(state: TrainState, ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each step on the same batch, float ``[STEPS]``; the state is used up."""
    step = functools.partial(
        train_step,
        phase=Phase.BASELINE,
        model=_model(),
        train=TrainConfig(row_decay="none", table_update="sparse"),
    )
    jitted, losses = jax.jit(step, donate_argnums=0), []
    for _ in range(STEPS):
        state, loss = jitted(state, ids, labels, Selection())
        losses.append(float(loss))
    return np.array(losses)


def expected_values(side: str, rows: np.ndarray, linear: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Tables after the embedding part's steps on one batch, in float64.

    Args:
      side: ``sparse_torch`` (Adam) or ``fbgemm`` (row-wise Adagrad).
      rows: ``[V, D]``, before.
      linear: ``[V]``, before.
      ids: int ``[B, F]``.

    Returns:
      ``[V, D + 1]``, linear weights last.
    """
    lr, table = TrainConfig().lr, np.column_stack([rows, linear]).astype(np.float64)
    reads = np.bincount(ids.reshape(-1), minlength=len(table))
    mu, nu, total = np.zeros_like(table), np.zeros_like(table), np.zeros((len(table), 2))
    for step in range(1, STEPS + 1):
        # Half the square of what is read: a row's gradient is itself, once for each reading.
        gradient = table * reads[:, None]
        gradient[:, -1] = 0
        np.add.at(gradient[:, -1], ids, table[ids, -1].sum(axis=1, keepdims=True))
        if side == "sparse_torch":
            mu, nu = 0.9 * mu + 0.1 * gradient, 0.999 * nu + 0.001 * gradient**2
            table -= lr * (mu / (1 - 0.9**step)) / (np.sqrt(nu / (1 - 0.999**step)) + 1e-8)
        else:
            total[:, 0] += np.mean(gradient[:, :-1] ** 2, axis=1)
            total[:, 1] += gradient[:, -1] ** 2 / _LINEAR_WIDTH
            scale = np.repeat(np.sqrt(total) + 1e-8, [rows.shape[1], 1], axis=1)
            table -= lr * gradient / scale
    return table


def _model() -> ModelConfig:
    return ModelConfig("deepfm", step_comparison.DIM, step_comparison.MLP_DIMS, mode="none")


def _follow(peers: Peers, side: str, folder: pathlib.Path) -> dict[str, Any]:
    program = peer_program(peers, peer_job("follow", side, ROWS, folder))
    done = subprocess.run(
        list(program.line), env=dict(program.variables), capture_output=True, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"the side {side} failed: {last_line(done.stderr)}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _largest(array: np.ndarray) -> float:
    return float(np.max(np.abs(array)))
