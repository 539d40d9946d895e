"""How the learning rate changes between epochs: a factor on all rates, by schedule or plateau.

Within an epoch the rate stands still, because rows that are idle pay for many steps at once, in
closed form (``table.decay``); between epochs all rows are up to date. The factor of an epoch
follows from the epochs before it alone: nothing has to be kept of it to go on after a stop.
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence

import numpy as np
import optax

from optembed_jax.errors import InputError

SCHEDULES = (
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "exponential_decay",
    "linear_onecycle_schedule",
    "linear_schedule",
    "polynomial_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
)
"""Those of Optax whose parameters are numbers."""

_ARE_ONE = ("init_value", "peak_value")  # Unless said otherwise: the rate that was asked for.


@dataclasses.dataclass(frozen=True)
class Plateau:
    """The rate is cut where the validation has stopped to become better.

    Attributes:
      factor: on the rate at each cut, in (0, 1).
      patience: epochs in a row without a new best before a cut, at least 1.

    Raises:
      InputError: a value outside its range.
    """

    factor: float
    patience: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1 or self.patience < 1:
            raise InputError(
                "lr_plateau cuts by a factor above 0 and below 1 after at least 1 epoch, not by "
                f"{self.factor} after {self.patience}"
            )

    @classmethod
    def parse(cls, text: str) -> "Plateau":
        """Of ``FACTOR`` or ``FACTOR:PATIENCE``, such as ``0.1:2``.

        Raises:
          InputError: it is neither.
        """
        factor, _, patience = text.partition(":")
        try:
            numbers = float(factor), int(patience) if patience else 1
        except ValueError as error:
            raise InputError(
                f"lr_plateau is a factor and epochs to wait, such as 0.1:2, not {text!r}"
            ) from error
        return cls(*numbers)

    def cuts(self, best: Sequence[bool], undecided: Sequence[bool] = ()) -> tuple[int, ...]:
        """After which epochs the rate was cut, numbered from 1.

        Args:
          best: of each epoch, whether it was the best until then.
          undecided: of each epoch, whether the validation could not tell (``early_stopping``). Such
            epochs are not waited for a cut, but after one all are.
        """
        found, waited, has_cut = [], 0, False
        for number, is_best in enumerate(best, 1):
            if is_best:
                waited, has_cut = 0, False
            elif has_cut or number > len(undecided) or not undecided[number - 1]:
                waited += 1
            if waited == self.patience:
                found.append(number)
                waited, has_cut = 0, True
        return tuple(found)

    def since_cut(self, best: Sequence[bool], undecided: Sequence[bool] = ()) -> int:
        """Epochs since the first cut after the best epoch; 0 where there was none.

        What early stopping counts: the best epoch is waited for until the rate is cut, and from
        there anew.
        """
        last_best = max((number for number, is_best in enumerate(best, 1) if is_best), default=0)
        later = [number for number in self.cuts(best, undecided) if number > last_best]
        return len(best) - later[0] if later else 0


@dataclasses.dataclass(frozen=True)
class Schedule:
    """One of Optax's schedules, of whole epochs.

    Attributes:
      name: one of ``SCHEDULES``.
      parameters: by name; of ``init_value`` and ``peak_value`` those that are missing are 1.

    Raises:
      InputError: no such schedule or parameter, or values that Optax refuses.
    """

    name: str
    parameters: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise InputError(
                f"lr_schedule must be one of Optax's {', '.join(SCHEDULES)}, not {self.name!r}"
            )
        self.factor(1)

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Of ``NAME:KEY=VALUE,...``, such as ``cosine_decay_schedule:decay_steps=10``.

        Raises:
          InputError: it is something else.
        """
        name, _, rest = text.partition(":")
        pairs = [part.partition("=") for part in rest.split(",") if part]
        if any(not equals for _, equals, _ in pairs):
            raise InputError(
                "lr_schedule is a name and its parameters, such as cosine_decay_schedule:"
                f"decay_steps=10, not {text!r}"
            )
        return cls(name, tuple((key.strip(), value.strip()) for key, _, value in pairs))

    def factor(self, epoch: int) -> float:
        """Of an epoch, numbered from 1: the schedule's value after so many less 1.

        Raises:
          InputError: it is below 0, or not finite.
        """
        value = float(self._of_optax()(np.int32(epoch - 1)))
        if not 0 <= value < np.inf:
            raise InputError(
                f"lr_schedule {self.name} makes the learning rate {value} times itself in epoch "
                f"{epoch}; it must be at least 0"
            )
        return value

    def _of_optax(self) -> Callable[[np.int32], np.ndarray]:
        make = getattr(optax.schedules, self.name)
        allowed = inspect.signature(make).parameters
        unknown = [key for key, _ in self.parameters if key not in allowed]
        given = {key: _number(self.name, key, text) for key, text in self.parameters if not unknown}
        defaults = {key: 1.0 for key in _ARE_ONE if key in allowed}
        missing = [
            key
            for key, parameter in allowed.items()
            if parameter.default is parameter.empty and key not in {**defaults, **given}
        ]
        if unknown or missing or len(given) < len(self.parameters):
            wrong = f"has no {', '.join(unknown)}" if unknown else f"needs {', '.join(missing)}"
            if not unknown and not missing:
                wrong = "is given a parameter twice"
            raise InputError(f"lr_schedule {self.name} {wrong}; it takes {', '.join(allowed)}")
        try:
            schedule: Callable[[np.int32], np.ndarray] = make(**{**defaults, **given})
        except ValueError as error:
            raise InputError(f"lr_schedule {self.name}: {error}") from error
        return schedule


def lr_scale(
    plateau: Plateau | None,
    schedule: Schedule | None,
    best: Sequence[bool],
    undecided: Sequence[bool] = (),
) -> float:
    """The factor on the learning rate in the epoch after these.

    Args:
      plateau: cuts it, or None.
      schedule: sets it, or None; with both it is their product.
      best: of each epoch before, whether it was the best until then.
      undecided: as of ``Plateau.cuts``.

    Raises:
      InputError: as ``Schedule.factor``.
    """
    scale = 1.0 if schedule is None else schedule.factor(len(best) + 1)
    return (
        scale if plateau is None else scale * plateau.factor ** len(plateau.cuts(best, undecided))
    )


def _number(name: str, key: str, text: str) -> float | int | bool:
    """A value as Optax takes it: epochs are whole."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text) if key.endswith(("_steps", "_begin")) else float(text)
    except ValueError as error:
        whole = "a whole number of epochs" if key.endswith(("_steps", "_begin")) else "a number"
        raise InputError(f"lr_schedule {name}: {key} must be {whole}, not {text!r}") from error
