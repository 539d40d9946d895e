import contextlib
import dataclasses
import functools
import itertools
import shutil

import jax
import numpy as np
import pytest

from experiments.benchmarks.collectives import counted
from optembed_jax.devices.parallel import one_device, pmapped, row_sharded
from optembed_jax.errors import Stopped
from optembed_jax.fields import Fields
from optembed_jax.method.threshold import table_row_mask
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection
from optembed_jax.serving.compact_model import keep
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state, with_lr_scale
from optembed_jax.step.train_step import Phase
from optembed_jax.storage import saved_state
from optembed_jax.table.score import keep_best, row_scores
from optembed_jax.table.stochastic_rounding import widened
from optembed_jax.training.checkpoint import Checkpoints
from optembed_jax.training.fit import fit
from optembed_jax.training.prediction import predict
from optembed_jax.training.resume import Saving, resume

MODEL = ModelConfig("fm", 4, ())
TRAIN = TrainConfig(lr=0.02, l2=1e-5, t_lr=0.1, alpha=1e-3)


def test_training_and_prediction_go_through_the_steps_they_are_given(
    fields, draw_clicks, batches_of
):
    training = batches_of(*draw_clicks(fields, 64), 16, seed=0)
    validation = batches_of(*draw_clicks(fields, 40, seed=1), 16)
    how = {"phase": Phase.SUPERNET, "model": MODEL}
    steps, called = one_device(**how, train=TRAIN), []

    def counted(name):
        def call(*arguments):
            called.append(name)
            return getattr(steps, name)(*arguments)

        return call

    names = ("train", "evaluate", "bring_up_to_date", "place")
    counting = dataclasses.replace(steps, **{name: counted(name) for name in names})
    fits = [
        fit(
            init_state(jax.random.key(0), MODEL, TRAIN, fields),
            training,
            validation,
            Selection(),
            **how,
            train=TRAIN,
            epochs=2,
            patience=2,
            steps=given,
        )
        for given in (None, counting)
    ]
    for a, b in zip(*(jax.tree.leaves(fitted.params) for fitted in fits), strict=True):
        np.testing.assert_array_equal(a, b)
    assert {name: called.count(name) for name in names} == {
        "train": 8, "evaluate": 6, "bring_up_to_date": 2, "place": 2,
    }  # fmt: skip
    called.clear()
    predict(fits[0].params, fits[0].batch_stats, validation, Selection(), **how, steps=counting)
    assert called == ["evaluate"] * 3


# 19 rows: blocks of 5 on four devices, one row short; one field of fewer rows than devices.
FIELDS = Fields(("user", "item", "hour"), (11, 6, 2))
BATCH = 18  # Of four devices, two have 5 examples, and the last 3.
DEEP = ModelConfig("deepfm", 4, (6,), dropout=0.2)
CASES = {
    "dense": (DEEP, TrainConfig(lr=0.01, l2=1e-4, t_lr=0.2, alpha=0.1)),
    "group_lasso": (
        ModelConfig("fnn", 4, (6,), mode_threshold="feature", mode_oov="oov"),
        TrainConfig(lr=0.01, t_lr=0.2, alpha=0.1, row_decay="group_lasso", table_update="sparse"),
    ),
    "l2": (
        dataclasses.replace(DEEP, mode_threshold="budget", row_keep=0.5, row_score="taylor"),
        TrainConfig(lr=0.01, l2=1e-3, table_update="sparse"),
    ),
}
CASES["rowwise_adagrad"] = (
    CASES["group_lasso"][0],
    dataclasses.replace(CASES["group_lasso"][1], table_optimiser="rowwise_adagrad", table_lr=0.03),
)


def requested(*how):
    """Rows asked for by ``all_to_all``."""
    return row_sharded(*how, exchange="all_to_all")


def requested_one_by_one(*how):
    """In as many rounds as there can be."""
    return row_sharded(*how, exchange="all_to_all", capacity=1)


