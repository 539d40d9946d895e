"""deepctr-torch's models on given ids.

DeepFM, and DCN with ``cross_parameterization="matrix"``, which is DCN-V2 (with the linear term that
all models of the library have). As it is by default: embeddings and the perceptron's kernels begin
at N(0, 1e-4); no dropout; Adam over every row; no clipping, no schedule. Batch normalisation is on,
as in our perceptron. Its ``EarlyStopping`` ends the training after two epochs without a higher
validation AUC, and keeps the best.

Its ``fit`` leaves the model in evaluation mode after the first validation, where batch statistics
stay as they are; a callback of ours puts it back in training mode before each epoch.

Its loss is the *sum* over a batch, and its L2 is ``l2`` times the squared norm, without the half.
So that one strength means the same for every peer, ``l2 = strength * batch_size / 2`` is what it is
given, for embeddings and linear weights alike. (Its DCN takes ``l2_reg_linear`` and hands it to its
last layer only; the linear weights stay at 1e-5. For that layer it is left at the default.)
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from deepctr_torch.callbacks import Callback, EarlyStopping
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models import DCN, DeepFM
from splits import Split, Trained, tell

_PREDICTED_AT_ONCE = 16_384


class _Telling(Callback):
    def __init__(self) -> None:
        super().__init__()
        self.aucs: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.model.train()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        auc = (logs or {})["val_auc"]
        tell(epoch + 1, auc, auc > max(self.aucs, default=-1.0))
        self.aucs.append(auc)


def _model(job: dict[str, Any]) -> Any:
    columns = [
        SparseFeat(f"field_{number}", size, embedding_dim=job["dim"])
        for number, size in enumerate(job["sizes"])
    ]
    l2 = job["strength"] * job["batch_size"] / 2
    shared = {
        "dnn_hidden_units": tuple(job["hidden"]),
        "dnn_use_bn": True,
        "l2_reg_embedding": l2,
        "seed": job["seed"],
    }
    if job["model"] == "deepfm":
        model = DeepFM(columns, columns, l2_reg_linear=l2, **shared)
    else:
        model = DCN(
            columns,
            columns,
            cross_num=job["cross_layers"],
            cross_parameterization="matrix",
            **shared,
        )
    adam = torch.optim.Adam(model.parameters(), lr=job["lr"])
    model.compile(adam, "binary_crossentropy", metrics=["auc"])
    return model


def _columns(ids: np.ndarray) -> list[np.ndarray]:
    return [ids[:, [field]] for field in range(ids.shape[1])]


def train(job: dict[str, Any], train_split: Split, validation: Split) -> Trained:
    """Train until validation AUC has not risen for two epochs."""
    model, telling = _model(job), _Telling()
    stopping = EarlyStopping("val_auc", patience=2, mode="max", restore_best_weights=True)
    model.fit(
        _columns(train_split.ids),
        train_split.labels,
        batch_size=job["batch_size"],
        epochs=job["max_epochs"],
        verbose=0,
        validation_data=(_columns(validation.ids), validation.labels),
        callbacks=[telling, stopping],
    )
    if stopping.best_weights is not None:
        # It does so itself only where it stopped the training.
        model.load_state_dict(stopping.best_weights)
    best = int(np.argmax(telling.aucs))

    def predict(ids: np.ndarray) -> np.ndarray:
        return model.predict(_columns(ids), _PREDICTED_AT_ONCE).ravel()

    return Trained(telling.aucs[best], best + 1, len(telling.aucs), predict)


def epoch_to_time(job: dict[str, Any], train_split: Split) -> Callable[[], int]:
    """An epoch of the library's own loop, without validation."""
    model = _model(job)

    def epoch() -> int:
        model.fit(
            _columns(train_split.ids),
            train_split.labels,
            batch_size=job["batch_size"],
            epochs=1,
            verbose=0,
        )
        return len(train_split.labels)

    return epoch
