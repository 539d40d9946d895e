"""Stacks of which every row takes every step: by Optax, or by rules that know idle rows."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import numpy as np
import optax

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.method.embedding import OneStack, Table
from optembed_jax.method.row_axis import WithRows
from optembed_jax.step import requested_rows
from optembed_jax.step.batch_read import GatheredRows, WholeRows
from optembed_jax.step.optimisers import TrainConfig, make_optimisers
from optembed_jax.step.requested_rows import RequestedRows
from optembed_jax.step.stack_read import Given, Setup, StackRead, Stepped
from optembed_jax.table import score as row_score
from optembed_jax.table.memory import RowMemory
from optembed_jax.table.score import ScoreState
from optembed_jax.table.state import RowState
from optembed_jax.table.stochastic_rounding import WHOLE, kept_as, widened
from optembed_jax.table.update import RowStep, step_densely
from optembed_jax.table.view import Ask, Seen, read_whole


class _OwesNothing:
    """A state beside rows that all took every step."""

    def up_to_date(
        self, table: Table, step: jax.Array, scores: ScoreState | None, train: TrainConfig
    ) -> tuple[Table, Any, ScoreState | None]:
        """They are."""
        return table, self, scores

    def owing(self, table: Table, lr_scale: jax.Array, train: TrainConfig) -> Any:
        """Nothing is owed."""
        return self


@flax.struct.dataclass
class DenseRows(_OwesNothing, RowState):
    """Rows that take every step, by a rule that tells idle rows from those that are read."""

    def read(
        self, ask: Ask, table: Table, step: jax.Array, scores: ScoreState | None, setup: Setup
    ) -> StackRead:
        """The loss is differentiated with respect to the rows, in float32."""

        def stepped(rows: WholeRows, wide: Table, gradient: Table) -> tuple[Table, Any]:
            return step_densely(setup.train.row_rule, wide, self, rows.ids, gradient, step)

        return _whole_read(ask, table, step, scores, setup, stepped)


@flax.struct.dataclass
class OptaxRows(_OwesNothing, OneStack, WithRows):
    """Rows that Optax updates, all in every step.

    Attributes:
      state: of the optimiser.
    """

    state: Any

    @property
    def is_sparse(self) -> bool:
        """A step touches all rows."""
        return False

    @property
    def memory(self) -> RowMemory:
        """Adam's moments."""
        mu, nu = (optax.tree_utils.tree_get(self.state, name) for name in ("mu", "nu"))
        return RowMemory(mu, nu)

    def with_memory(self, memory: RowMemory, steps: int) -> "OptaxRows":
        """The state with these moments after so many steps, on the host."""
        count = np.array(steps, np.int32)
        with_moments = optax.tree_utils.tree_set
        return OptaxRows(with_moments(self.state, mu=memory.mu, nu=memory.nu, count=count))

    def read(
        self, ask: Ask, table: Table, step: jax.Array, scores: ScoreState | None, setup: Setup
    ) -> StackRead:
        """The loss is differentiated with respect to the rows, in float32."""

        def stepped(rows: WholeRows, wide: Table, gradient: Table) -> tuple[Table, Any]:
            del rows
            optimiser = make_optimisers(setup.train).table
            updates, state = optimiser.update(gradient, self.state, wide)
            updated: Any = optax.apply_updates(wide, updates)
            return updated, OptaxRows(state)

        return _whole_read(ask, table, step, scores, setup, stepped)


@dataclasses.dataclass(frozen=True)
class _WholeRead:
    """Rows that are up to date, and will all take the step; ``wide`` is the table in float32."""

    given: Given
    ask: Ask
    rows: WholeRows
    table: Table
    wide: Table
    number: jax.Array
    scores: ScoreState | None
    stepped: Callable[[WholeRows, Table, Table], tuple[Table, Any]]

    @property
    def rounds(self) -> jax.Array:
        return self.rows.rounds

    def see(self, given: Given) -> Seen:
        read = self.rows.read
        view = dataclasses.replace(read.view, thresholds=given.thresholds, oov=given.table.oov)
        seen = read_whole(view, given.table, read.ids, self.ask.dims, self.ask.fields)
        return self.ask.stood_in(seen, given.table.oov)

    def step(self, gradient: Given) -> Stepped:
        of_table, of_thresholds = self.rows.mean_gradients((gradient.table, gradient.thresholds))
        after, state = self.stepped(self.rows, self.wide, of_table)
        scores = self.scores
        if scores is not None:
            value, score = self.wide.rows, row_score.score_of_step(scores)
            terms = score and score(RowStep(value, of_table.rows, after.rows))
            scores = row_score.after_step(scores, None, self.rows.reads, terms)
        table = kept_as(self.table, after, self.number, WHOLE)
        return Stepped(table, state, of_thresholds, scores)


def _whole_read(
    ask: Ask,
    table: Table,
    step: jax.Array,
    scores: ScoreState | None,
    setup: Setup,
    stepped: Callable[[WholeRows, Table, Table], tuple[Table, Any]],
) -> _WholeRead:
    wide = widened(table)
    rows = whole_rows(ask, wide, setup.batch_axis, setup.shards)
    given = Given(rows.read.table, rows.read.view.thresholds)
    return _WholeRead(given, ask, rows, table, wide, step, scores, stepped)


def whole_rows(
    ask: Ask, table: Table, batch_axis: BatchAxis | None, shards: RowShards | None
) -> WholeRows:
    """Rows that are all up to date, as they come to who reads them.

    Args:
      ask: of this device's examples.
      table: the rows that it holds.
      batch_axis: mapped axis that the batch is split over, or None.
      shards: how the full table's rows are sharded over the devices of that axis, or None.
    """
    own = ask.shards(shards)
    if own is not None and own.exchange == "all_to_all":
        return RequestedRows(ask.view, table, requested_rows.ask_for(ask.ids, own))
    return GatheredRows(ask.view, table, ask.ids, batch_axis, own)
