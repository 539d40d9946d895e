"""The training loop of all phases: shuffled epochs, early stopping, the best epoch kept."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax import metrics
from optembed_jax.errors import DivergedError, InputError
from optembed_jax.forward import ModelConfig, Params, Reading
from optembed_jax.parallel import Steps, one_device, one_device_evaluation
from optembed_jax.row_score import ScoreState
from optembed_jax.train import Phase, TrainConfig, TrainState, begin_epoch


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
    """What the loop needs of a reader, such as ``data.Reader``: equal batches, epoch by epoch."""

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch number ``start``."""


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes:
      number: from 1.
      loss: mean training loss.
      val_auc: of the validation split.
      val_logloss: of the validation split.
      rows_per_second: training rows over the time of the training steps.
      best: whether it is the best epoch so far.
    """

    number: int
    loss: float
    val_auc: float
    val_logloss: float
    rows_per_second: float
    best: bool


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The outcome of training.

    Attributes:
      params: of the best epoch by validation AUC.
      batch_stats: of the same epoch.
      epochs: all epochs, in order.
      scores: what the state gathered until then to choose rows by; None where it gathers nothing.
      steps: taken until then.
    """

    params: Params
    batch_stats: Any
    epochs: tuple[Epoch, ...]
    scores: ScoreState | None = None
    steps: int = 0

    @property
    def best(self) -> Epoch:
        """The epoch whose parameters these are."""
        return max(self.epochs, key=lambda epoch: (epoch.val_auc, -epoch.number))


def predict(
    params: Params,
    batch_stats: Any,
    batches: Batches,
    frozen: Reading,
    *,
    phase: Phase,
    model: ModelConfig,
    steps: Steps | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits, float32 ``[N]`` each, of every row of weight 1, in the reader's order.

    The reader gives every process all rows; ``steps`` are as in :func:`fit`.
    """
    step = one_device_evaluation(phase, model) if steps is None else steps.evaluate
    labels, logits = [], []
    for batch in batches.epoch(0):
        real = batch.weights > 0
        logits.append(np.asarray(step(params, batch_stats, batch.ids, frozen))[real])
        labels.append(batch.labels[real])
    return np.concatenate(labels), np.concatenate(logits)


def fit(
    state: TrainState,
    train_batches: Batches,
    validation_batches: Batches,
    frozen: Reading,
    *,
    phase: Phase,
    model: ModelConfig,
    train: TrainConfig,
    epochs: int,
    patience: int,
    on_step: Callable[[int, int, jax.Array], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    steps: Steps | None = None,
) -> Fitted:
    """Train until the validation AUC has not risen for ``patience`` epochs.

    Args:
      state: before the first step; its buffers are donated, so it cannot be used afterwards.
      train_batches: full batches of the training split, shuffled anew each epoch.
      validation_batches: of the validation split, the last one padded.
      frozen: what retraining reads of the table, or the index of a compact one;
        ``Selection()`` in the other phases.
      phase: of training.
      model: the model.
      train: the optimiser settings.
      epochs: at most this many, at least 1.
      patience: epochs without a new best before stopping, at least 1 (the reference's 1).
      on_step: called as ``(step of the epoch, steps of the epoch, loss)`` after each step; the
        loss is on the device, and reading it waits for the step.
      on_epoch: called after each epoch.
      steps: how steps run on the devices at hand, made with the same ``phase``, ``model`` and
        ``train``; None runs them on one device. What is fitted stays where the steps have it.

    Raises:
      InputError: ``epochs`` or ``patience`` below 1.
      DivergedError: a loss of an epoch, or a logit after it, is not finite.
    """
    if epochs < 1 or patience < 1:
        raise InputError(f"epochs and patience must be at least 1, not {epochs} and {patience}")
    steps = one_device(phase, model, train) if steps is None else steps
    state, frozen = steps.place(state), steps.place(frozen)
    history: list[Epoch] = []
    best = state
    since_best = 0
    for number in range(1, epochs + 1):
        state = begin_epoch(state)
        started, losses, rows = time.monotonic(), [], 0
        for index, batch in enumerate(train_batches.epoch(number)):
            state, loss = steps.train(state, batch.ids, batch.labels, frozen)
            losses.append(loss)
            rows += len(batch.labels)
            if on_step is not None:
                on_step(index + 1, train_batches.num_batches, loss)
        mean_loss = _mean_of_finite(losses, phase, number)
        state = steps.bring_up_to_date(state)
        seconds = time.monotonic() - started
        labels, logits = predict(
            state.params,
            state.batch_stats,
            validation_batches,
            frozen,
            phase=phase,
            model=model,
            steps=steps,
        )
        if not np.isfinite(logits).all():
            # The last step of the epoch did it: its own loss was still that of the step before.
            raise DivergedError(
                f"{phase.value}: after epoch {number} the model's logits are no longer finite; "
                "lower the learning rate"
            )
        val_auc = metrics.auc(labels, logits)
        is_best = not history or val_auc > max(epoch.val_auc for epoch in history)
        history.append(
            Epoch(
                number=number,
                loss=mean_loss,
                val_auc=val_auc,
                val_logloss=metrics.logloss(labels, logits),
                rows_per_second=rows / seconds,
                best=is_best,
            )
        )
        if is_best:
            # Copies, because the next step reuses the buffers that it is given.
            best = _copied_without_moments(state)
        since_best = 0 if is_best else since_best + 1
        if on_epoch is not None:
            on_epoch(history[-1])
        if since_best >= patience:
            break
    return Fitted(
        params=best.params,
        batch_stats=best.batch_stats,
        epochs=tuple(history),
        scores=best.scores,
        steps=int(best.step),
    )


def _copied_without_moments(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, dataclasses.replace(state, opt_state=None))


def _mean_of_finite(losses: list[jax.Array], phase: Phase, epoch: int) -> float:
    values = np.asarray(jax.device_get(losses), np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        first = int(np.argmin(finite)) + 1
        raise DivergedError(
            f"{phase.value}: the loss became {values[first - 1]} at step {first} of epoch {epoch}; "
            "lower the learning rate"
        )
    return float(values.mean())