WAYS = [
    (pmapped, 1, "l2"),
    (pmapped, 2, "dense"),
    (pmapped, 4, "group_lasso"),
    (row_sharded, 1, "dense"),
    (row_sharded, 2, "group_lasso"),
    (row_sharded, 4, "l2"),
    (pmapped, 4, "rowwise_adagrad"),
    (row_sharded, 4, "rowwise_adagrad"),
    (requested, 4, "rowwise_adagrad"),
    (requested, 1, "group_lasso"),
    (requested, 2, "dense"),
    (requested, 4, "l2"),
    (requested_one_by_one, 2, "group_lasso"),
    (requested_one_by_one, 4, "dense"),
    (requested_one_by_one, 4, "l2"),
]


def steps_on(way, devices, model, train, phase=Phase.SUPERNET):
    if way is one_device:
        return one_device(phase, model, train)
    return way(phase, model, train, BATCH, FIELDS.num_features, jax.devices()[:devices])


def run(steps, model, train, clicks, count):
    state = steps.create(first_state_of(model, train), jax.random.key(1))
    losses, after_one = [], None
    ids, labels = clicks
    for step in range(count):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        state, loss = steps.train(state, ids[rows], labels[rows], Selection())
        losses.append(float(loss))
        if step == 0:
            after_one = steps.whole(dataclasses.replace(state, key=None))
    return after_one, losses, steps.bring_up_to_date(state)


def first_state_of(model, train):
    def make(key):
        return init_state(key, model, train, FIELDS, gather_scores=model.has_row_budget)

    return make


@pytest.fixture(scope="module")
def clicks():
    rng = np.random.default_rng(0)
    ids = np.stack([rng.integers(0, size, 50 * BATCH) for size in FIELDS.sizes], axis=1)
    return (ids + FIELDS.offsets).astype(np.int32), (rng.random(50 * BATCH) < 0.4).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def on_one_device(clicks):
    return {
        name: run(one_device(Phase.SUPERNET, *case), *case, clicks, 50)
        for name, case in CASES.items()
    }


@pytest.mark.parametrize(("way", "devices", "case"), WAYS)
def test_any_devices_train_as_one_does(clicks, on_one_device, way, devices, case):
    model, train = CASES[case]
    steps = steps_on(way, devices, model, train)
    after_one, losses, state = run(steps, model, train, clicks, 50)
    expected_one, expected_losses, expected = on_one_device[case]
    # Adam's first moments are a tenth of the gradients. Of the network's new values, those of a
    # bias before a BatchNorm are Adam's step on the rounding of a gradient of nothing.
    is_requested = way in (requested, requested_one_by_one)
    assert (int(after_one.rounds[0]) > 0) == is_requested
    if is_requested:
        after_one, expected_one = map(without_scratch, (after_one, expected_one))
    for part in ("opt_state", "batch_stats", "scores"):
        assert_close(getattr(after_one, part), getattr(expected_one, part), 1e-7)
    assert_close(after_one.params.thresholds, expected_one.params.thresholds, 1e-7)
    assert_close(after_one.params.table, expected_one.params.table, 1e-5)
    np.testing.assert_allclose(losses, expected_losses, rtol=0, atol=1e-4)
    trained = steps.whole((state.params, state.scores)), (expected.params, expected.scores)
    kept, expected_kept = (rows_kept(model, *parts) for parts in trained)
    assert 0 < expected_kept.sum() < FIELDS.num_features
    np.testing.assert_array_equal(kept, expected_kept)


def without_scratch(state):
    """Of a state without what is left from finding rows, which is another where others look."""
    table_state, *others = state.opt_state
    return dataclasses.replace(state, opt_state=(cleared(table_state), *others))


def cleared(table_state):
    """The same of a table's alone."""
    if not all(stack.is_sparse for stack in table_state.stacks):
        return table_state
    stacks = tuple(dataclasses.replace(stack, scratch=None) for stack in table_state.stacks)
    return table_state.with_stacks(stacks)


def assert_close(tree, expected, atol):
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol)


def rows_kept(model, params, scores):
    if scores is not None:
        return keep_best(row_scores(scores, params.table.rows, FIELDS, 50), 9)
    mask = table_row_mask(
        params.table.rows,
        params.thresholds,
        FIELDS.field_of_row,
        model.mode_threshold,
        model.norm,
    )
    return np.asarray(mask)


