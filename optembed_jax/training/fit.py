"""The training loop of all phases: shuffled epochs, early stopping, the best epoch kept.

With a ``Saving`` it is also saved, and goes on from there: see ``resume``.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.devices.parallel import Steps, one_device
from optembed_jax.errors import CheckpointError, DivergedError, InputError, Stopped
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Reading
from optembed_jax.step.learning_rate import lr_scale
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import TrainState, begin_epoch, with_lr_scale
from optembed_jax.step.train_step import Phase
from optembed_jax.table.score import ScoreState
from optembed_jax.table.stochastic_rounding import widened
from optembed_jax.training.early_stopping import EarlyStopping, Judged
from optembed_jax.training.prediction import Batches, predict
from optembed_jax.training.resume import Epoch, Position, Saving, best_of

_UNREAD_LOSSES = 100  # steps after which a loss that is no number is noticed


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The outcome of training.

    Attributes:
      params: of the best epoch, in float32.
      batch_stats: of the same epoch.
      epochs: all epochs, in order.
      scores: what the state gathered until then to choose rows by; None where it gathers nothing.
      steps: taken until then.
      opt_state: of the same epoch, up to date; None where nothing was saved.
      rounds: in which rows were asked for, in all those steps and the most in one, see
        ``TrainState``.
    """

    params: Params
    batch_stats: Any
    epochs: tuple[Epoch, ...]
    scores: ScoreState | None = None
    steps: int = 0
    rounds: tuple[int, int] = (0, 0)
    opt_state: Any = None

    @property
    def best(self) -> Epoch:
        """The epoch whose parameters these are."""
        return best_of(self.epochs)


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
    stopping: EarlyStopping | None = None,
    on_step: Callable[[int, int, jax.Array], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    steps: Steps | None = None,
    position: Position | None = None,
    saving: Saving | None = None,
    logit_shift: float = 0.0,
) -> Fitted:
    """Train until the validation has not become better for ``patience`` epochs.

    With ``train.lr_plateau`` for so many after the learning rate was cut (``Position.is_over``).

    Args:
      state: before the first step, or as :func:`resume` gives it; its buffers are donated, so it
        cannot be used afterwards.
      train_batches: full batches of the training split, shuffled anew each epoch.
      validation_batches: of the validation split, the last one padded.
      frozen: what retraining reads of the table, or the index of a compact one;
        ``Selection()`` in the other phases.
      phase: of training.
      model: the model.
      train: the optimiser settings.
      epochs: at most this many, at least 1.
      patience: epochs without a new best before stopping, at least 1 (the reference's 1).
      stopping: what is better, and by how much an epoch has to be worse to count; None is the
        reference's: every epoch without a better AUC.
      on_step: called as ``(step of the epoch, steps of the epoch, loss)`` after each step; the
        loss is on the device, and reading it waits for the step.
      on_epoch: called after each epoch.
      steps: how steps run on the devices at hand, made with the same ``phase``, ``model`` and
        ``train``; None runs them on one device. What is fitted stays where the steps have it.
      position: where ``state`` stands; None is the beginning. One that is past its first epoch
        needs the ``saving`` that it came from, which holds the best epoch.
      saving: None saves nothing, and keeps a copy of the best epoch on the device instead.
      logit_shift: is added to logits before an epoch is judged, where validation rows are clicked
        more or less often than training rows for reasons that are known.

    Raises:
      InputError: ``epochs`` or ``patience`` below 1.
      DivergedError: a loss, the state to be saved, or a logit after an epoch is not finite; the
        message names the step and the last good checkpoint.
      CheckpointError: a checkpoint cannot be written.
      Stopped: ``saving.stop`` asked for it, and the state is saved.
    """
    if epochs < 1 or patience < 1:
        raise InputError(f"epochs and patience must be at least 1, not {epochs} and {patience}")
    steps = one_device(phase, model, train) if steps is None else steps
    state, frozen = steps.place(state), steps.place(frozen)
    position = Position() if position is None else position
    stopping = EarlyStopping() if stopping is None else stopping
    loop = _Loop(
        *(train_batches, validation_batches, frozen, phase, model, train, steps, stopping),
        *(on_step, saving, logit_shift),
    )
    best = state
    while not position.is_over(epochs, patience, train.plateau):
        state, position = _train_epoch(loop, state, position)
        _save(loop, state, position)
        epoch, judged = _validate(loop, state, position)
        position = position.after(epoch, judged)
        if epoch.best and saving is None:
            # Copies, because the next step reuses the buffers that it is given.
            best = _copied_without_moments(state)
        if on_epoch is not None:
            on_epoch(epoch)
    if saving is not None:
        saving.checkpoints.wait()
        best, number = state, loop.best_step(position)
        if not position.history[-1].best:
            like = steps.layout(jax.eval_shape(lambda tree: tree, state))
            del best, state  # Their memory is needed for what is read.
            best = saving.checkpoints.restore(number, like)
    return Fitted(
        params=_widened(best.params),
        batch_stats=best.batch_stats,
        epochs=position.history,
        scores=best.scores,
        steps=int(best.step),
        rounds=(0, 0) if best.rounds is None else tuple(np.asarray(best.rounds).tolist()),
        opt_state=best.opt_state if saving is not None else None,
    )


