"""A table within a step: what its stacks are asked, what the backbone reads of it, the table after.

How a stack is updated is up to its optimiser's state (``table_update``), and what a batch asks of
each up to the reading: a ``Selection`` of a full table, which is one stack, or a ``StackReading``.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.models.layers import Embedded
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Reading
from optembed_jax.step.dense_rows import whole_rows
from optembed_jax.step.stack_read import Given, Setup, StackRead
from optembed_jax.step.train_state import TrainState
from optembed_jax.table.score import ScoreState
from optembed_jax.table.view import Seen, read_whole


@dataclasses.dataclass(frozen=True)
class TableRead:
    """What a batch reads of a table.

    Attributes:
      stacks: what it reads of each.
      reading: how ids read them.
      ids: int32 ``[b, F]``, of this device.
      table: as the step found it; only its form matters.
    """

    stacks: tuple[StackRead, ...]
    reading: Reading
    ids: jax.Array
    table: Any

    @property
    def given(self) -> tuple[Given, ...]:
        """What a loss is to be differentiated with respect to."""
        return tuple(stack.given for stack in self.stacks)

    @property
    def rounds(self) -> jax.Array:
        """That it took to ask other devices for rows, int32 scalar: the most of any stack."""
        return functools.reduce(jnp.maximum, (s.rounds for s in self.stacks), jnp.int32(0))

    def embedded(self, given: Sequence[Given]) -> tuple[Embedded, jax.Array | None]:
        """What the backbone reads, and the linear term, see ``forward.embed``."""
        seen = [stack.see(own) for stack, own in zip(self.stacks, given, strict=True)]
        return self.reading.joined(seen, self.ids)

    def step(self, gradients: Sequence[Given]) -> "TableStep":
        """The table after a step with these gradients of this device's loss."""
        after = [stack.step(own) for stack, own in zip(self.stacks, gradients, strict=True)]
        # Thresholds and scores are of full tables, which have but one stack.
        alone = after[0] if len(after) == 1 else None
        return TableStep(
            table=self.table.with_stacks(tuple(stack.table for stack in after)),
            state=self.table.with_stacks(tuple(stack.state for stack in after)),
            thresholds=None if alone is None else alone.thresholds,
            scores=None if alone is None else alone.scores,
        )


@dataclasses.dataclass(frozen=True)
class TableStep:
    """A table after a step.

    Attributes:
      table: its rows.
      state: of its optimiser.
      thresholds: the gradient of the mean loss with respect to them; None where no row has any.
      scores: with what the step added.
    """

    table: Any
    state: Any
    thresholds: jax.Array | None
    scores: ScoreState | None


def read_table(
    state: TrainState, model: ModelConfig, reading: Reading, ids: jax.Array, setup: Setup
) -> TableRead:
    """What a batch reads of the table, in a training step.

    Args:
      state: before the step.
      model: the model.
      reading: how its ids read the table.
      ids: int32 ``[b, F]``, of this device.
      setup: of all steps.
    """
    params = state.params
    asks = reading.asks(model, params, ids)
    stacks = tuple(
        own.read(ask, stack, state.step, state.scores, setup)
        for own, ask, stack in zip(
            state.opt_state[0].stacks, asks, params.table.stacks, strict=True
        )
    )
    return TableRead(stacks, reading, ids, params.table)


def embed_up_to_date(
    model: ModelConfig,
    params: Params,
    reading: Any,
    ids: jax.Array,
    batch_axis: BatchAxis | None,
    shards: RowShards | None,
) -> tuple[Embedded, jax.Array | None]:
    """What the backbone reads of a table that is up to date, wherever its rows lie.

    Args:
      model: the model.
      params: what this device holds.
      reading: how ids read the table: ``selection.Embeds``, where rows are sharded
        ``selection.Reading``.
      ids: int32 ``[b, F]``, of this device.
      batch_axis: that the batch is split over, or None.
      shards: how the full table's rows are sharded over the devices, or None.
    """
    if shards is None:
        whole: tuple[Embedded, jax.Array | None] = reading.embed(model, params, ids)
        return whole
    seen = list[Seen]()
    for ask, stack in zip(reading.asks(model, params, ids), params.table.stacks, strict=True):
        read = whole_rows(ask, stack, batch_axis, shards).read
        own_seen = read_whole(read.view, read.table, read.ids, ask.dims, ask.fields)
        seen.append(ask.stood_in(own_seen, stack.oov))
    joined: tuple[Embedded, jax.Array | None] = reading.joined(seen, ids)
    return joined
