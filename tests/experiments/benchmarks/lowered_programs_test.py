import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.lowered_programs import counted
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase, train_step

TABLE, IDS = jnp.zeros((100, 4)), jnp.zeros(8, jnp.int32)


def test_gathers_products_and_bytes_are_counted():
    counts = counted(lambda table, ids, x: table[ids] @ x, TABLE, IDS, jnp.zeros((4, 2)))
    assert counts.operations["gather"] == counts.operations["dot_general"] == 1
    assert counts.moved_bytes == 8 * 4 * 4 and not counts.scatters
    assert counts.argument_bytes == 4 * (100 * 4 + 8 + 8) and counts.result_bytes == 4 * 16
    record = counts.as_record()
    assert record["gather"] == 1 and record["unordered"] == []


def test_what_is_called_twice_counts_twice_and_a_loop_once():
    inner = jax.jit(lambda table, ids: table[ids].sum())
    counts = counted(lambda t, i: inner(t, i) + inner(t, i + 1), TABLE, IDS)
    assert counts.operations["gather"] == 2 and counts.operations["reduce"] == 2
    loop = counted(lambda t, i: jax.lax.fori_loop(0, 9, lambda _, x: x + t[i], t[i]), TABLE, IDS)
    assert loop.operations["gather"] == 2 and loop.operations["while"] == 1


WHOLE = jnp.zeros(100, jnp.int32)


@pytest.mark.parametrize(
    ("write", "into", "combines", "is_ordered"),
    [
        (lambda a: a.add(1.0), TABLE, "add", False),
        (lambda a: a.set(1.0), TABLE, "set", False),
        (lambda a: a.max(1.0), TABLE, "maximum", True),
        (lambda a: a.add(1.0, unique_indices=True), TABLE, "add", True),
        (lambda a: a.set(1.0, unique_indices=True), TABLE, "set", True),
        (lambda a: a.add(1.0, indices_are_sorted=True), TABLE, "add", False),
        (lambda a: a.add(1), WHOLE, "add", True),
        (lambda a: a.min(1), WHOLE, "minimum", True),
        (lambda a: a.set(1), WHOLE, "set", False),
    ],
)
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_a_scatter_is_ordered_where_no_order_of_its_writes_matters(
    write, into, combines, is_ordered, platform
):
    counts = counted(lambda into, ids: write(into.at[ids]), into, IDS, platform=platform)
    (scatter,) = counts.scatters
    assert (scatter.combines, scatter.is_ordered) == (combines, is_ordered)
    assert counts.unordered == (() if is_ordered else (scatter,))
    assert counts.moved_bytes == 4 * 8 * (4 if into.ndim == 2 else 1)


FIELDS = Fields(("a", "b", "c"), (500, 20, 3000))
BATCH = 64


KINDS = {"cuda": "NVIDIA H200", "tpu": "TPU v5 lite"}


def step_counts(update, phase, platform="cuda", device=None, **options):
    model = ModelConfig("deepfm", 4, (8,), **options)
    train = TrainConfig(
        row_decay="group_lasso", table_update=update, device=device or KINDS[platform]
    )
    scores = phase == Phase.SUPERNET and model.has_row_budget
    state = jax.eval_shape(
        lambda: init_state(jax.random.key(0), model, train, FIELDS, gather_scores=scores)
    )
    step = functools.partial(train_step, phase=phase, model=model, train=train)
    ids = jax.ShapeDtypeStruct((BATCH, 3), jnp.int32)
    labels = jax.ShapeDtypeStruct((BATCH,), jnp.float32)
    return counted(step, state, ids, labels, Selection(), platform=platform)


BUDGET = {"mode_threshold": "budget", "mode_oov": "shared", "mode_linear": "prune"}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("update", ["sparse", "dense"])
def test_only_the_sums_of_gradients_by_row_are_unordered(update, platform):
    """What ``--deterministic`` has to pay for on a GPU, and nothing else."""
    counts = step_counts(update, Phase.SUPERNET, platform, **BUDGET)
    found = sorted((s.combines, s.dtype, int(np.prod(s.shape))) for s in counts.unordered)
    numbers = BATCH * FIELDS.num_fields
    # Of rows and of linear weights, a gradient of each id that reads one.
    assert found == [("add", "f32", numbers), ("add", "f32", 4 * numbers)]
    # And those that are put in order by what they say of themselves, as the exact ones are.
    assert len(counts.scatters) > (10 if update == "sparse" else 3)


@pytest.mark.parametrize("platform", KINDS)
def test_a_step_for_an_accelerator_has_no_loops_and_no_branches(platform):
    """Each loop and branch is a question to the host there; on a CPU they keep to its caches."""
    own = step_counts("sparse", Phase.SUPERNET, platform, **BUDGET).operations
    cpu_s = step_counts("sparse", Phase.SUPERNET, platform, "cpu", **BUDGET).operations
    assert own["while"] == own["case"] == 0 < min(cpu_s["while"], cpu_s["case"])
    # Those of a loop's body are counted once, and are done once for each turn there.
    assert own["gather"] <= cpu_s["gather"] and own["scatter"] <= cpu_s["scatter"]


@pytest.mark.parametrize(
    ("options", "also"),
    [
        # Of thresholds and of learned vectors the sparse step sums by field.
        ({"mode_oov": "oov", "mode_threshold": "field"}, 2),
        ({"mode_threshold": "feature"}, 1),
    ],
    ids=["field", "feature"],
)
def test_thresholds_that_are_learned(options, also):
    counts = step_counts("sparse", Phase.SUPERNET, **options)
    assert {s.combines for s in counts.unordered} == {"add"}
    assert len(counts.unordered) == 2 + also