@dataclasses.dataclass(frozen=True)
class _Loop:
    """What stays the same while :func:`fit` runs."""

    train_batches: Batches
    validation_batches: Batches
    frozen: Reading
    phase: Phase
    model: ModelConfig
    train: TrainConfig
    steps: Steps
    stopping: EarlyStopping
    on_step: Callable[[int, int, jax.Array], None] | None
    saving: Saving | None
    logit_shift: float

    def step(self, position: Position) -> int:
        """Steps taken until there."""
        return (position.epoch - 1) * self.train_batches.num_batches + position.batch

    def best_step(self, position: Position) -> int:
        """Steps taken until the end of the best epoch."""
        assert position.best is not None
        return position.best.number * self.train_batches.num_batches

    def diverged(self, what: str) -> DivergedError:
        """The error for a person."""
        good = ""
        if self.saving is not None:
            with contextlib.suppress(CheckpointError):
                self.saving.checkpoints.wait()
            last = self.saving.checkpoints.last
            where = "none yet" if last is None else str(self.saving.checkpoints.path(last))
            good = f"the last good checkpoint: {where}; "
        return DivergedError(f"{self.phase.value}: {what}; {good}lower the learning rate")


def _train_epoch(loop: _Loop, state: TrainState, position: Position) -> tuple[TrainState, Position]:
    """Train the rest of the epoch; afterwards all rows are up to date."""
    started = time.monotonic() - position.seconds  # As if there had been no break.
    total, rows, unread = loop.train_batches.num_batches, 0, []
    if position.batch == 0:
        best = [epoch.best for epoch in position.history]
        undecided = [epoch.undecided for epoch in position.history]
        scale = lr_scale(loop.train.plateau, loop.train.schedule, best, undecided)
        state = begin_epoch(with_lr_scale(state, scale, train=loop.train))
    remaining = loop.train_batches.epoch(position.epoch, position.batch)
    for number, batch in enumerate(remaining, position.batch + 1):
        weights = (batch.weights,) if loop.train_batches.is_weighted else ()
        state, loss = loop.steps.train(state, batch.ids, batch.labels, loop.frozen, *weights)
        unread.append(loss)
        rows = len(batch.labels)
        if loop.on_step is not None:
            loop.on_step(number, total, loss)
        if len(unread) > _UNREAD_LOSSES:
            # All but the newest, so that the device need not be waited for.
            position, unread = _read(loop, position, unread[:-1], rows, started), unread[-1:]
        if loop.saving is None or number == total:
            continue
        loop.saving.checkpoints.check()
        stop = loop.saving.stop()
        if stop or loop.saving.due(loop.step(position) + len(unread)):
            position, unread = _read(loop, position, unread, rows, started), []
            _save(loop, state, position)
        if stop:
            raise _stopped(loop.saving, f"{loop.phase.value}: epoch {position.epoch}")
    state = loop.steps.bring_up_to_date(state)
    return state, _read(loop, position, unread, rows, started)


