"""What optimisers remember, carried to another vocabulary: training goes on as if none had changed.

Against a training that was never interrupted, and Adam's first steps by hand.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimiser_memory import OptimiserMemory, recalled, remembered, taken_up
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import bring_up_to_date, init_state
from optembed_jax.step.train_step import Phase, train_step
from optembed_jax.table import carry
from optembed_jax.table.memory import rows_of_table

BEFORE = Fields(("user", "place"), (6, 4))
NOW = Fields(("user", "place"), (5, 4))
# Of the users 5 stays in another place, 2 and 4 are gone, and one is new; a place is new.
SOURCE = np.array([0, 5, 1, -1, 3, 6, 8, -1, 7])
NEW_USER, NEW_PLACE = 3, 7
DIM, FIRST = 4, 7
MODEL = ModelConfig("fm", DIM, (), mode="embed")
KEY = jax.random.key(3)


def batches(count, seed, users, places, size=12):
    draw = np.random.default_rng(seed)
    for _ in range(count):
        ids = np.stack([draw.choice(users, size), draw.choice(places, size)], axis=1)
        yield ids.astype(np.int32), (draw.random(size) < 0.4).astype(np.float32)


def trained(state, train, some):
    step = functools.partial(train_step, phase=Phase.SUPERNET, model=MODEL, train=train)
    step = jax.jit(step)
    for ids, labels in some:
        state, _ = step(state, ids, labels, Selection())
    return jax.jit(functools.partial(bring_up_to_date, train=train))(state)


def carried_over(state, train):
    """The state of the later vocabulary, by way of the arrays that are written to a file."""
    steps, full = int(state.step), jax.device_get(state.params.table)
    places = rows_of_table(BEFORE, DIM)
    written = remembered(jax.device_get(state.opt_state), steps, places, full).as_arrays()
    memory = OptimiserMemory.from_arrays(written)
    memory = dataclasses.replace(memory, rows=memory.rows.carried(SOURCE))
    table = carry.carried(full, carry.rows_to_start_from(SOURCE, NOW, BEFORE))
    params = dataclasses.replace(state.params, table=jax.tree.map(jnp.asarray, table))

    def begin():
        return init_state(KEY, MODEL, train, NOW, start=(params, state.batch_stats))

    opt_state = recalled(jax.eval_shape(begin), memory, rows_of_table(NOW, DIM))
    opt_state = jax.tree.map(jnp.asarray, opt_state)
    return taken_up(begin(), opt_state, memory.steps, train=train), written


def started(train):
    params, stats = init_params(jax.random.key(0), MODEL, BEFORE)
    return init_state(KEY, MODEL, train, BEFORE, start=(params, stats))


@pytest.mark.parametrize(
    ("optimiser", "decay", "update"),
    [
        ("adam", "l2_coupled", "dense"),
        ("adam", "group_lasso", "sparse"),
        ("rowwise_adam", "decoupled", "sparse"),
        ("rowwise_adagrad", "group_lasso", "dense"),
    ],
)
def test_training_goes_on_in_another_vocabulary_as_in_its_own(optimiser, decay, update):
    train = TrainConfig(
        lr=0.05,
        table_l2=0.01,
        row_decay=decay,
        group_lasso=0.02,
        table_optimiser=optimiser,
        table_update=update,
    )
    first = list(batches(FIRST, 1, range(6), range(6, 10)))
    halfway = trained(started(train), train, first)
    later, written = carried_over(halfway, train)
    if train.row_rule.counts_visits:
        reads = [sum(row in ids for ids, _ in first) for row in range(BEFORE.num_features)]
        assert written["visits"].tolist() == reads
    # Users 1, 3 and 5, places 7 and 8, and the values that have no row, by their numbers of now.
    number = {int(row): place for place, row in enumerate(SOURCE)}
    rest = list(batches(9, 2, [0, 1, 3, 5], [6, 7, 8]))
    renumbered = [(np.vectorize(number.get)(ids).astype(np.int32), labels) for ids, labels in rest]
    whole = trained(halfway, train, rest)
    again = trained(later, train, renumbered)
    assert int(again.step) == int(whole.step) == FIRST + 9
    held = SOURCE >= 0
    for part in ("rows", "linear"):
        own = np.asarray(getattr(again.params.table, part))[held]
        expected = np.asarray(getattr(whole.params.table, part))[SOURCE[held]]
        np.testing.assert_allclose(own, expected, rtol=2e-5, atol=2e-6, err_msg=part)
    for own, expected in zip(
        jax.tree.leaves((again.params.network, again.opt_state[2])),
        jax.tree.leaves((whole.params.network, whole.opt_state[2])),
        strict=True,
    ):
        np.testing.assert_allclose(own, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("decay", "update"), [("l2_coupled", "sparse"), ("none", "dense")])
def test_a_new_rows_first_step_is_that_of_a_row_without_a_past(decay, update):
    train = TrainConfig(lr=0.05, table_l2=0.0, row_decay=decay, table_update=update, l2=0.0)
    halfway = trained(started(train), train, batches(FIRST, 1, range(6), range(6, 10)))
    later, _ = carried_over(halfway, train)
    ids = np.array([[NEW_USER, NEW_PLACE], [0, 5]], np.int32)
    before = np.asarray(later.params.table.linear).copy()
    after = trained(later, train, [(ids, np.array([1.0, 0.0], np.float32))])
    moved = np.asarray(after.params.table.linear)[[NEW_USER, NEW_PLACE]]
    moved = moved - before[[NEW_USER, NEW_PLACE]]
    # Of an own count the first step is lr; of the steps that all rows count, by Adam's formula.
    n, size = FIRST + 1, 1.0
    if decay == "l2_coupled":
        size = (0.1 / (1 - 0.9**n)) / np.sqrt(0.001 / (1 - 0.999**n))
    np.testing.assert_allclose(moved, 0.05 * size, rtol=1e-4)
