import functools

import jax
import numpy as np
import pytest

from optembed_jax.devices import choice as device_choice
from optembed_jax.devices.choice import choose, state_bytes
from optembed_jax.devices.parallel import row_sharded
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.serving.compact_model import keep
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase

FIELDS = Fields(("a", "b"), (1000, 24))
MODEL = ModelConfig("fm", 8, (), mode="none")
TRAIN = TrainConfig(table_update="sparse")
ROW = 3 * (8 + 1) * 4 + 2 * 4  # Value and two moments of nine numbers; last and scratch.
BEST = (8 + 1) * 4


def test_the_bytes_are_those_of_table_moments_bookkeeping_and_best_copy():
    # FM's bias with its moments and its copy, two counters of Adam's, and the step.
    small = state_bytes(MODEL, TRAIN, FIELDS, 1) - 1024 * (ROW + BEST)
    assert 0 < small < 64
    assert state_bytes(MODEL, TRAIN, FIELDS, 4) == 256 * (ROW + BEST) + small


def test_the_bytes_are_those_that_a_device_holds():
    steps = row_sharded(Phase.BASELINE, MODEL, TRAIN, 4, 1024)
    state = steps.create(
        functools.partial(init_state, model=MODEL, train=TRAIN, fields=FIELDS), jax.random.key(0)
    )
    leaves = jax.tree.leaves((state.replace(key=None), state.params))
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
    assert held == state_bytes(MODEL, TRAIN, FIELDS, 4)


def test_auto_copies_what_fits_and_shards_what_does_not(monkeypatch):
    whole = state_bytes(MODEL, TRAIN, FIELDS, 1)
    assert choose("auto", MODEL, TRAIN, FIELDS).kind == "one"  # Of one CPU.
    monkeypatch.setattr(device_choice, "_are_worth_it", lambda: True)
    found = {}
    for memory in (2 * whole, whole):
        monkeypatch.setattr(device_choice, "device_memory", lambda m=memory: (m, "cpu memory"))
        found[memory] = choose("auto", MODEL, TRAIN, FIELDS)
    assert [choice.kind for choice in found.values()] == ["pmap", "sharded"]
    assert found[whole].state_bytes == state_bytes(MODEL, TRAIN, FIELDS, 4)
    line = str(found[whole])
    assert line.startswith(
        "rows sharded over 4 devices, 0.0 MB of state on each, of 0.2 MB cpu memory"
    )
    assert "auto: at most 80%" in line


def test_what_is_asked_for_is_taken():
    for asked in ("pmap", "sharded"):
        choice = choose(asked, MODEL, TRAIN, FIELDS)
        assert choice.kind == asked and choice.devices == 4 and "as asked" in str(choice)
    with pytest.raises(InputError, match="parallelism must be one of auto, pmap, sharded"):
        choose("model", MODEL, TRAIN, FIELDS)


def test_of_sharded_rows_auto_asks_where_that_sends_less_and_says_how_much():
    found = choose("sharded", MODEL, TRAIN, FIELDS, batch_size=400)
    # Of 100 examples a device reads 100 rows and all 24 of nine numbers; 39 from each pair.
    sent = {"all_gather": 4 * 200 * (2 * 9 + 1) * 4, "all_to_all": 4 * 39 * (2 * 9 + 2) * 4}
    assert (found.exchange, found.exchange_bytes) == ("all_to_all", sent)
    assert str(found).endswith(
        "; rows by all_to_all, of a step's all_gather 0.1 MB all_to_all 0.0 MB"
    )
    asked = choose("sharded", MODEL, TRAIN, FIELDS, exchange="all_gather", batch_size=400)
    assert (asked.exchange, asked.exchange_bytes) == ("all_gather", sent)
    assert choose("pmap", MODEL, TRAIN, FIELDS, exchange="all_to_all").exchange is None
    with pytest.raises(InputError, match="exchange must be one of auto, all_gather, all_to_all"):
        choose("sharded", MODEL, TRAIN, FIELDS, exchange="alltoall")


def test_a_compact_table_is_counted_stack_by_stack():
    params, batch_stats = init_params(jax.random.key(0), MODEL, FIELDS)
    small, _ = keep(MODEL, params, FIELDS, np.arange(1024) < 900, np.array([8, 2]))
    counted = choose("sharded", MODEL, TRAIN, FIELDS, (small, batch_stats), batch_size=400)
    widths = [
        int(np.prod(stack.rows.shape[1:])) + (stack.linear is not None)
        for stack in small.table.stacks
    ]
    ids = [100 * fields.num_fields for fields in small.table.fields]
    expected = sum(4 * n * (2 * w + 1) * 4 for n, w in zip(ids, widths, strict=True))
    assert counted.exchange_bytes["all_gather"] == expected


def test_a_host_without_device_statistics_is_shared_among_its_devices():
    memory, what = device_choice.device_memory()
    assert memory > 0 and what == "host memory"
