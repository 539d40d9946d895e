"""What training needs to go on where it was stopped: its state, and its position.

Together they are all that decides what comes next, so that a run that is stopped at any moment and
goes on gives, bit for bit, what it would have given.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optembed_jax.step.learning_rate import Plateau
from optembed_jax.step.train_state import TrainState
from optembed_jax.training.checkpoint import Checkpoints
from optembed_jax.training.early_stopping import Judged


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes:
      number: from 1.
      loss: mean training loss.
      val_auc: of the validation split.
      val_logloss: of the validation split.
      val_calibration: of the validation split, mean prediction over click rate.
      rows_per_second: training rows over the time of the training steps.
      best: whether it is the best epoch so far.
      within_noise: whether it is no new best, but no further behind than chance explains, so that
        it does not count against patience (``early_stopping``).
      undecided: whether that noise is so much that the validation says nothing.
    """

    number: int
    loss: float
    val_auc: float
    val_logloss: float
    val_calibration: float
    rows_per_second: float
    best: bool
    within_noise: bool = False
    undecided: bool = False


def best_of(history: Sequence[Epoch]) -> Epoch:
    """The newest epoch that was the best when it ended."""
    return max(history, key=lambda epoch: (epoch.best, epoch.number))


@dataclasses.dataclass(frozen=True)
class Position:
    """Where training stands between two steps; what is saved beside the state.

    Attributes:
      epoch: under way, from 1.
      batch: batches of it already trained.
      loss: float64 sum of their losses, added one after another: the sum does not depend on where
        the epoch was interrupted.
      rows: of those batches.
      seconds: that their steps took.
      history: the epochs before, each with its validation.
      merit: of the best of them, by what training stops by; None before there is one.
      influence: of groups of validation rows on it, see ``early_stopping``.
    """

    epoch: int = 1
    batch: int = 0
    loss: float = 0.0
    rows: int = 0
    seconds: float = 0.0
    history: tuple[Epoch, ...] = ()
    merit: float | None = None
    influence: tuple[float, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Position":
        """Of what ``dataclasses.asdict`` gave."""
        history = tuple(Epoch(**epoch) for epoch in value["history"])
        influence = tuple(value.get("influence", ()))
        return cls(**{**value, "history": history, "influence": influence})

    @property
    def best(self) -> Epoch | None:
        """The best epoch so far; None before there is one."""
        return best_of(self.history) if self.history else None

    @property
    def worse(self) -> int:
        """Epochs since the best one that were worse by more than noise: patience spent."""
        since = 0 if self.best is None else self.best.number
        return sum(not epoch.within_noise for epoch in self.history[since:])

    def is_over(self, epochs: int, patience: int, plateau: Plateau | None = None) -> bool:
        """Whether there were ``epochs``, or ``patience`` of them that were worse than the best.

        Where a plateau cuts the learning rate, those are counted that come after the first cut
        since the best, whatever their noise: if slower steps find nothing better, nothing will.
        Where the validation cannot tell (``undecided``) no cut is made.
        """
        worse = self.worse
        if plateau is not None:
            worse = plateau.since_cut(
                [epoch.best for epoch in self.history],
                [epoch.undecided for epoch in self.history],
            )
        return len(self.history) >= epochs or worse >= patience

    def after(self, epoch: Epoch, judged: Judged) -> "Position":
        """The beginning of the next epoch, after one that came to this."""
        history = (*self.history, epoch)
        if epoch.best:
            return Position(
                self.epoch + 1, history=history, merit=judged.merit, influence=judged.influence
            )
        return Position(self.epoch + 1, history=history, merit=self.merit, influence=self.influence)


@dataclasses.dataclass(frozen=True)
class Saving:
    """Where training is saved, when, and when it is to stop.

    It is saved at the end of each epoch, before the validation, which is then repeated if need be;
    the best epoch's checkpoint is kept, and read again at the end.

    Attributes:
      checkpoints: the phase's; named by the steps taken.
      due: asked after each step, with the number of steps taken: whether to save now as well.
      stop: asked after each step and each batch of the validation: whether to save and stop.
        In a run of several processes all must answer alike, here and in ``due``.
    """

    checkpoints: Checkpoints
    due: Callable[[int], bool] = lambda step: False
    stop: Callable[[], bool] = lambda: False


def resume(
    checkpoints: Checkpoints,
    like: TrainState,
    on_damage: Callable[[str], None] = lambda message: None,
) -> tuple[TrainState, Position] | None:
    """Where :func:`fit` is to go on; None where nothing was saved.

    Args:
      checkpoints: of the phase.
      like: shapes and shardings of the state: ``steps.layout(jax.eval_shape(...))``.
      on_damage: told of each newer checkpoint that cannot be used, and why.

    Raises:
      InputError: none of the checkpoints there is good.
    """
    found = checkpoints.latest(like, on_damage)
    return None if found is None else (found.state, Position.from_json(found.position))
