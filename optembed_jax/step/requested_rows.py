"""What a batch reads of a sharded stack of rows that each device asks the others for.

Beside ``batch_read``, where every device sees the ids of the whole batch: here its own examples'
distinct rows come to it from where they are, and gradients go there, in rounds
(``exchange.row_requests``). A holder takes the step of a row in the round in which all ask for it.
"""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.exchange.row_requests import (
    Requests,
    Round,
    RowExchange,
    capacity_for,
    most_asked,
)
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.method.embedding import Table
from optembed_jax.step.batch_read import BatchRead, view_gradients_of_all
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.table import score as row_score
from optembed_jax.table.lookup import find_rows, look_up, see
from optembed_jax.table.score import ScoreState
from optembed_jax.table.state import RowState
from optembed_jax.table.update import end_step, step_rows
from optembed_jax.table.view import Ask, RowView, Seen, of_columns


@flax.struct.dataclass
class Asked:
    """What a device asks the others for.

    Attributes:
      requests: the rows.
      exchange: how they are asked for.
    """

    requests: Requests
    exchange: RowExchange = flax.struct.field(pytree_node=False)


def ask_for(
    ids: jax.Array,
    shards: RowShards,
    sizes: tuple[int, ...] | None = None,
    slots: tuple[int, ...] = (),
) -> Asked:
    """Ask for the rows that this device's ids read.

    Args:
      ids: int32 ``[b, F]``; those of ``V`` and above read nothing.
      shards: how rows are sharded over the devices.
      sizes: rows of each field, where they are known.
      slots: of each field; empty: 1 of all.
    """
    most = most_asked(ids, shards.rows, sizes, slots)
    capacity = shards.capacity or capacity_for(most, shards.devices)
    exchange = RowExchange(shards, capacity)
    return Asked(exchange.requests(ids, most), exchange)


@dataclasses.dataclass(frozen=True)
class RequestedRows:
    """``batch_read.WholeRows`` that are asked for.

    Attributes:
      view: how the rows that this device holds are seen.
      table: those.
      asked: what this device asks for.
    """

    view: RowView
    table: Table
    asked: Asked

    @functools.cached_property
    def _fetched(self) -> tuple[BatchRead, jax.Array]:
        view, asked = self.view, self.asked
        of_feature = view.thresholds if view.level == "feature" else None
        per_row = dataclasses.replace(self.table, oov=None), view.mask, of_feature
        found, rounds = asked.exchange.fetch(per_row, asked.requests)
        table, mask, of_feature = found
        thresholds = view.thresholds if of_feature is None else of_feature
        read = BatchRead(
            table=dataclasses.replace(table, oov=self.table.oov),
            view=dataclasses.replace(view, thresholds=thresholds, mask=mask),
            ids=asked.requests.slots,
        )
        return read, rounds

    @property
    def read(self) -> BatchRead:
        """Each distinct row once, and a last one of zeros for ids that read none."""
        return self._fetched[0]

    @property
    def rounds(self) -> jax.Array:
        """Of the fetching."""
        return self._fetched[1]

    def mean_gradients(
        self, gradient: tuple[Table, jax.Array | None]
    ) -> tuple[Table, jax.Array | None]:
        """Gradients of the mean of the devices' losses, at each row that this device holds."""
        of_table, of_thresholds = gradient
        asked, shards = self.asked, self.asked.exchange.shards
        of_feature = of_thresholds if self.view.level == "feature" else None
        per_row = dataclasses.replace(of_table, oov=None), of_feature
        total = asked.exchange.give_back(per_row, asked.requests, self.table.rows.shape[0])
        of_rows, at_rows = jax.tree.map(lambda array: array / shards.devices, total)
        oov, averaged = jax.lax.pmean((of_table.oov, of_thresholds), shards.axis)
        averaged = averaged if of_feature is None else at_rows
        return dataclasses.replace(of_rows, oov=oov), averaged

    @property
    def ids(self) -> jax.Array:
        """Each row that is read once."""
        rows = self.table.rows.shape[0]
        return jnp.where(self.reads > 0, jnp.arange(rows, dtype=jnp.int32), rows)[:, None]

    @functools.cached_property
    def reads(self) -> jax.Array:
        """Sent to whom the rows are."""
        requests, rows = self.asked.requests, self.table.rows.shape[0]
        reads: jax.Array = self.asked.exchange.give_back(requests.reads, requests, rows)
        return reads


