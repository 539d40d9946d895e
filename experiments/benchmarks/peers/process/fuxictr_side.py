"""FuxiCTR's models on given ids.

FuxiCTR's wheel has the layers, the loop (``BaseModel``) and models for long sequences; DeepFM and
DCN-V2 stand in its repository only. They are put together here of its layers, in the same form:
DeepFM is its ``FactorizationMachine`` (with linear weights) plus its ``MLP_Block``; DCN-V2 its
``CrossNetV2`` beside its ``MLP_Block``, both read by one linear layer ("parallel").

Batch normalisation is on, as in our perceptron (its default is off: test AUC on flights .779
instead of .795, after twice the epochs). As it is by default: embeddings begin at N(0, 1e-4),
kernels Xavier-normal; no dropout; Adam over every row; ``embedding_regularizer`` adds
``strength / 2`` times the squared norm of all embeddings (those of the linear weights, too) to the
mean loss; gradients are clipped at a norm of 10; when validation AUC does not rise, the learning
rate is multiplied by 0.1, and two such epochs in a row end the training; the best epoch is kept.
Fields are in the order of the ids. Its preparation and its loaders are left out: batches are cut
from shuffled arrays in memory.
"""

import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import CrossNetV2, FactorizationMachine, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from splits import Split, Trained, tell
from torch import nn

_LABEL = "label"
_PREDICTED_AT_ONCE = 16_384


def _names(fields: int) -> list[str]:
    return [f"field_{number}" for number in range(fields)]


def _feature_map(job: dict[str, Any]) -> FeatureMap:
    made = FeatureMap("ours", data_dir="")
    made.labels = [_LABEL]
    for name, size in zip(_names(len(job["sizes"])), job["sizes"], strict=True):
        made.features[name] = {"source": "", "type": "categorical", "vocab_size": size}
    made.num_fields = made.get_num_fields()
    made.total_features = sum(job["sizes"])
    made.default_emb_dim = job["dim"]
    made.set_column_index()
    return made


class Batches:
    """Batches as FuxiCTR's loaders give them: a dictionary of columns."""

    def __init__(self, split: Split, batch_size: int, shuffled: bool) -> None:
        self._columns = torch.from_numpy(np.ascontiguousarray(split.ids.T.astype(np.int64)))
        self._labels = torch.from_numpy(split.labels)
        self._batch_size, self._shuffled = batch_size, shuffled

    def __len__(self) -> int:
        return -(-len(self._labels) // self._batch_size)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rows = len(self._labels)
        order = torch.randperm(rows) if self._shuffled else torch.arange(rows)
        names = _names(len(self._columns))
        for taken in order.split(self._batch_size):
            batch = dict(zip(names, self._columns[:, taken], strict=True))
            yield {**batch, _LABEL: self._labels[taken]}


class Model(BaseModel):
    """What both backbones share: embeddings, the loop, and what is told of each epoch."""

    def __init__(self, job: dict[str, Any], folder: str) -> None:
        self.features = _feature_map(job)
        super().__init__(
            self.features,
            model_id=job["model"],
            embedding_regularizer=job["strength"] or None,
            monitor="AUC",
            metrics=["AUC"],
            model_root=folder,
            verbose=0,
        )
        pathlib.Path(self.model_dir).mkdir(exist_ok=True)
        self.history: list[float] = []
        self.embedding = FeatureEmbedding(self.features, job["dim"])
        self.add_layers(job, self.features.sum_emb_out_dim())
        self.compile("adam", "binary_crossentropy", job["lr"])
        self.reset_parameters()
        self.model_to_device()

    def add_layers(self, job: dict[str, Any], width: int) -> None:
        """The backbone's own layers, over embeddings of ``width`` numbers."""
        raise NotImplementedError

    def logits(self, inputs: dict[str, torch.Tensor], embedded: torch.Tensor) -> torch.Tensor:
        """``[B, 1]`` of embeddings ``[B, F, D]``."""
        raise NotImplementedError

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Probabilities ``[B, 1]``."""
        inputs = self.get_inputs(batch)
        logits = self.logits(inputs, self.embedding(inputs))
        return {"y_pred": self.output_activation(logits)}

    def checkpoint_and_earlystop(self, logs: dict[str, float], min_delta: float = 1e-6) -> None:
        """Tell of the epoch before FuxiCTR decides on it."""
        self.history.append(logs["AUC"])
        tell(len(self.history), logs["AUC"], logs["AUC"] > self._best_metric)
        super().checkpoint_and_earlystop(logs, min_delta)


class DeepFM(Model):
    """Linear weights, FM interaction, perceptron: their sum."""

    def add_layers(self, job: dict[str, Any], width: int) -> None:
        """See :class:`Model`."""
        self.fm = FactorizationMachine(self.features)
        self.mlp = MLP_Block(width, hidden_units=job["hidden"], output_dim=1, batch_norm=True)

    def logits(self, inputs: dict[str, torch.Tensor], embedded: torch.Tensor) -> torch.Tensor:
        """See :class:`Model`."""
        return self.fm(inputs, embedded) + self.mlp(embedded.flatten(start_dim=1))


class DCNv2(Model):
    """Cross layers beside a perceptron, and a linear layer over both."""

    def add_layers(self, job: dict[str, Any], width: int) -> None:
        """See :class:`Model`."""
        self.cross = CrossNetV2(width, job["cross_layers"])
        self.mlp = MLP_Block(width, hidden_units=job["hidden"], batch_norm=True)
        self.last = nn.Linear(width + job["hidden"][-1], 1)

    def logits(self, inputs: dict[str, torch.Tensor], embedded: torch.Tensor) -> torch.Tensor:
        """See :class:`Model`."""
        flat = embedded.flatten(start_dim=1)
        return self.last(torch.cat([self.cross(flat), self.mlp(flat)], dim=-1))


MODELS = {"deepfm": DeepFM, "dcnv2": DCNv2}


def train(job: dict[str, Any], train_split: Split, validation: Split) -> Trained:
    """Train until validation AUC has not risen for two epochs."""
    seed_everything(job["seed"])
    with tempfile.TemporaryDirectory() as folder:
        model = MODELS[job["model"]](job, folder)
        model.fit(
            Batches(train_split, job["batch_size"], shuffled=True),
            epochs=job["max_epochs"],
            validation_data=Batches(validation, _PREDICTED_AT_ONCE, shuffled=False),
        )
    best = int(np.argmax(model.history))

    def predict(ids: np.ndarray) -> np.ndarray:
        rows = Split(ids, np.zeros(len(ids), np.float32))
        return model.predict(Batches(rows, _PREDICTED_AT_ONCE, shuffled=False))

    return Trained(model.history[best], best + 1, len(model.history), predict)


def epoch_to_time(job: dict[str, Any], train_split: Split) -> Callable[[], int]:
    """An epoch of FuxiCTR's own loop, without validation."""
    seed_everything(job["seed"])
    with tempfile.TemporaryDirectory() as folder:
        model = MODELS[job["model"]](job, folder)
    batches = Batches(train_split, job["batch_size"], shuffled=True)
    # What ``fit`` sets before its first epoch; no step is a multiple of so many.
    model._eval_steps, model._total_steps, model._stop_training = 2**62, 0, False
    model._max_gradient_norm = 10.0

    def epoch() -> int:
        model.train_epoch(batches)
        return len(train_split.labels)

    return epoch
