"""Labels and logits of a whole split, and what is asked of the reader of one."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from optembed_jax.devices.parallel import Steps, one_device_evaluation
from optembed_jax.models.forward import Embeds, Params
from optembed_jax.models.model_config import ModelConfig
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
        """float32 ``[B]``: 1 for a row, 0 for padding."""


class Batches(Protocol):
    """What is needed of a reader, such as ``data.Reader``: equal batches, epoch by epoch."""

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch number ``start``."""


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
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits, float32 ``[N]`` each, of every row of weight 1, in the reader's order.

    The reader gives every process all rows; ``steps`` are as in ``fit.fit``, and ``on_batch`` is
    called after each batch.
    """
    step = one_device_evaluation(phase, model) if steps is None else steps.evaluate
    labels, logits = [], []
    for batch in batches.epoch(0):
        real = batch.weights > 0
        logits.append(np.asarray(step(params, batch_stats, batch.ids, frozen))[real])
        labels.append(batch.labels[real])
        if on_batch is not None:
            on_batch()
    return np.concatenate(labels), np.concatenate(logits)
