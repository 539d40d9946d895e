"""Straight-through rounding: a compact model trained a little further in the bits it is stored in.

The loss is that of the stored model; its gradient steps the float32 numbers behind the codes, as
if there were no rounding between (the straight-through estimator, Bengio et al., 2013; of codes
with scales Jacob et al., CVPR 2018, section 3). Departed from: what rounding does to each number,
the *rounding error*, is taken anew every few steps and held between them. So a step costs what one
in float32 does, and whatever a storage does, scales and clipping included, is trained for as it is.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.serving.stored_model import Storage, store
from optembed_jax.table.compact import CompactIndex, CompactTable, restore_linear
from optembed_jax.table.composed import ComposedIndex
from optembed_jax.table.quantize import restore_rows

Index = CompactIndex | ComposedIndex


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """How a stored model is trained further.

    Attributes:
      steps: of training, above 0.
      learning_rate: Adam's, of all numbers, above 0. A few hundredths of that of the training
        before: there is no regulariser here, and a large one undoes what it did.
      hold: for so many steps the rounding error is held, above 0.
      judged: how often the model is judged on the way, evenly, the end included, above 0.
    """

    steps: int
    learning_rate: float
    hold: int = 10
    judged: int = 4

    def is_judged_after(self, step: int) -> bool:
        """Whether the model is judged after a step, counted from 1."""
        marks = {-(-self.steps * part // self.judged) for part in range(1, self.judged + 1)}
        return step in marks


@dataclasses.dataclass(frozen=True)
class FineTuned:
    """A model that was trained further, and is the better for it.

    Attributes:
      params: compact, in float32; what is stored is their rounding.
      batch_stats: its running batch statistics.
      step: after which it was taken.
      metric: what it was judged at.
    """

    params: Params
    batch_stats: Any
    step: int
    metric: float


def rounding_error(params: Params, batch_stats: Any, index: Index, storage: Storage) -> Params:
    """What is added to each number of a compact model by storing it, arrays as in ``params``.

    Args:
      params: compact, in float32, folded (see :func:`folded`).
      batch_stats: its running batch statistics.
      index: of the compact table.
      storage: of its parts.
    """
    live, _ = store(params, batch_stats, index, storage).live()
    table = CompactTable(
        rows=tuple(map(restore_rows, live.table.rows)), linear=restore_linear(live.table, index)
    )
    stored = dataclasses.replace(live, table=table)
    return jax.tree.map(lambda of, number: jnp.asarray(of) - number, stored, params)


def folded(params: Params, batch_stats: Any, index: Index) -> tuple[Params, Any]:
    """The same model with its constants summed up, as it is served, and statistics that do nothing.

    Codes are of these numbers, so these are trained.
    """
    found, batch_stats = store(params, batch_stats, index).live()
    return jax.tree.map(jnp.asarray, found), batch_stats


def fine_tuned(
    config: ModelConfig,
    params: Params,
    batch_stats: Any,
    index: Index,
    storage: Storage,
    batches: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    tuning: FineTuning,
    judge: Callable[[Params, Any], float],
    *,
    before: float,
    log_odds: float = 0.0,
    on_step: Callable[[int, jax.Array], None] = lambda step, loss: None,
) -> FineTuned | None:
    """The model after the number of steps at which it is judged best.

    Every number has its moments of Adam and takes part in every step, so a step grows with the
    compact table; the number of steps is what bounds it.

    Args:
      config: the model.
      params: compact, in float32.
      batch_stats: its running batch statistics.
      index: of the compact table.
      storage: of its parts. Rows that are stored as ``elements`` have no place for what is zero.
      batches: ids int32 ``[B, F]`` that ``index`` takes, labels and weights float32 ``[B]``; as
        many as there are steps, or fewer. Weights are not all 0.
      tuning: how.
      judge: of parameters and batch statistics in float32, how good they are in ``storage``; more
        is better.
      before: the same of ``params``.
      log_odds: by how much the log-odds of a click are higher in ``batches`` than what the model
        predicts, as where rows without a click were drawn.
      on_step: called after each with its number, from 1, and the loss.

    Returns:
      The model; None where it is at no time better than ``before``.
    """
    now, stats = folded(params, batch_stats, index)
    optimiser = optax.adam(tuning.learning_rate)

    def step(now: Params, moments: Any, error: Params, ids: Any, labels: Any, weights: Any) -> Any:
        def loss_of(numbers: Params) -> jax.Array:
            stored = jax.tree.map(jnp.add, numbers, error)
            logits, _ = forward(config, stored, stats, ids, index)
            each = optax.sigmoid_binary_cross_entropy(logits + log_odds, labels)
            return jnp.sum(each * weights) / jnp.sum(weights)

        loss, gradients = jax.value_and_grad(loss_of)(now)
        updates, moments = optimiser.update(gradients, moments, now)
        return optax.apply_updates(now, updates), moments, loss

    step = jax.jit(step, donate_argnums=(0, 1))
    moments, best = optimiser.init(now), None
    for number, (ids, labels, weights) in enumerate(batches, 1):
        if (number - 1) % tuning.hold == 0:
            error = rounding_error(now, stats, index, storage)
        now, moments, loss = step(now, moments, error, ids, labels, weights)
        on_step(number, loss)
        if tuning.is_judged_after(number):
            metric = judge(now, stats)
            if metric > (before if best is None else best.metric):
                # Of its own memory: the next step takes this.
                best = FineTuned(jax.tree.map(jnp.array, now), stats, number, metric)
    return best