def read_looked_up(
    ask: Ask,
    table: Table,
    state: RowState,
    step: jax.Array,
    scores: ScoreState | None,
    train: TrainConfig,
    asked: Asked,
) -> tuple[Seen, Table, RowState, ScoreState | None, jax.Array]:
    """What this device sees of the rows that it asks for, of a stack that is updated sparsely.

    Args:
      ask: of this device's examples.
      table: the rows that it holds; donate it, and the state, for an update in place.
      state: of their optimiser.
      step: int32 scalar, steps taken before this one.
      scores: what is gathered to choose rows by; None for nothing.
      train: the optimiser settings.
      asked: what this device asks for.

    Returns:
      Rows as they are seen, arrays ``[R + 1, ...]``; table, state and scores, in which rows whose
      moments are not lazy took their idle steps; and the rounds.
    """
    rule = train.row_rule
    of_idle = None if scores is None else row_score.score_of_idle_steps(scores, rule)
    lines = asked.requests.wanted.size + 1
    nothing = jax.tree.map(
        lambda rows: jnp.zeros((lines, *rows.shape[1:]), jnp.float32),
        Seen(table.rows, table.linear),
    )

    def answer(this: Round, table: Table, state: RowState, seen: Seen) -> Seen:
        fields = _fields_at(this, state, asked)
        answers = see(rule, ask.view, table, state, this.asked, None, step, fields)
        found: Seen = this.answered(answers, seen)
        return found

    if rule.lazy_moments:
        # Nothing is written, and so nothing but what was found is carried through the rounds.
        seen, rounds = asked.exchange.in_rounds(
            asked.requests, lambda this, seen: answer(this, table, state, seen), nothing
        )
        return seen, table, state, scores, rounds

    def one_round(this: Round, carried: Any) -> Any:
        table, state, scores, seen = carried
        fields = _fields_at(this, state, asked)
        lookup, table, state = look_up(rule, table, state, this.asked, step, of_idle, fields)
        if scores is not None and lookup.terms is not None:
            none = jnp.zeros_like(lookup.distinct.rows)
            scores = row_score.after_step(scores, lookup.distinct.rows, none, lookup.terms)
        return table, state, scores, answer(this, table, state, seen)

    (table, state, scores, seen), rounds = asked.exchange.in_rounds(
        asked.requests, one_round, (table, state, scores, nothing)
    )
    return seen, table, state, scores, rounds


def seen_by_ids(seen: Seen, ask: Ask, asked: Asked) -> Seen:
    """What ids see, arrays ``[b, F, ...]``, of the rows that they asked for, ``[R + 1, ...]``."""
    slots = asked.requests.slots
    of_ids = jax.tree.map(lambda rows: rows.at[slots].get(mode="promise_in_bounds"), seen)
    return of_columns(of_ids, ask.dims)


def write_back(
    ask: Ask,
    table: Table,
    state: RowState,
    step: jax.Array,
    scores: ScoreState | None,
    train: TrainConfig,
    asked: Asked,
    gradient: Seen,
    of_oov: jax.Array | None,
) -> tuple[Table, RowState, jax.Array | None, ScoreState | None]:
    """Take the step on the rows that the whole batch read.

    Args:
      ask: as of :func:`read_looked_up`, and likewise the others that are not said here.
      table: as that returned it.
      state: likewise.
      step: likewise.
      scores: as that returned them.
      train: likewise.
      asked: likewise.
      gradient: of this device's loss, with respect to what that returned, ``[R + 1, ...]``.
      of_oov: the gradient of stand-ins that are not part of the view, float32 ``[F, D]``, or None.

    Returns:
      Table and state after the step, the gradient of the thresholds, and the scores.
    """
    rule, view, shards = train.row_rule, ask.view, asked.exchange.shards
    score = None if scores is None else row_score.score_of_step(scores)
    # Rows whose moments are not lazy have taken their idle steps, and were scored for them.
    of_idle = None
    if scores is not None and rule.lazy_moments:
        of_idle = row_score.score_of_idle_steps(scores, rule)
    gradient = jax.tree.map(lambda own: own / shards.devices, gradient)
    reads = None if scores is None else asked.requests.reads

    def one_round(this: Round, carried: Any) -> Any:
        table, state, scores, view_gradients = carried
        given, counts = this.passed_on((gradient, reads))
        given = jax.tree.map(lambda own: own.reshape(-1, *own.shape[2:]), given)
        fields = _fields_at(this, state, asked)
        lookup, state = find_rows(rule, table, state, this.asked, fields)
        table, state, view_gradients, terms = step_rows(
            *(rule, view, table, state, lookup, given, None, step, view_gradients, score, of_idle)
        )
        if scores is not None:
            slots = lookup.distinct.slots
            total = jnp.zeros(lookup.fields.shape, jnp.int32).at[slots].add(counts, mode="drop")
            scores = row_score.after_step(scores, lookup.distinct.rows, total, terms)
        return table, state, scores, view_gradients

    start = table, state, scores, view.zero_gradients()
    (table, state, scores, view_gradients), _ = asked.exchange.in_rounds(
        asked.requests, one_round, start
    )
    view_gradients = view_gradients_of_all(view.level, view_gradients, shards)
    of_oov = view_gradients.oov if of_oov is None else of_oov
    table, state = end_step(rule, table, state, of_oov, step)
    return table, state, view_gradients.thresholds, scores


def _fields_at(this: Round, state: RowState, asked: Asked) -> jax.Array:
    """The field of each row that this device is asked for, int32 ``[n, C]``; ``F`` for none."""
    ids = asked.exchange.shards.ids_at(this.asked)
    return jnp.searchsorted(np.cumsum(state.sizes, dtype=np.int32), ids, side="right").astype(
        jnp.int32
    )