KEPT = np.random.default_rng(7).random(19) < 0.6
COMPACT = {
    # Stacks of two widths, and the linear weights of all rows, those of pruned ones among them.
    "linear kept": (
        ModelConfig("fm", 4, (), mode_oov="oov"),
        TrainConfig(lr=0.01, group_lasso=0.01, row_decay="group_lasso", table_update="sparse"),
    ),
    "rowwise": (
        ModelConfig("fm", 4, (), mode_oov="oov"),
        TrainConfig(
            lr=0.01,
            group_lasso=0.01,
            row_decay="group_lasso",
            table_update="sparse",
            table_optimiser="rowwise_adam",
        ),
    ),
    "linear pruned": (
        ModelConfig("fnn", 4, (6,), mode_linear="prune"),
        TrainConfig(lr=0.01, l2=1e-3, table_update="sparse"),
    ),
    "dense": (ModelConfig("fm", 4, (), mode_oov="oov"), TrainConfig(lr=0.01, row_decay="none")),
}


def compact_start(model, train, dims=(4, 1, 4)):
    """A retraining's state before the first step, how its ids read, and what it was cut from."""
    params, batch_stats = init_params(jax.random.key(2), model, FIELDS)
    # Beside stand-ins of zero, FM has columns whose gradient is nothing but rounding noise.
    rng = np.random.default_rng(8)
    params = jax.tree.map(lambda a: rng.normal(0, 0.3, a.shape).astype(np.float32), params)
    small, reading = keep(model, params, FIELDS, KEPT, np.asarray(dims))

    def make(start):
        return init_state(jax.random.key(1), model, train, FIELDS, start=start)

    return make, (small, batch_stats), reading


def run_compact(case, how, devices, clicks, batches_of):
    """Losses of 12 steps, table and its state after the first, answers of initial parameters."""
    model, train = COMPACT[case]
    ids, labels = clicks
    steps = steps_on(how, devices, model, train, Phase.RETRAIN)
    make, start, frozen = compact_start(model, train)
    reading, state = steps.place(frozen), steps.create(make, steps.place(start))
    assert len(state.params.table.stacks[0].rows.sharding.device_set) == devices
    # Of initial parameters, since the network's after a step of Adam may differ.
    validation = batches_of(ids[:50], labels[:50], 14)
    of_phase = {"phase": Phase.RETRAIN, "model": model, "steps": steps}
    answers = predict(state.params, state.batch_stats, validation, reading, **of_phase)
    losses, after_one = [], None
    for number in range(12):
        rows = slice(number * BATCH, (number + 1) * BATCH)
        state, loss = steps.train(state, ids[rows], labels[rows], reading)
        losses.append(float(loss))
        if number == 0:
            after_one = steps.whole((state.params.table, state.opt_state[0]))
    steps.bring_up_to_date(state)
    return losses, after_one, answers[1]


@pytest.fixture(scope="module")
def compact_on_one_device(clicks, batches_of):
    """What :func:`run_compact` gives of a case, run once."""
    return functools.cache(lambda case: run_compact(case, one_device, 1, clicks, batches_of))


@pytest.mark.parametrize(
    ("case", "way", "devices"),
    [
        # Every pair of case, way and number of devices; on one, of which nothing is split, a way.
        ("linear kept", pmapped, 4),
        ("linear kept", row_sharded, 2),
        ("linear kept", row_sharded, 4),
        ("linear kept", requested, 1),
        ("linear kept", requested, 4),
        ("rowwise", pmapped, 2),
        ("rowwise", row_sharded, 4),
        ("rowwise", requested, 4),
        ("linear pruned", pmapped, 4),
        ("linear pruned", row_sharded, 2),
        ("linear pruned", requested, 4),
        ("dense", pmapped, 4),
        ("dense", row_sharded, 4),
        ("dense", requested, 2),
    ],
)
def test_a_compact_table_trains_on_any_devices_as_on_one(
    clicks, batches_of, compact_on_one_device, case, way, devices
):
    losses, (table, of_table), answers = run_compact(case, way, devices, clicks, batches_of)
    expected_losses, (expected_table, expected_of), expected = compact_on_one_device(case)
    np.testing.assert_allclose(losses, expected_losses, rtol=0, atol=1e-4)
    if way is requested:
        of_table, expected_of = map(cleared, (of_table, expected_of))
    assert_close(table, expected_table, 1e-5)
    assert_close(of_table, expected_of, 1e-7)
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-4)


