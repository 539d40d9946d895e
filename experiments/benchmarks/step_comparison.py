"""A side of ``training_step`` in JAX: our step, dense Optax's, or the embedding part of either.

Run as a program it is the side's process: a job in JSON, the attributes of a ``Side``, answered as
``timed_steps`` says.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.click_log import fields_of, zipf_batches
from experiments.benchmarks.timed_steps import answers, serve
from optembed_jax.fields import Fields
from optembed_jax.method.bag import bags_of
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.stack_read import Setup
from optembed_jax.step.table_step import read_table
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase, train_selection, train_step

DIM, MLP_DIMS, BATCH, BATCHES = 64, (1024, 512, 256), 2048, 8


@dataclasses.dataclass(frozen=True)
class Side:
    """Something to be timed, in a process of its own.

    Attributes:
      kind: ``ours``, ``dense`` (Optax), or either with ``_embedding``.
      model: backbone.
      rows: of the table.
      row_decay: of our side.
      mode: ``all`` is the supernet, ``none`` the plain model, without thresholds and drawn dims.
      table_optimiser: of our side.
      bag: values in each cell of every field; with more than one, batches have as many fewer
        examples, and the same number of ids.
      own_gradient: of an embedding part: whether the loss gives a gradient of its own, as a network
        does, and not what was read. That costs nothing where a cell has one value, and something
        where what was read was pooled.
    """

    kind: str
    model: str
    rows: int
    row_decay: str
    mode: str = "all"
    table_optimiser: str = "adam"
    bag: int = 1
    own_gradient: bool = False

    @property
    def fields(self) -> Fields:
        """Those of the log, with room for the values of a cell."""
        fields = fields_of(self.rows)
        return dataclasses.replace(fields, slots=(self.bag,) * fields.num_fields)

    @property
    def batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Ids int32 ``[B, S]`` and labels."""
        fields, examples = self.fields, BATCH // self.bag
        drawn = zipf_batches(fields, examples * self.bag, BATCHES)
        if self.bag == 1:
            return drawn
        found = []
        for ids, labels in drawn:
            cells = ids.reshape(examples, self.bag, fields.num_fields).transpose(0, 2, 1)
            found.append((np.ascontiguousarray(cells.reshape(examples, -1)), labels[:examples]))
        return found

    @property
    def reading(self) -> Selection:
        """How ids read the whole table."""
        return Selection(bags=bags_of(self.fields, "mean"))

    @property
    def train(self) -> TrainConfig:
        """Settings of the optimisers, the reference's for DeepFM on Criteo roughly."""
        if self.kind in ("dense", "dense_embedding"):
            return TrainConfig(row_decay="l2_coupled", table_update="dense")
        return TrainConfig(row_decay=self.row_decay, table_optimiser=self.table_optimiser)


def make_step(side: Side) -> Callable[[np.ndarray, np.ndarray], Any]:
    """A function that takes a step on a batch and waits for it."""
    fields = side.fields
    model = ModelConfig(side.model, DIM, MLP_DIMS, mode=side.mode)
    make = functools.partial(init_state, model=model, train=side.train, fields=fields)
    # Not jitted: the table is drawn before the moments are there, and a smaller peak is enough.
    holder = [make(jax.random.key(0))]
    is_part = side.kind.endswith("embedding")
    step: Any = functools.partial(full_step, model=model)
    if is_part:
        half = 0.499 if side.own_gradient else 0.5
        step = functools.partial(embedding_step, model=model, half=half)
    jitted = jax.jit(
        functools.partial(step, train=side.train, whole=side.reading), donate_argnums=0
    )

    def take(ids: np.ndarray, labels: np.ndarray) -> None:
        holder[0] = jax.block_until_ready(jitted(holder[0], ids, labels))

    return take


WHOLE = Selection()


def full_step(
    state: Any, ids: jax.Array, labels: jax.Array, model: Any, train: Any, whole: Selection = WHOLE
) -> Any:
    """The supernet's step; in mode ``none`` it is the plain model's. ``whole`` reads all rows."""
    done, _ = train_step(state, ids, labels, whole, phase=Phase.SUPERNET, model=model, train=train)
    return done


def embedding_step(
    state: Any,
    ids: jax.Array,
    labels: jax.Array,
    model: Any,
    train: Any,
    whole: Selection = WHOLE,
    half: float = 0.5,
) -> Any:
    """The same, of table and thresholds alone: the loss is half the square of what is read.

    Its gradient is what is read. No network costs less, and XLA cannot leave the reading out.
    """
    del labels
    key = jax.random.fold_in(state.key, state.step)
    reading = train_selection(Phase.SUPERNET, model, key, ids.shape, whole, None)
    read = read_table(state, model, reading, ids, Setup(train))

    def loss_of(given: Any) -> jax.Array:
        squares = [jnp.sum(jnp.square(part)) for part in jax.tree.leaves(read.embedded(given))]
        return jnp.sum(jnp.stack(squares)) * half

    after = read.step(jax.grad(loss_of)(read.given))
    thresholds = jax.tree.map(
        lambda t, g: t - train.t_lr * g, state.params.thresholds, after.thresholds
    )
    params = dataclasses.replace(state.params, table=after.table, thresholds=thresholds)
    opt_state = (after.state, *state.opt_state[1:])
    return dataclasses.replace(state, step=state.step + 1, params=params, opt_state=opt_state)


def main() -> None:
    """Take the steps of the side that the job is."""
    side = Side(**json.loads(sys.argv[1]))
    with answers() as answer:
        serve(make_step(side), side.batches, answer, sys.stdin)


if __name__ == "__main__":
    main()
