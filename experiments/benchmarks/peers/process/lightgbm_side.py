"""LightGBM on given ids, read as ordered numbers: one line beside the neural models.

Its defaults (learning rate 0.1), with ``strength`` leaves to a tree and at most 2,000 trees, until
validation AUC has not risen for 50. A tree is an epoch. The seed draws which 90 % of rows and
fields a tree sees; without that, every seed would give the same trees.
"""

from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
from splits import Split, Trained, tell

TREES, PATIENCE = 2_000, 50


def train(job: dict[str, Any], train_split: Split, validation: Split) -> Trained:
    """Add trees until validation AUC no longer rises."""
    trained = lightgbm.Dataset(train_split.ids, train_split.labels)
    parameters = {
        "objective": "binary",
        "metric": "auc",
        "seed": job["seed"],
        "num_leaves": job["strength"],
        "bagging_fraction": 0.9,
        "bagging_freq": 1,
        "feature_fraction": 0.9,
        "deterministic": True,
        "num_threads": job["threads"] or 0,
        "verbose": -1,
    }
    booster = lightgbm.train(
        parameters,
        trained,
        TREES,
        valid_sets=[trained.create_valid(validation.ids, validation.labels)],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    best = booster.best_iteration or booster.current_iteration()
    auc = booster.best_score["valid_0"]["auc"]
    tell(best, auc, True)

    def predict(ids: np.ndarray) -> np.ndarray:
        return np.asarray(booster.predict(ids, num_iteration=best))

    return Trained(auc, best, booster.current_iteration(), predict)


def epoch_to_time(job: dict[str, Any], train_split: Split) -> Callable[[], int]:
    """Trees have no epochs over rows."""
    raise NotImplementedError("LightGBM is not timed in rows per second")
