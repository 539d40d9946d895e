"""Three ways to update a stack of rows, under one interface.

A step reads the rows, differentiates its loss with respect to what it was given of them, takes the
gradient back and steps; now and then every row is brought up to date. What that means is up to the
state that the optimiser keeps beside the rows, which is made once (:func:`init_table_state`):

=====================  =========================================================================
:class:`OptaxRows`     Optax updates all rows in every step
:class:`DenseRows`     so do the rules of ``table.decay``, which tell idle rows from the others
:class:`SparseRows`    the same rules, but a step touches only the rows that it reads
=====================  =========================================================================

Where rows are sharded over devices (``Setup.shards``), each of them works on the rows that this
device holds.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import optax

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import OneStack, Table
from optembed_jax.method.row_axis import WithRows
from optembed_jax.step import batch_read, requested_rows
from optembed_jax.step.batch_read import GatheredRows, WholeRows
from optembed_jax.step.optimisers import TrainConfig, make_optimisers
from optembed_jax.step.requested_rows import Asked, RequestedRows
from optembed_jax.table import score as row_score
from optembed_jax.table.catch_up import ridges, shares
from optembed_jax.table.lookup import Lookup, look_up
from optembed_jax.table.score import ScoreState
from optembed_jax.table.state import RowState, init_row_state, updates_sparsely, with_dates
from optembed_jax.table.update import RowStep, step_densely, synchronise, write_back
from optembed_jax.table.view import Ask, Seen, read_whole


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

    def owing(self, table: Table, lr_scale: jax.Array, train: TrainConfig) -> Any:
        """The state beside rows that are up to date, from now on at another learning rate."""


def init_table_state(train: TrainConfig, table: Any, fields: Fields) -> Any:
    """The state of a table's optimiser before the first step, for each of its stacks.

    Args:
      train: the optimiser settings.
      table: ``Table`` or ``Stacks``, of which only the shapes matter.
      fields: the data set's fields.
    """
    own = zip(table.stacks, table.fields_of_stacks(fields), strict=True)
    return table.with_stacks(tuple(_init_stack_state(train, *stack) for stack in own))


def _init_stack_state(train: TrainConfig, table: Table, fields: Fields) -> TableState:
    rule = train.row_rule
    sparse = updates_sparsely(train.table_update, fields.num_features)
    if not sparse and not rule.lazy_moments and not rule.moments.is_rowwise:
        return OptaxRows(make_optimisers(train).table.init(table))
    state = init_row_state(rule, table, fields, sparse=sparse)
    parts = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return SparseRows(**parts) if sparse else DenseRows(**parts)


@flax.struct.dataclass
class SparseRows(RowState):
    """Rows of which a step touches only those that it reads (``table.update``)."""

    def read(
        self, ask: Ask, table: Table, step: jax.Array, scores: ScoreState | None, setup: Setup
    ) -> StackRead:
        """Look the rows up; the loss is differentiated with respect to what ids see of them."""
        shards = ask.shards(setup.shards)
        # Of a view that prunes, stand-ins are part of what is seen.
        oov = None if ask.view.prunes else table.oov
        if shards is not None and shards.exchange == "all_to_all":
            asked = requested_rows.ask_for(ask.ids, shards, self.sizes, self.slots)
            seen, table, state, scores, rounds = requested_rows.read_looked_up(
                ask, table, self, step, scores, setup.train, asked
            )
            rest = (ask, table, state, step, scores, setup)
            return _RequestedRead(Given(seen, oov=oov), rounds, asked, *rest)
        all_ids = batch_read.ids_of_all(ask.ids, setup.batch_axis, shards)
        of_idle = None
        if scores is not None:
            of_idle = row_score.score_of_idle_steps(scores, setup.train.row_rule)
        lookup, table, state = look_up(setup.train.row_rule, table, self, all_ids, step, of_idle)
        seen = batch_read.read_looked_up(ask, table, state, step, all_ids, setup.batch_axis, shards)
        return _SparseRead(Given(seen, oov=oov), ask, lookup, table, state, step, scores, setup)

    def up_to_date(
        self, table: Table, step: jax.Array, scores: ScoreState | None, train: TrainConfig
    ) -> tuple[Table, Any, ScoreState | None]:
        """Let every row take the idle steps since it was last read."""
        rule = train.row_rule
        new_table, state = synchronise(rule, table, self, step)
        if scores is not None and scores.kind == "mean_norm" and scores.total is not None:
            assert self.last is not None
            before, _ = with_dates(self, table, step).groups()
            idle = row_score.sum_of_idle_norms(
                rule, before, new_table.rows, step - self.last, self.visits, scores.order
            )
            scores = dataclasses.replace(scores, total=scores.total + idle)
        return new_table, state, scores

    def owing(self, table: Table, lr_scale: jax.Array, train: TrainConfig) -> Any:
        """What rows owe for each idle step is reckoned anew, from their moments."""
        if self.share is None:
            return self
        share, ridge = jax.tree.map(
            lambda new, old: jax.device_put(new, old.sharding),
            _owed(table, self, lr_scale, train=train),
            (self.share, self.ridge),
        )
        return dataclasses.replace(self, share=share, ridge=ridge)


@flax.struct.dataclass
class DenseRows(RowState):
    """Rows that take every step, by a rule that tells idle rows from those that are read."""

    def read(
        self, ask: Ask, table: Table, step: jax.Array, scores: ScoreState | None, setup: Setup
    ) -> StackRead:
        """The loss is differentiated with respect to the rows."""

        def stepped(rows: WholeRows, gradient: Table) -> tuple[Table, Any]:
            return step_densely(setup.train.row_rule, table, self, rows.ids, gradient, step)

        return _whole_read(ask, table, scores, setup, stepped)

    def up_to_date(
        self, table: Table, step: jax.Array, scores: ScoreState | None, train: TrainConfig
    ) -> tuple[Table, Any, ScoreState | None]:
        """They are."""
        return table, self, scores

    def owing(self, table: Table, lr_scale: jax.Array, train: TrainConfig) -> Any:
        """Nothing is owed."""
        return self


@flax.struct.dataclass
class OptaxRows(OneStack, WithRows):
    """Rows that Optax updates, all in every step.

    Attributes:
      state: of the optimiser.
    """

    state: Any

    @property
    def is_sparse(self) -> bool:
        """A step touches all rows."""
        return False

    def read(
        self, ask: Ask, table: Table, step: jax.Array, scores: ScoreState | None, setup: Setup
    ) -> StackRead:
        """The loss is differentiated with respect to the rows."""
        del step

        def stepped(rows: WholeRows, gradient: Table) -> tuple[Table, Any]:
            del rows
            optimiser = make_optimisers(setup.train).table
            updates, state = optimiser.update(gradient, self.state, table)
            updated: Any = optax.apply_updates(table, updates)
            return updated, OptaxRows(state)

        return _whole_read(ask, table, scores, setup, stepped)

    def up_to_date(
        self, table: Table, step: jax.Array, scores: ScoreState | None, train: TrainConfig
    ) -> tuple[Table, Any, ScoreState | None]:
        """They are."""
        return table, self, scores

    def owing(self, table: Table, lr_scale: jax.Array, train: TrainConfig) -> Any:
        """Nothing is owed."""
        return self


@dataclasses.dataclass(frozen=True)
class _SparseRead:
    """Rows that were looked up; they, and their state, as the look-up left them."""

    given: Given
    ask: Ask
    lookup: Lookup
    table: Table
    state: RowState
    before: jax.Array
    scores: ScoreState | None
    setup: Setup

    @property
    def rounds(self) -> jax.Array:
        return jnp.int32(0)

    def see(self, given: Given) -> Seen:
        return self.ask.stood_in(given.table, given.oov)

    def step(self, gradient: Given) -> Stepped:
        axis, rule, scores = self.setup.batch_axis, self.setup.train.row_rule, self.scores
        view = self.ask.view
        oov = gradient.oov
        if oov is not None and axis is not None:
            oov = jax.lax.pmean(oov, axis.name)
        table, state, of_thresholds, terms = write_back(
            rule,
            view,
            self.table,
            self.state,
            self.lookup,
            batch_read.gradients_of_all_ids(gradient.table, axis),
            batch_read.dims_of_all(self.ask.dims, self.ask.ids, axis),
            self.before,
            None if scores is None else row_score.score_of_step(scores),
            None if scores is None else row_score.score_of_idle_steps(scores, rule),
            lambda view_gradients: batch_read.view_gradients_of_all(
                view.level, view_gradients, self.ask.shards(self.setup.shards)
            ),
            oov,
        )
        if scores is not None:
            lookup = self.lookup
            scores = row_score.after_step(scores, lookup.distinct.rows, lookup.reads, terms)
        return Stepped(table, state, of_thresholds, scores)


@dataclasses.dataclass(frozen=True)
class _RequestedRead:
    """Rows that other devices were asked for; this one's, and their state, as that left them."""

    given: Given
    rounds: jax.Array
    asked: Asked
    ask: Ask
    table: Table
    state: RowState
    before: jax.Array
    scores: ScoreState | None
    setup: Setup

    def see(self, given: Given) -> Seen:
        seen = requested_rows.seen_by_ids(given.table, self.ask, self.asked)
        return self.ask.stood_in(seen, given.oov)

    def step(self, gradient: Given) -> Stepped:
        axis, oov = self.asked.exchange.shards.axis, gradient.oov
        return Stepped(
            *requested_rows.write_back(
                self.ask,
                self.table,
                self.state,
                self.before,
                self.scores,
                self.setup.train,
                self.asked,
                gradient.table,
                None if oov is None else jax.lax.pmean(oov, axis),
            )
        )


