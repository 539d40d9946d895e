"""What the phase ``tune`` tries: strengths of the rows' regulariser, and how much work each is."""

import dataclasses
import math
from typing import Any

from optembed_jax.errors import InputError
from optembed_jax.step.optimisers import TrainConfig

TUNED = ("none", "rows")

LADDERS: dict[str, tuple[float, ...]] = {
    "group_lasso": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "table_l2": (1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
}
"""Unless others are asked for."""

BESIDE = (3e-2, 3e-1)
"""Of ``table_l2`` beside the best group lasso, likewise: the elastic net of docs/regulariser.md."""


@dataclasses.dataclass(frozen=True)
class TuneOptions:
    """A ladder of strengths, each of which the plain model is trained with.

    Attributes:
      strength: the attribute of ``TrainConfig`` that is tuned, ``group_lasso`` or ``table_l2``.
      ladder: its values, at least 0, distinct, in order.
      beside: of ``group_lasso``, values of ``table_l2`` to try beside the best of the ladder,
        above 0 and in order too; the ladder itself is then climbed without. Of none it stays.
      rows: training rows to try them on, at most.
      epochs: of each training, at most.

    Raises:
      InputError: a value outside its range.
    """

    strength: str
    ladder: tuple[float, ...]
    beside: tuple[float, ...] = ()
    rows: int = 1_000_000
    epochs: int = 20

    def __post_init__(self) -> None:
        if len(self.ladder) < 2 or not _rises(self.ladder):
            raise InputError(
                "tune_ladder must be two strengths or more, each above the one before, not "
                f"{','.join(f'{value:g}' for value in self.ladder)}"
            )
        if self.ladder[0] < 0:
            raise InputError(f"tune_ladder must not go below 0, as {self.ladder[0]:g} does")
        if not _rises(self.beside) or min(self.beside, default=1.0) <= 0:
            raise InputError(
                "tune_l2_ladder must be strengths above 0, each above the one before, not "
                f"{','.join(f'{value:g}' for value in self.beside)}"
            )
        if self.beside and self.strength != "group_lasso":
            raise InputError(
                "tune_l2_ladder is of what rows pay beside the group lasso, and here they pay by "
                f"{self.strength} alone: leave it out"
            )
        for name in ("rows", "epochs"):
            if getattr(self, name) < 1:
                raise InputError(f"tune_{name} must be at least 1, not {getattr(self, name)}")

    @property
    def strengths(self) -> tuple[str, ...]:
        """The attributes of ``TrainConfig`` that the phase decides."""
        return (self.strength, "table_l2") if self.beside else (self.strength,)

    def as_flags(self) -> dict[str, Any]:
        """The flags that say this."""
        return {
            "tune": "rows",
            "tune_ladder": list(self.ladder),
            "tune_l2_ladder": list(self.beside),
            "tune_rows": self.rows,
            "tune_epochs": self.epochs,
        }


def _rises(ladder: tuple[float, ...]) -> bool:
    """Whether each strength is finite and above the one before."""
    return list(ladder) == sorted(set(ladder)) and all(map(math.isfinite, ladder))


def strength_of(train: TrainConfig) -> str:
    """What rows pay by: ``group_lasso``, or, where that is 0 and under the other decays,
    ``table_l2``.

    Raises:
      InputError: they pay nothing.
    """
    if train.row_decay == "none":
        raise InputError(
            "tune=rows tries strengths of what rows pay, and with row_decay=none they pay nothing"
        )
    return (
        "group_lasso" if train.row_decay == "group_lasso" and train.group_lasso > 0 else "table_l2"
    )
