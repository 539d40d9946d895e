"""What a peer is given: ids and labels as plain arrays, and what it has to give back."""

import dataclasses
import pathlib
import sys
from collections.abc import Callable

import numpy as np

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Rows of a split.

    Attributes:
      ids: int32 ``[N, F]``, from 0 in each field.
      labels: float32 ``[N]``.
    """

    ids: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training that has ended.

    Attributes:
      val_auc: of the best epoch.
      best_epoch: its number, from 1.
      epochs: trained in all.
      predict: from ids int32 ``[N, F]`` to probabilities ``[N]``, as the best epoch had it.
    """

    val_auc: float
    best_epoch: int
    epochs: int
    predict: Callable[[np.ndarray], np.ndarray]


def read_splits(folder: str) -> dict[str, Split]:
    """The three splits."""
    place = pathlib.Path(folder)

    def array(name: str) -> np.ndarray:
        return np.load(place / f"{name}.npy", allow_pickle=False)

    return {name: Split(array(f"{name}_ids"), array(f"{name}_labels")) for name in SPLITS}


def tell(epoch: int, val_auc: float, best: bool) -> None:
    """A progress line."""
    print(
        f"epoch {epoch}  validation AUC {val_auc:.4f}{'  best' if best else ''}",
        file=sys.stderr,
        flush=True,
    )