def _read(
    loop: _Loop, position: Position, losses: list[jax.Array], rows: int, started: float
) -> Position:
    """The position after further steps with these losses, of batches of ``rows`` rows."""
    total = position.loss
    for number, loss in enumerate(jax.device_get(losses), position.batch + 1):
        if not np.isfinite(loss):
            raise loop.diverged(
                f"the loss became {loss} at step {number} of epoch {position.epoch}"
            )
        total += float(loss)
    return dataclasses.replace(
        position,
        batch=position.batch + len(losses),
        loss=total,
        rows=position.rows + len(losses) * rows,
        seconds=time.monotonic() - started,
    )


def _save(loop: _Loop, state: TrainState, position: Position) -> None:
    """Begin to save, unless this is what was read; never a state that is ruined."""
    step = loop.step(position)
    if loop.saving is None or step == loop.saving.checkpoints.last:
        return
    if not _all_finite(state):
        # The last step did it: its own loss was still that of the step before.
        raise loop.diverged(
            f"after step {position.batch} of epoch {position.epoch} the model is no longer finite"
        )
    needs = [loop.best_step(position)] if position.history else []
    loop.saving.checkpoints.save(step, state, dataclasses.asdict(position), needs)


def _validate(loop: _Loop, state: TrainState, position: Position) -> tuple[Epoch, Judged]:
    """What the epoch came to."""

    def stop_if_asked() -> None:
        if loop.saving is not None and loop.saving.stop():
            raise _stopped(loop.saving, f"{loop.phase.value}: end of epoch {position.epoch}")

    predicted = predict(
        state.params,
        state.batch_stats,
        loop.validation_batches,
        loop.frozen,
        phase=loop.phase,
        model=loop.model,
        steps=loop.steps,
        on_batch=stop_if_asked,
    )
    if not np.isfinite(predicted.logits).all():
        raise loop.diverged(f"after epoch {position.epoch} the model's logits are no longer finite")
    if loop.logit_shift:
        shift = np.float32(loop.logit_shift)
        predicted = predicted._replace(logits=predicted.logits + shift)
    judged = loop.stopping.judge(*predicted)
    merit = position.merit
    best = merit is None or judged.merit > merit
    within_noise = (
        merit is not None
        and not best
        and loop.stopping.is_within_noise(
            merit - judged.merit, judged.influence, position.influence
        )
    )
    undecided = within_noise and loop.stopping.is_blurred(
        judged.influence, position.influence, judged.logloss
    )
    epoch = Epoch(
        number=position.epoch,
        loss=position.loss / position.batch,
        val_auc=judged.auc,
        val_logloss=judged.logloss,
        rows_per_second=position.rows / max(position.seconds, 1e-9),
        best=best,
        within_noise=within_noise,
        undecided=undecided,
        val_calibration=judged.calibration,
    )
    return epoch, judged


def _stopped(saving: Saving, where: str) -> Stopped:
    saving.checkpoints.wait()
    assert saving.checkpoints.last is not None
    return Stopped(f"{where} is saved in {saving.checkpoints.path(saving.checkpoints.last)}")


def _widened(params: Params) -> Params:
    """All of it in float32, where it stands."""
    stacks = tuple(widened(stack) for stack in params.table.stacks)
    return dataclasses.replace(params, table=params.table.with_stacks(stacks))


def _copied_without_moments(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, dataclasses.replace(state, opt_state=None))


@jax.jit
def _all_finite(state: TrainState) -> jax.Array:
    """Bool scalar: no NaN and no infinity in any float of the state."""
    state = dataclasses.replace(state, params=_widened(state.params))
    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in floats]))
