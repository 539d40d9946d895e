"""One run of the comparison: a model trained with all rows, or with those that its scores kept."""

import base64
import dataclasses
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import arrays, runs_file
from experiments.benchmarks.arrays import Problem, Split
from experiments.benchmarks.regulariser.plan import KEY, UNPRUNED
from experiments.benchmarks.regulariser.variants import FAMILIES
from experiments.benchmarks.runs_file import Record
from experiments.benchmarks.workers import Job
from optembed_jax import metrics
from optembed_jax.errors import DivergedError, InputError
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase
from optembed_jax.table.score import keep_best, row_scores
from optembed_jax.training.fit import fit
from optembed_jax.training.prediction import predict

BATCH_SIZE = 2048
KEEPS = (0.2, 0.1, 0.05)
"""Shares of the rows that a model is pruned to."""

MODEL = ModelConfig(
    "deepfm",
    latent_dim=16,
    mlp_dims=(128, 64),
    mode="feature",
    mode_threshold="budget",
    mode_oov="oov",
)
"""Of all runs, as the commands prune rows by default. Before the cut it is the unpruned model."""


def run(job: Job, *, folder: pathlib.Path, runs: pathlib.Path) -> Record:
    """Train a model and score it on the test split.

    Args:
      job: which one, see ``plan.KEY``. A pruned one needs its unpruned run among the finished.
      folder: of the data sets' arrays.
      runs: the file of finished runs.

    Returns:
      The record; one of a training that diverged says so and has no scores.
    """
    problem = arrays.read(folder / job["dataset"])
    rows = None if job["keep"] == UNPRUNED else _chosen_rows(job, runs)
    started = time.monotonic()
    try:
        outcome = train(problem, job, rows)
    except DivergedError as error:
        outcome = {"diverged": str(error)}
    return job | outcome | {"seconds": round(time.monotonic() - started, 2)}


def train(problem: Problem, job: Job, rows: np.ndarray | None) -> dict[str, Any]:
    """What a training comes to.

    Args:
      problem: the data set.
      job: see ``plan.KEY``.
      rows: to train with, bool ``[V]``; None has all, and gathers scores to choose them by.

    Raises:
      DivergedError: a loss or a logit is not finite.
    """
    family, seed = FAMILIES[job["family"]], job["seed"]
    config = family.train(job["rung"])
    phase = Phase.SUPERNET if rows is None else Phase.RETRAIN
    frozen = Selection(rows=None if rows is None else jnp.asarray(rows))
    key = jax.random.fold_in(jax.random.key(seed), list(Phase).index(phase))
    click_rate = float(np.mean(problem.arrays["train"][1]))
    state = init_state(
        key,
        MODEL,
        config,
        problem.fields,
        click_rate=click_rate if family.loop.at_click_rate else None,
        gather_scores=rows is None,
    )
    fitted = fit(
        state,
        Split(*problem.arrays["train"], BATCH_SIZE, seed),
        Split(*problem.arrays["validation"], 4 * BATCH_SIZE),
        frozen,
        phase=phase,
        model=MODEL,
        train=config,
        epochs=family.loop.epochs,
        patience=family.loop.patience,
        stopping=family.loop.stopping,
    )
    labels, logits, _ = predict(
        fitted.params,
        fitted.batch_stats,
        Split(*problem.arrays["test"], 4 * BATCH_SIZE),
        frozen,
        phase=phase,
        model=MODEL,
    )
    outcome = {
        "val_auc": fitted.best.val_auc,
        "val_logloss": fitted.best.val_logloss,
        "test_auc": metrics.auc(labels, logits),
        "test_logloss": metrics.logloss(labels, logits),
        "test_calibration": metrics.calibration(labels, logits),
        "best_epoch": fitted.best.number,
        "epochs": len(fitted.epochs),
        "rows": problem.fields.num_features if rows is None else int(rows.sum()),
        "config": dataclasses.asdict(config),
    }
    if rows is None:
        assert fitted.scores is not None
        scores = row_scores(fitted.scores, fitted.params.table.rows, problem.fields, fitted.steps)
        # Beside the run's figures, so that the file of runs is all that pruned runs need.
        outcome["kept"] = {f"{keep:g}": as_text(_best(scores, keep)) for keep in KEEPS}
    return outcome


def _best(scores: np.ndarray, keep: float) -> np.ndarray:
    return keep_best(scores, round(keep * len(scores)))


def _chosen_rows(job: Job, runs: pathlib.Path) -> np.ndarray:
    """The rows that the unpruned run kept, bool ``[V]``."""
    wanted = job | {"keep": UNPRUNED}
    for record in runs_file.read(runs, KEY):
        if all(record[name] == wanted[name] for name in KEY):
            return from_text(record["kept"][f"{job['keep']:g}"])
    raise InputError(f"{runs} has no unpruned run to choose the rows of {job} by")


def as_text(mask: np.ndarray) -> str:
    """A mask, bool ``[V]``, as JSON can hold it: its length and its bits."""
    return f"{len(mask)}:{base64.b64encode(np.packbits(mask).tobytes()).decode()}"


def from_text(text: str) -> np.ndarray:
    """The mask of :func:`as_text`."""
    length, bits = text.split(":")
    packed = np.frombuffer(base64.b64decode(bits), np.uint8)
    return np.unpackbits(packed, count=int(length)).astype(bool)
