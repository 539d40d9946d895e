"""Labels and logits of a whole split, and what is asked of the reader of one."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from optembed_jax.devices.parallel import Steps, one_device_evaluation
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Embeds
from optembed_jax.step.train_step import Phase


class Batch(Protocol):
    """Rows of a split, as a reader hands them out."""

    @property
    def ids(self) -> np.ndarray:
        """int32 ``[B, F]``."""

    @property
    def labels(self) -> np.ndarray:
        """float32 0/1 ``[B]``."""

    @property
    def weights(self) -> np.ndarray:
        """float32 ``[B]``: how much a row counts, 1 where all count alike; 0 for padding."""


class Batches(Protocol):
    """What is needed of a reader, such as ``data.Reader``: equal batches, epoch by epoch."""

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""

    @property
    def is_weighted(self) -> bool:
        """Whether some rows count more than others."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch number ``start``."""


class Predicted(NamedTuple):
    """What a model says of a split's rows, as ``metrics`` takes it.

    Attributes:
      labels: float32 0/1 ``[N]``.
      logits: float32 ``[N]``.
      weights: float32 ``[N]``, above 0; None where all rows count alike.
    """

    labels: np.ndarray
    logits: np.ndarray
    weights: np.ndarray | None


def predict(
    params: Params,
    batch_stats: Any,
    batches: Batches,
    frozen: Embeds,
    *,
    phase: Phase,
    model: ModelConfig,
    steps: Steps | None = None,
    on_batch: Callable[[], None] | None = None,
) -> Predicted:
    """Labels and logits of every row that is no padding, in the reader's order.

    The reader gives every process all rows; ``steps`` are as in ``fit.fit``, and ``on_batch`` is
    called after each batch.
    """
    step = one_device_evaluation(phase, model) if steps is None else steps.evaluate
    labels, logits, weights = [], [], []
    for batch in batches.epoch(0):
        real = batch.weights > 0
        logits.append(np.asarray(step(params, batch_stats, batch.ids, frozen))[real])
        labels.append(batch.labels[real])
        weights.append(batch.weights[real])
        if on_batch is not None:
            on_batch()
    return Predicted(
        np.concatenate(labels),
        np.concatenate(logits),
        np.concatenate(weights) if batches.is_weighted else None,
    )