@dataclasses.dataclass(frozen=True)
class _WholeRead:
    """Rows that are up to date, and will all take the step."""

    given: Given
    ask: Ask
    rows: WholeRows
    table: Table
    scores: ScoreState | None
    stepped: Callable[[WholeRows, Table], tuple[Table, Any]]

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
        table, state = self.stepped(self.rows, of_table)
        scores = self.scores
        if scores is not None:
            value, score = self.table.rows, row_score.score_of_step(scores)
            terms = score and score(RowStep(value, of_table.rows, table.rows))
            scores = row_score.after_step(scores, None, self.rows.reads, terms)
        return Stepped(table, state, of_thresholds, scores)


def _whole_read(
    ask: Ask,
    table: Table,
    scores: ScoreState | None,
    setup: Setup,
    stepped: Callable[[WholeRows, Table], tuple[Table, Any]],
) -> _WholeRead:
    rows = whole_rows(ask, table, setup.batch_axis, setup.shards)
    given = Given(rows.read.table, rows.read.view.thresholds)
    return _WholeRead(given, ask, rows, table, scores, stepped)


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


@functools.partial(jax.jit, static_argnames="train")
def _owed(
    table: Table, state: RowState, lr_scale: jax.Array, *, train: TrainConfig
) -> tuple[Table | None, Table | None]:
    """``RowState.share`` and ``ridge`` at a rate."""
    rule = train.at(lr_scale).row_rule
    rows = with_dates(state, table, jnp.int32(0))
    return shares(rule, rows), ridges(rule, rows)