def test_a_compact_training_stopped_on_four_devices_goes_on_with_two_bit_for_bit_with_four(
    clicks, batches_of, tmp_path
):
    model, train = COMPACT["linear kept"]
    ids, labels = clicks
    training = batches_of(ids[: 12 * BATCH], labels[: 12 * BATCH], BATCH, seed=0)
    validation = batches_of(ids[12 * BATCH : 16 * BATCH], labels[12 * BATCH : 16 * BATCH], BATCH)

    def life(devices, folder, stop=lambda: False):
        steps = steps_on(row_sharded, devices, model, train, Phase.RETRAIN)
        make, start, frozen = compact_start(model, train)
        with contextlib.closing(Checkpoints(tmp_path / folder)) as checkpoints:
            found = resume(checkpoints, steps.layout(jax.eval_shape(make, start)))
            state, position = found or (steps.create(make, steps.place(start)), None)
            fitted = fit(
                state,
                training,
                validation,
                frozen,
                phase=Phase.RETRAIN,
                model=model,
                train=train,
                epochs=3,
                patience=3,
                steps=steps,
                position=position,
                saving=Saving(checkpoints, stop=stop),
            )
            return [epoch.loss for epoch in fitted.epochs], steps.whole(fitted.params.table)

    expected = life(4, "never stopped")
    asked = itertools.count(1)
    with pytest.raises(Stopped):
        life(4, "stopped", stop=lambda: next(asked) == 21)  # Within the second epoch.
    for devices in (2, 4):
        shutil.copytree(tmp_path / "stopped", tmp_path / f"on {devices}")
    losses, table = life(4, "on 4")
    assert losses == expected[0]
    jax.tree.map(np.testing.assert_array_equal, table, expected[1])
    losses, table = life(2, "on 2")
    np.testing.assert_allclose(losses, expected[0], rtol=0, atol=1e-4)
    assert_close(table, expected[1], 1e-4)


@pytest.mark.parametrize("way", [pmapped, row_sharded])
def test_a_rate_that_changes_is_the_same_on_all_devices(way, clicks):
    """And what rows owe at the new rate stands where the rows do."""
    model, train = CASES["group_lasso"]
    train, (ids, labels) = dataclasses.replace(train, table_l2=0.1, group_lasso=0.01), clicks
    states = []
    for steps in (steps_on(way, 4, model, train), one_device(Phase.SUPERNET, model, train)):
        state = steps.create(first_state_of(model, train), jax.random.key(1))
        for epoch, scale in enumerate((1.0, 0.1, 0.5)):
            before = state.opt_state[0]
            shardings = [leaf.sharding for leaf in jax.tree.leaves((before.share, before.ridge))]
            state = with_lr_scale(state, scale, train=train)
            owed = jax.tree.leaves((state.opt_state[0].share, state.opt_state[0].ridge))
            assert [leaf.sharding for leaf in owed] == shardings and len(owed) == 2
            for step in (2 * epoch, 2 * epoch + 1):
                rows = slice(step * BATCH, (step + 1) * BATCH)
                state, _ = steps.train(state, ids[rows], labels[rows], Selection())
            state = steps.bring_up_to_date(state)
        states.append(steps.whole(dataclasses.replace(state, key=None)))
    many, single = states
    assert float(many.lr_scale) == 0.5
    assert_close(many.params.table, single.params.table, 1e-5)
    assert_close(many.opt_state[0].share, single.opt_state[0].share, 1e-3)


def test_one_device_is_handed_arrays_of_the_host_once():
    steps = one_device(Phase.SUPERNET, *CASES["group_lasso"])
    placed = steps.place({"rows": np.arange(6.0, dtype=np.float32), "nothing": None})
    assert isinstance(placed["rows"], jax.Array) and placed["rows"].tolist() == [*range(6)]
    assert steps.place(placed)["rows"] is placed["rows"]


@pytest.mark.parametrize("way", [pmapped, row_sharded])
def test_arrays_of_the_host_are_placed_as_what_is_made_there(way):
    model, train = CASES["group_lasso"]
    steps = steps_on(way, 4, model, train)
    made = dataclasses.replace(
        steps.create(first_state_of(model, train), jax.random.key(1)), key=None
    )
    placed = steps.place(jax.device_get(steps.whole(made)))
    for a, b in zip(jax.tree.leaves(placed), jax.tree.leaves(made), strict=True):
        assert a.dtype == b.dtype and a.sharding.is_equivalent_to(b.sharding, b.ndim)
        if way is pmapped:
            np.testing.assert_array_equal(a, b)
    for a, b in zip(*(jax.tree.leaves(steps.whole(tree)) for tree in (placed, made)), strict=True):
        np.testing.assert_array_equal(a, b)
    again = steps.place(placed)
    assert all(a is b for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(placed), strict=True))


