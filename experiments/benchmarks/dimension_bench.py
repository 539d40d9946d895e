"""What the comparisons of dimensions share: a model, its supernet, and retraining at given dims.

All are trained as the commands train by default, as is what ``row_pruning_bench`` compares: under
the group lasso, with an output that begins at the click rate and a learning rate that falls on a
plateau.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import row_pruning_bench
from experiments.benchmarks.arrays import Problem, Split
from experiments.benchmarks.row_pruning_bench import BATCH_SIZE, LATENT_DIM, LR_PLATEAU
from optembed_jax import metrics
from optembed_jax.fitness.validation_fitness import ValidationFitness, make_fitness
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.search.space import SearchSpace
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_step import Phase
from optembed_jax.training.fit import Fitted
from optembed_jax.training.prediction import predict

TRAIN = TrainConfig(row_decay="group_lasso", table_optimiser="rowwise_adam", lr_plateau=LR_PLATEAU)
VALIDATION_ROWS = 10_000
"""Validation rows of a data set that has more: the first ones of the prepared, shuffled order."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """A data set, a backbone and a seed.

    Attributes:
      problem: the data.
      backbone: name of the model.
      seed: of initial values, of the order of the training rows, and of searches.
    """

    problem: Problem
    backbone: str
    seed: int

    @property
    def model(self) -> ModelConfig:
        """Every row is kept; only dimensions differ."""
        return ModelConfig(self.backbone, latent_dim=LATENT_DIM, mlp_dims=(128, 64), mode="embed")

    @property
    def full_parameters(self) -> int:
        """Of the table with all columns."""
        return LATENT_DIM * self.problem.fields.num_features

    def space(self, share: float = 1.0) -> SearchSpace:
        """Dimensions for a share of the full table's parameters."""
        rows = np.array([self.problem.fields.sizes], np.int64)
        return SearchSpace(rows, LATENT_DIM, int(share * self.full_parameters))

    def key(self, use: int) -> jax.Array:
        """A PRNG key for each use."""
        return jax.random.fold_in(jax.random.key(self.seed), use)


def supernet_fitness(bench: Bench) -> ValidationFitness:
    """Train the supernet; its judgement of candidates."""
    fitted = _train(bench, Phase.SUPERNET, Selection(), bench.seed)
    return make_fitness(
        bench.model, fitted.params, fitted.batch_stats, None, *_rows(bench, "validation")
    )


def retrained(
    bench: Bench, dims: np.ndarray, seed: int | None = None, rows: np.ndarray | None = None
) -> dict[str, Any]:
    """A fresh model at given dimensions, and what it came to.

    Args:
      bench: what to train on.
      dims: int32 ``[F]``.
      seed: of initial values and the order of rows; None is the bench's.
      rows: bool ``[V]``, rows kept; None keeps all.
    """
    # Dimensions are data, not shapes, so that one compiled step serves every retraining.
    mask = None if rows is None else jnp.asarray(rows)
    frozen = Selection(rows=mask, dims=jnp.asarray(dims, jnp.int32))
    fitted = _train(bench, Phase.RETRAIN, frozen, bench.seed if seed is None else seed)
    labels, logits, _ = predict(
        fitted.params,
        fitted.batch_stats,
        Split(*bench.problem.arrays["test"], 4 * BATCH_SIZE),
        frozen,
        phase=Phase.RETRAIN,
        model=bench.model,
    )
    return {
        "val_auc": fitted.best.val_auc,
        "test_auc": metrics.auc(labels, logits),
        "test_logloss": metrics.logloss(labels, logits),
        "best_epoch": fitted.best.number,
        "epochs": len(fitted.epochs),
    }


def _train(bench: Bench, phase: Phase, frozen: Selection, seed: int) -> Fitted:
    """As what rows are compared by is trained, judged by fewer validation rows."""
    arrays = {**bench.problem.arrays, "validation": _rows(bench, "validation")}
    problem = dataclasses.replace(bench.problem, arrays=arrays)
    of_rows = row_pruning_bench.Bench(problem, bench.backbone, seed)
    return row_pruning_bench.train_once(of_rows, phase, bench.model, TRAIN, frozen)


def _rows(bench: Bench, name: str) -> tuple[np.ndarray, np.ndarray]:
    ids, labels = bench.problem.arrays[name]
    count = VALIDATION_ROWS if name == "validation" else len(ids)
    return ids[:count], labels[:count]
