"""One training of the comparison of ways to prune rows, and the record that it leaves.

All models share the sizes and the loop of :func:`train_once`, which is that of the commands by
default: the output begins at the click rate, and the learning rate falls on a plateau. All that are
pruned to a budget share the retraining too, so that they differ in nothing but the rows they keep.
"""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.arrays import Problem, Split
from experiments.benchmarks.runs_file import Record
from optembed_jax import metrics
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.parameter_count import count_parameters
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase
from optembed_jax.table.score import keep_best, kept_by_frequency
from optembed_jax.training.early_stopping import EarlyStopping
from optembed_jax.training.fit import Fitted, fit
from optembed_jax.training.prediction import Predicted, predict

KEEP_RATES = (0.5, 0.2, 0.1, 0.05)
LATENT_DIM, BATCH_SIZE, EPOCHS = 16, 1024, 20
LR_PLATEAU, PATIENCE, STOPPING = "0.1", 1, EarlyStopping(errors=3.0)
"""The commands' defaults; patience counts from the first cut of the learning rate."""
PATIENCE_AT_ONE_RATE = 2
"""Of what has no plateau: decoupled decay, and hashing, whose loop is its own."""

ALL = Selection()


@dataclasses.dataclass(frozen=True)
class Bench:
    """What a method is run on.

    Attributes:
      problem: the data.
      backbone: name of the model.
      seed: of initial values and of the order of the training rows.
    """

    problem: Problem
    backbone: str
    seed: int

    def model(self, **options: Any) -> ModelConfig:
        """The model of all methods, apart from how it is pruned."""
        given = {"latent_dim": LATENT_DIM, "mode": "none", **options}
        return ModelConfig(self.backbone, mlp_dims=(128, 64), **given)

    def split(self, name: str) -> Split:
        """Batches of a split; those of the training split are shuffled."""
        ids, labels = self.problem.arrays[name]
        if name == "train":
            return Split(ids, labels, BATCH_SIZE, self.seed)
        return Split(ids, labels, 4 * BATCH_SIZE)


def train_once(
    bench: Bench,
    phase: Phase,
    model: ModelConfig,
    train: TrainConfig,
    frozen: Selection = ALL,
    *,
    gather_scores: bool = False,
) -> Fitted:
    """A model trained until validation AUC no longer rises."""
    if train.row_decay != "decoupled":
        train = dataclasses.replace(train, lr_plateau=LR_PLATEAU)
    state = init_state(
        key_of(bench, phase),
        model,
        train,
        bench.problem.fields,
        click_rate=float(np.mean(bench.problem.arrays["train"][1])),
        gather_scores=gather_scores,
    )
    return fit(
        state,
        bench.split("train"),
        bench.split("validation"),
        frozen,
        phase=phase,
        model=model,
        train=train,
        epochs=EPOCHS,
        patience=PATIENCE if train.plateau else PATIENCE_AT_ONE_RATE,
        stopping=STOPPING,
    )


def retrained(
    bench: Bench,
    method: str,
    keep: float | None,
    model: ModelConfig,
    train: TrainConfig,
    rows: np.ndarray,
) -> Record:
    """A model trained with these rows, bool ``[V]``, alone."""
    started, frozen = time.monotonic(), Selection(rows=jnp.asarray(rows))
    fitted = train_once(bench, Phase.RETRAIN, model, train, frozen)
    record = record_of(bench, method, keep, Phase.RETRAIN, model, fitted, frozen)
    return record | {"seconds": round(time.monotonic() - started, 2)}


def unpruned_run(
    bench: Bench, method: str, model: ModelConfig, train: TrainConfig, keep: float
) -> Record:
    """A model trained with every row."""
    started = time.monotonic()
    fitted = train_once(bench, Phase.BASELINE, model, train)
    record = record_of(bench, method, keep, Phase.BASELINE, model, fitted)
    return record | {"seconds": round(time.monotonic() - started, 2)}


def as_trained(
    bench: Bench, method: str, keep: float, model: ModelConfig, fitted: Fitted, scores: np.ndarray
) -> Record:
    """A training that knew every row, without those that scores float ``[V]`` do not keep."""
    frozen = Selection(rows=jnp.asarray(best_share(bench, scores, keep)))
    record = record_of(bench, method, keep, Phase.RETRAIN, model, fitted, frozen)
    cut = _predicted(bench, "validation", Phase.RETRAIN, model, fitted, frozen)
    return record | {"val_auc": metrics.auc(*cut), "seconds": 0.0}


def best_share(bench: Bench, scores: np.ndarray, keep: float) -> np.ndarray:
    """The best rows by scores float ``[V]``, bool ``[V]``."""
    return keep_best(scores, round(keep * bench.problem.fields.num_features))


def record_of(
    bench: Bench,
    method: str,
    keep: float | None,
    phase: Phase,
    model: ModelConfig,
    fitted: Fitted,
    frozen: Selection = ALL,
) -> Record:
    """What a trained model came to on the test split, and what it holds."""
    fields = bench.problem.fields
    labels, logits, _ = _predicted(bench, "test", phase, model, fitted, frozen)
    rows = np.ones(fields.num_features, bool) if frozen.rows is None else np.asarray(frozen.rows)
    count = count_parameters(model, fitted.params, fields, rows)
    bands = kept_by_frequency(bench.problem.counts, rows)
    return {
        "dataset": bench.problem.name,
        "model": bench.backbone,
        "seed": bench.seed,
        "method": method,
        "keep": keep,
        "rows_kept": int(rows.sum()),
        "table_parameters": count.table,
        "full_parameters": fields.num_features * LATENT_DIM,
        "val_auc": fitted.best.val_auc,
        "test_auc": metrics.auc(labels, logits),
        "test_logloss": metrics.logloss(labels, logits),
        "best_epoch": fitted.best.number,
        "epochs": len(fitted.epochs),
        "kept_by_frequency": [band["rows_kept"] for band in bands],
    }


def _predicted(
    bench: Bench, split: str, phase: Phase, model: ModelConfig, fitted: Fitted, frozen: Selection
) -> Predicted:
    return predict(
        fitted.params,
        fitted.batch_stats,
        bench.split(split),
        frozen,
        phase=phase,
        model=model,
    )


def key_of(bench: Bench, phase: Phase) -> jax.Array:
    """The PRNG key of a phase."""
    return jax.random.fold_in(jax.random.key(bench.seed), list(Phase).index(phase))
