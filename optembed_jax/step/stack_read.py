"""What a way to update a stack of rows has to offer: what ids read, the gradient back, the step.

A step reads the rows, differentiates its loss with respect to what it was given of them, takes the
gradient back and steps; now and then every row is brought up to date. What that means is up to the
state that the optimiser keeps beside the rows.
"""

import dataclasses
from typing import Any, Protocol

import flax.struct
import jax

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.method.embedding import Table
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.table.memory import RowMemory
from optembed_jax.table.score import ScoreState
from optembed_jax.table.view import Ask, Seen


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is the same for all steps.

    Attributes:
      train: the optimiser settings.
      batch_axis: mapped axis that the batch is split over, or None.
      shards: how the full table's rows are sharded over the devices of that axis, or None.
    """

    train: TrainConfig
    batch_axis: BatchAxis | None = None
    shards: RowShards | None = None


@flax.struct.dataclass
class Given:
    """What a loss is differentiated with respect to, of one stack.

    Attributes:
      table: rows, or what ids see of them.
      thresholds: by which rows are kept, where the rows are given.
      oov: stand-ins, float32 ``[F, D]``, where what ids see is given.
    """

    table: Any
    thresholds: jax.Array | None = None
    oov: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Stepped:
    """A stack after a step.

    Attributes:
      table: the rows.
      state: ``TableState``, what the optimiser keeps beside them.
      thresholds: the gradient of the mean loss with respect to them; None where there are none.
      scores: with what the step added.
    """

    table: Table
    state: Any
    thresholds: jax.Array | None
    scores: ScoreState | None


class StackRead(Protocol):
    """What a batch reads of one stack."""

    @property
    def given(self) -> Given:
        """What the loss is differentiated with respect to."""

    @property
    def rounds(self) -> jax.Array:
        """That it took to ask other devices for its rows, int32 scalar; 0 where none was asked."""

    def see(self, given: Given) -> Seen:
        """What this device's ids see, arrays ``[b, F, ...]``."""

    def step(self, gradient: Given) -> Stepped:
        """The stack after a step with this gradient of this device's loss."""


class TableState(Protocol):
    """What an optimiser keeps beside the rows of one stack."""

    @property
    def is_sparse(self) -> bool:
        """Whether a step touches only the rows that it reads."""

    def read(
        self, ask: Ask, table: Table, step: jax.Array, scores: ScoreState | None, setup: Setup
    ) -> StackRead:
        """What a batch reads.

        Args:
          ask: of this device's examples.
          table: the rows, those of this device where they are sharded.
          step: int32 scalar, steps taken before this one.
          scores: what is gathered to choose rows by; None for nothing.
          setup: of all steps.
        """

    def up_to_date(
        self, table: Table, step: jax.Array, scores: ScoreState | None, train: TrainConfig
    ) -> tuple[Table, Any, ScoreState | None]:
        """Rows, state and scores after all idle steps, to be read by anything but a step."""

    @property
    def memory(self) -> RowMemory:
        """What is remembered of rows that are up to date."""

    def with_memory(self, memory: RowMemory, steps: int) -> Any:
        """The state with a memory after so many steps, on the host; nothing is owed yet."""

    def owing(self, table: Table, lr_scale: jax.Array, train: TrainConfig) -> Any:
        """The state beside rows that are up to date, from now on at another learning rate."""