def test_each_device_holds_its_block_and_no_program_gathers_the_table():
    fields = Fields(("a", "b"), (4000, 90))
    model = ModelConfig("fm", 8, (), mode="all")
    train = TrainConfig(row_decay="group_lasso", table_update="sparse")
    steps = row_sharded(Phase.SUPERNET, model, train, 16, fields.num_features)
    make = functools.partial(init_state, model=model, train=train, fields=fields)
    state = steps.create(make, jax.random.key(0))
    rows = state.params.table.rows
    assert {shard.data.shape for shard in rows.addressable_shards} == {(1024, 8)}
    ids = np.tile(fields.oov_ids, (16, 1))
    params, labels = state.params, np.zeros(16, np.float32)
    programs = {
        "create": jax.jit(lambda key: steps.create(make, key)).lower(jax.random.key(0)),
        "create from what was placed": jax.jit(
            lambda start: steps.create(lambda start: make(jax.random.key(0), start=start), start)
        ).lower((params, {})),
        "train": jax.jit(lambda state: steps.train(state, ids, labels, Selection())).lower(state),
        "evaluate": jax.jit(lambda p: steps.evaluate(p, {}, ids, Selection())).lower(params),
        "bring_up_to_date": jax.jit(steps.bring_up_to_date).lower(state),
    }
    for name, program in programs.items():
        sent = counted(program.compile().as_text())
        largest = max((size for _, size in sent), default=0)
        if name.startswith("create"):
            # Rows are spread over the devices: each gets a block, and some slack.
            assert largest <= 1.25 * 1024 * 8 * 4, (name, sent)
            continue
        assert bool(sent) == (name != "bring_up_to_date"), name
        # What travels: the rows of 16 examples. The table has 4,090.
        assert largest <= 16 * 2 * 8 * 4, (name, sent)


def test_what_four_devices_saved_two_go_on_with(clicks, tmp_path):
    model, train = CASES["group_lasso"]
    ids, labels = (array[:BATCH] for array in clicks)
    found = {}
    for devices in (4, 2):
        steps = steps_on(row_sharded, devices, model, train)
        if devices == 4:
            state = steps.create(first_state_of(model, train), jax.random.key(1))
            state, _ = steps.train(state, ids, labels, Selection())
            saved_state.save(tmp_path / "state", state)
        else:
            like = steps.layout(jax.eval_shape(first_state_of(model, train), jax.random.key(1)))
            state = saved_state.restore(tmp_path / "state", like)
            assert len(state.params.table.rows.sharding.device_set) == 2
        state, loss = steps.train(state, ids, labels, Selection())
        found[devices] = float(loss), steps.whole(state.params.table)
    assert found[4][0] == pytest.approx(found[2][0], abs=1e-6)
    assert_close(found[2][1], found[4][1], 1e-5)


def test_training_stopped_on_four_devices_goes_on_with_two_and_with_one(
    clicks, batches_of, tmp_path
):
    model, train = CASES["group_lasso"]
    ids, labels = clicks
    training = batches_of(ids[: 12 * BATCH], labels[: 12 * BATCH], BATCH, seed=0)
    validation = batches_of(ids[12 * BATCH : 16 * BATCH], labels[12 * BATCH : 16 * BATCH], BATCH)

    def life(devices, folder, stop=lambda: False):
        steps = steps_on(row_sharded, devices, model, train)
        first, key = first_state_of(model, train), jax.random.key(1)
        with contextlib.closing(Checkpoints(tmp_path / folder)) as checkpoints:
            found = resume(checkpoints, steps.layout(jax.eval_shape(first, key)))
            state, position = found or (steps.create(first, key), None)
            assert len(state.params.table.rows.sharding.device_set) == devices
            fitted = fit(
                state,
                training,
                validation,
                Selection(),
                phase=Phase.SUPERNET,
                model=model,
                train=train,
                epochs=3,
                patience=3,
                steps=steps,
                position=position,
                saving=Saving(checkpoints, stop=stop),
            )
            return [epoch.loss for epoch in fitted.epochs], position

    expected, _ = life(4, "never stopped")
    asked = itertools.count(1)
    with pytest.raises(Stopped):
        life(4, "stopped", stop=lambda: next(asked) == 21)  # Within the second epoch.
    for devices in (2, 1):
        shutil.copytree(tmp_path / "stopped", tmp_path / f"on {devices}")
        losses, position = life(devices, f"on {devices}")
        assert position.epoch == 2 and 0 < position.batch < 12
        np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("way", [pmapped, row_sharded, requested_one_by_one])
