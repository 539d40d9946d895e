"""An earlier model as a run may begin with it, in its own vocabulary: what there is of it.

It is a finished run (``earlier_run``) or a bundle (``earlier_bundle``).
"""

import dataclasses
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.step.optimiser_memory import OptimiserMemory
from optembed_jax.values.lookup import Lookup

_OF_THE_NETWORK = (
    *("latent_dim", "mlp_dims", "cross_layers", "attention_heads", "attention_units"),
    *("fusion_heads", "pooling"),
)
"""Settings that say what a network reads and what shape it has."""


@dataclasses.dataclass(frozen=True)
class Found:
    """A model in the earlier vocabulary, on the host.

    Attributes:
      params: full, its rows what is read of them.
      batch_stats: its running statistics.
      memory: of the optimisers; None where nothing is remembered.
      is_folded: whether the network's normalisations are yet to be measured.
    """

    params: Params
    batch_stats: Any
    memory: OptimiserMemory | None = None
    is_folded: bool = False


class Earlier(Protocol):
    """What a run may begin with."""

    @property
    def path(self) -> Path:
        """Its folder."""

    @property
    def kind(self) -> str:
        """``run`` or ``bundle``."""

    @property
    def identity(self) -> str:
        """Of its content."""

    @property
    def fields(self) -> Fields:
        """Of its ids."""

    @property
    def lookup(self) -> Lookup:
        """The values that they are of."""

    @property
    def counts(self) -> np.ndarray | None:
        """Training rows that had each id, int ``[V]``; None where that is not known."""

    def model_for(self, phase: str) -> str:
        """The name of the model that a phase begins with.

        Raises:
          InputError: there is none.
        """

    def found(self, name: str) -> Found:
        """The model of that name.

        Raises:
          InputError: it is missing or damaged.
        """

    def kept(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows bool ``[V]`` and dimensions int32 ``[F]`` that it keeps.

        Raises:
          InputError: it has never been cut.
        """

    def dims(self) -> np.ndarray | None:
        """Dimensions int32 ``[F]`` that it keeps; None where all are kept."""

    def scores(self) -> np.ndarray | None:
        """What its rows were chosen by, float ``[V]``; None where nobody knows."""


def check_model(path: Path, now: ModelConfig, was: ModelConfig, more: tuple[str, ...] = ()) -> None:
    """Refuse a model of another shape.

    Args:
      path: of the earlier model.
      now: of this run.
      was: its own, of the same backbone.
      more: other settings that have to be the same.

    Raises:
      InputError: a setting differs; the message names it.
    """
    for name in (*_OF_THE_NETWORK, *more):
        check_same(path, name, getattr(now, name), getattr(was, name))


def check_same(path: Path, name: str, now: Any, was: Any) -> None:
    """Refuse another value of a flag.

    Raises:
      InputError: it is another one.
    """
    if now != was:
        raise InputError(
            f"warm_start {path} was trained with --{name}={_told(was)}, and this run asks for "
            f"{_told(now)}: they have to be the same"
        )


def _told(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
