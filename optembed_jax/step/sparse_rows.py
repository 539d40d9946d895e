"""Stacks of which a step touches only the rows that it reads, looked up or asked for."""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax.method.embedding import Table
from optembed_jax.step import batch_read, requested_rows
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.requested_rows import Asked
from optembed_jax.step.stack_read import Given, Setup, StackRead, Stepped
from optembed_jax.table import score as row_score
from optembed_jax.table.catch_up import ridges, shares
from optembed_jax.table.lookup import Lookup, look_up
from optembed_jax.table.score import ScoreState
from optembed_jax.table.state import RowState, with_dates
from optembed_jax.table.stochastic_rounding import widened
from optembed_jax.table.update import synchronise, write_back
from optembed_jax.table.view import Ask, Seen


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
        rule = setup.train.row_rule
        lookup, table, state = look_up(rule, table, self, all_ids, step, of_idle)
        seen = batch_read.read_looked_up(
            rule, ask, table, state, step, all_ids, setup.batch_axis, shards
        )
        return _SparseRead(Given(seen, oov=oov), ask, lookup, table, state, step, scores, setup)

    def up_to_date(
        self, table: Table, step: jax.Array, scores: ScoreState | None, train: TrainConfig
    ) -> tuple[Table, Any, ScoreState | None]:
        """Let every row take the idle steps since it was last read."""
        rule = train.row_rule
        new_table, state = synchronise(rule, table, self, step)
        if scores is not None and scores.kind == "mean_norm" and scores.total is not None:
            assert self.last is not None
            before, _ = with_dates(self, widened(table), step).groups()
            after = widened(new_table).rows
            idle = row_score.sum_of_idle_norms(
                rule, before, after, step - self.last, self.visits, scores.order
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


@functools.partial(jax.jit, static_argnames="train")
def _owed(
    table: Table, state: RowState, lr_scale: jax.Array, *, train: TrainConfig
) -> tuple[Table | None, Table | None]:
    """``RowState.share`` and ``ridge`` at a rate."""
    rule = train.at(lr_scale).row_rule
    rows = with_dates(state, widened(table), jnp.int32(0))
    return shares(rule, rows), ridges(rule, rows)