def test_retraining_and_prediction_read_frozen_masks_wherever_they_lie(way, batches_of, clicks):
    model, train = CASES["l2"]
    frozen = Selection(rows=np.arange(19) % 3 != 0, dims=np.array([4, 1, 2], np.int32))
    validation = batches_of(clicks[0][:50], clicks[1][:50], 14)  # The last one is padded.
    found = []
    for how in (one_device, way):
        steps = steps_on(how, 4, model, train, Phase.RETRAIN)
        reading = steps.place(frozen)
        state = steps.create(first_state_of(model, train), jax.random.key(1))
        state, loss = steps.train(state, *(array[:BATCH] for array in clicks), reading)
        state = steps.bring_up_to_date(state)
        how_read = {"phase": Phase.RETRAIN, "model": model, "steps": steps}
        # Of initial parameters, since the network's after a step of Adam may differ.
        first = steps.create(first_state_of(model, train), jax.random.key(1))
        answers = predict(first.params, first.batch_stats, validation, reading, **how_read)
        found.append((float(loss), *answers[:2], steps.whole(state.params.table).rows))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("way", "devices", "case"),
    [
        (pmapped, 2, "dense"),
        (pmapped, 4, "dense"),
        (row_sharded, 2, "group_lasso"),
        (row_sharded, 4, "dense"),
        (requested, 4, "l2"),
    ],
)
def test_weighted_steps_are_those_of_one_device(way, devices, case, clicks):
    """Also where a device has nothing but examples of weight 0, and others fill up."""
    model, train = CASES[case]
    weights = np.random.default_rng(3).exponential(size=3 * BATCH).astype(np.float32)
    weights[2 * BATCH : 2 * BATCH + 9] = 0
    found = []
    for how in (one_device, way):
        steps, losses = steps_on(how, devices, model, train), []
        state = steps.create(first_state_of(model, train), jax.random.key(1))
        frozen = steps.place(Selection())
        for number in range(3):
            rows = slice(number * BATCH, (number + 1) * BATCH)
            ids, labels = (array[rows] for array in clicks)
            state, loss = steps.train(state, ids, labels, frozen, weights[rows])
            losses.append(float(loss))
            if number == 0:
                # Later ones start from what Adam made of rounding in gradients of nothing.
                first = steps.whole((state.params.table, state.batch_stats))
        found.append((losses, first))
    (expected, of_one), (losses, first) = found
    np.testing.assert_allclose(losses, expected, rtol=2e-4)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(of_one), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert np.isfinite(losses).all()


def test_rows_kept_in_bfloat16_on_several_devices(clicks):
    """Copies are rounded alike; where rows are sharded by other draws, to the same neighbours."""
    train = dataclasses.replace(
        TRAIN, table_dtype="bfloat16", row_decay="group_lasso", table_update="sparse"
    )
    one, copied, sharded = (
        run(steps_on(way, 2, MODEL, train), MODEL, train, clicks, 2)
        for way in (one_device, pmapped, requested)
    )
    expected = np.asarray(widened(one[0].params.table).rows)
    for several, fewest, most in ((copied, 0.0, 0.02), (sharded, 0.1, 0.9)):
        np.testing.assert_allclose(several[1], one[1], rtol=1e-3)
        apart = np.abs(np.asarray(widened(several[0].params.table).rows) - expected)
        assert np.all(apart <= 2.0**-7 * np.abs(expected) + 1e-12)
        assert fewest <= (apart > 0).mean() <= most
        assert several[2].params.table.rows.dtype == np.uint16
