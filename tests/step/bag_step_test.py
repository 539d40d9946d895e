"""Fields of several values through training steps: by hand, and one way like another."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.devices.parallel import one_device, pmapped, row_sharded
from optembed_jax.fields import Fields
from optembed_jax.method.bag import bags_of
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection
from optembed_jax.serving.compact_model import compact, expand, keep
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import bring_up_to_date, init_state
from optembed_jax.step.train_step import Phase, train_step
from tests.step.train_step_test import FREE, first_moments

FIELDS = Fields(("user", "tags", "hour", "words"), (11, 6, 2, 5), (1, 3, 1, 2))
WEIGHTED = dataclasses.replace(FIELDS, weighted=(False, True, False, True))
V, BATCH = FIELDS.num_features, 18
FM = ModelConfig("fm", 4, (), mode="feature", mode_threshold="field", mode_oov="oov")


def started(model, train, fields=FIELDS, scale=0.4):
    params, stats = init_params(jax.random.key(0), model, fields)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(0, scale, a.shape), jnp.float32), params)
    if params.thresholds is not None:
        middle = rng.uniform(0.5, 1.5, params.thresholds.shape).astype(np.float32)
        params = params.replace(thresholds=jnp.asarray(middle))
    gather = model.has_row_budget
    return init_state(
        jax.random.key(3), model, train, fields, start=(params, stats), gather_scores=gather
    )


def labels_of(n, seed=5):
    return (np.random.default_rng(seed).random(n) < 0.4).astype(np.float32)


def numpy_step(params, columns, labels, pooling, alpha, level):
    """Loss and gradients of FM with learned rows over bags, by hand.

    Behind the ids stand the weights of the second and the fourth field's values, if there are any.
    """
    ids, weights = columns[:, :7], np.ones((len(columns), 7))
    if columns.shape[1] > 7:
        weights[:, [1, 2, 3, 5, 6]] = columns[:, 7:].view(np.float32)
    of_slot, flat = FIELDS.field_of_slot, np.minimum(ids, V - 1)
    is_value = ids < V
    share = np.where(is_value, weights, 0)
    if pooling == "mean":
        total = np.stack([share[:, of_slot == f].sum(1) for f in range(4)], axis=1)
        share = share / np.where(total > 0, total, 1)[:, of_slot]
    pool = np.eye(4)[of_slot]  # [S, F]
    e = np.asarray(params.table.rows, np.float64)[flat]
    w = np.asarray(params.table.linear, np.float64)[flat]
    t = np.asarray(params.thresholds, np.float64)
    o = np.asarray(params.table.oov, np.float64)[of_slot]
    norm = np.abs(e).sum(-1)
    distance = norm - (t[of_slot] if level == "field" else t[flat])
    m = (distance > 0).astype(float)
    seen = e * m[..., None] + o * (1 - m[..., None])
    x = np.einsum("bs,bsd,sf->bfd", share, seen, pool)
    pairs = 0.5 * ((x.sum(1) ** 2).sum(-1) - (x**2).sum((1, 2)))
    logits = float(params.network["bias"]) + (w * share).sum(1) + pairs
    p = 1 / (1 + np.exp(-logits))
    loss = -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p)) + alpha * np.exp(-t).sum()
    to_logit = (p - labels) / len(labels)
    to_x = to_logit[:, None, None] * (x.sum(1, keepdims=True) - x)
    to_seen = to_x[:, of_slot] * share[..., None]
    size = np.abs(distance)
    slope = np.where(size <= 0.4, 2 - 4 * size, np.where(size <= 1, 0.4, 0))
    to_distance = (to_seen * (e - o)).sum(-1) * slope
    rows = np.zeros(params.table.rows.shape)
    to_rows = to_seen * m[..., None] + to_distance[..., None] * np.sign(e)
    np.add.at(rows, flat[is_value], to_rows[is_value])
    linear = np.zeros(V)
    np.add.at(linear, flat[is_value], (to_logit[:, None] * share)[is_value])
    thresholds = -alpha * np.exp(-t)
    owner = np.broadcast_to(of_slot, ids.shape) if level == "field" else flat
    np.subtract.at(thresholds, owner[is_value], to_distance[is_value])
    oov = np.zeros(params.table.oov.shape)
    of_oov = to_seen * (1 - m[..., None])
    np.add.at(oov, np.broadcast_to(of_slot, ids.shape)[is_value], of_oov[is_value])
    return m[is_value], loss, {"rows": rows, "linear": linear, "oov": oov, "thresholds": thresholds}


@pytest.mark.parametrize("update", ["dense", "sparse"])
@pytest.mark.parametrize("fields", [FIELDS, WEIGHTED], ids=["alike", "weighted"])
@pytest.mark.parametrize(("pooling", "level"), [("mean", "field"), ("sum", "feature")])
def test_a_supernet_step_follows_the_gradients_by_hand(draw_bags, fields, update, pooling, level):
    model = dataclasses.replace(FM, pooling=pooling, mode_threshold=level)
    train = dataclasses.replace(FREE, table_update=update)
    state = started(model, train)
    ids, labels = draw_bags(fields, 40), labels_of(40)
    bags = bags_of(fields, pooling)
    counts = (ids[:, 1:4] < V).sum(1)
    assert set(counts) == {0, 1, 2, 3}
    assert any(len(set(own)) < len(own) for own in ids[counts == 3, 1:4].tolist())
    m, expected_loss, expected = numpy_step(state.params, ids, labels, pooling, train.alpha, level)
    assert 0 < m.mean() < 1
    thresholds = np.asarray(state.params.thresholds)
    step = jax.jit(functools.partial(train_step, phase=Phase.SUPERNET, model=model, train=train))
    after, loss = step(state, ids, labels, Selection(bags=bags))
    assert float(loss) == pytest.approx(expected_loss, rel=1e-5)
    if update == "dense":
        table, _ = first_moments(after)
    else:
        table = jax.tree.map(lambda moment: moment / 0.1, after.opt_state[0].mu)
    for name in ("rows", "linear", "oov"):
        np.testing.assert_allclose(getattr(table, name), expected[name], rtol=2e-4, atol=1e-6)
    moved = (thresholds - np.asarray(after.params.thresholds)) / train.t_lr
    np.testing.assert_allclose(moved, expected["thresholds"], rtol=2e-4, atol=1e-6)


def trained(model, train, phase, frozen, state, draw_bags, steps=12, fields=FIELDS):
    step = jax.jit(functools.partial(train_step, phase=phase, model=model, train=train))
    for number in range(steps):
        ids = draw_bags(fields, BATCH, seed=number)
        state, loss = step(state, ids, labels_of(BATCH, number), frozen)
    return bring_up_to_date(state, train=train), loss


@pytest.mark.parametrize(
    "train",
    [
        TrainConfig(lr=0.02, row_decay="group_lasso", group_lasso=0.01, t_lr=0.1, alpha=0.01),
        TrainConfig(lr=0.02, l2=1e-3, t_lr=0.1, alpha=0.01),
    ],
)
def test_sparse_updates_are_dense_ones(draw_bags, train):
    model = dataclasses.replace(FM, mode="all")
    frozen = Selection(bags=bags_of(FIELDS, "mean"))
    found = []
    for update in ("dense", "sparse"):
        own = dataclasses.replace(train, table_update=update)
        found.append(
            trained(model, own, Phase.SUPERNET, frozen, started(model, own), draw_bags)[0].params
        )
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("update", ["dense", "sparse"])
def test_slots_that_hold_one_value_train_as_a_field_of_one(draw_bags, update):
    """The same ids with room for more: but for rounding, since sums are ordered otherwise.

    Where no cell has more than one value there is no such room, and the program is the same.
    """
    single = Fields(FIELDS.names, FIELDS.sizes)
    ids = draw_bags(single, BATCH)
    wide = np.full((BATCH, FIELDS.num_slots), V, np.int32)
    wide[:, [0, 1, 4, 5]] = ids
    model = ModelConfig("deepfm", 4, (6,), dropout=0.2, mode_oov="oov")
    train = dataclasses.replace(FREE, table_update=update)
    found = []
    for fields, own in ((single, ids), (FIELDS, wide)):
        step = jax.jit(
            functools.partial(train_step, phase=Phase.SUPERNET, model=model, train=train)
        )
        frozen = Selection(bags=bags_of(fields, "mean"))
        state, loss = step(started(model, train, fields), own, labels_of(BATCH), frozen)
        opt_state = state.opt_state[0]
        moments = opt_state.state if update == "dense" else (opt_state.mu, opt_state.nu)
        found.append((moments, state.params.thresholds, loss))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


ROWS = np.random.default_rng(0).random(V) < 0.6
DIMS = np.array([3, 4, 1, 4], np.int32)


@pytest.mark.parametrize(
    ("model", "update"),
    [
        (ModelConfig("fm", 4, (), mode_oov="oov", mode_linear="prune"), "sparse"),
        (ModelConfig("fm", 4, (), mode_oov="oov"), "dense"),
        (ModelConfig("fnn", 4, (), pooling="sum", mode_oov="oov"), "dense"),
        (ModelConfig("fnn", 4, ()), "sparse"),
    ],
)
def test_a_compact_table_trains_as_the_masked_one(draw_bags, model, update):
    fields = WEIGHTED if update == "dense" else FIELDS
    train = TrainConfig(lr=0.01, row_decay="none", table_update=update)
    masked = started(model, train, scale=0.2)
    small, reading = keep(model, masked.params, fields, ROWS, DIMS)
    state = init_state(jax.random.key(0), model, train, fields, start=(small, masked.batch_stats))
    assert reading.bags is not None
    frozen = Selection(jnp.asarray(ROWS), jnp.asarray(DIMS), bags=reading.bags)
    full, loss = trained(model, train, Phase.RETRAIN, frozen, masked, draw_bags, fields=fields)
    cut, own_loss = trained(model, train, Phase.RETRAIN, reading, state, draw_bags, fields=fields)
    assert float(own_loss) == pytest.approx(float(loss), rel=1e-5)
    widened = expand(model, cut.params, reading, fields, masked.params)
    ids = draw_bags(fields, 60, seed=99)
    for phase_params, read in ((widened, frozen), (cut.params, reading)):
        logits, _ = forward(model, phase_params, cut.batch_stats, ids, read)
        expected, _ = forward(model, full.params, full.batch_stats, ids, frozen)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig("deepfm", 4, (6,), mode_oov="oov"),
        ModelConfig("dcn", 4, (6,), pooling="sum"),
        ModelConfig("ipnn", 4, (6,), mode_linear="prune"),
        ModelConfig("fm", 4, (), mode_oov="shared", mode_linear="prune"),
    ],
)
@pytest.mark.parametrize("fields", [FIELDS, WEIGHTED], ids=["alike", "weighted"])
def test_what_is_served_reads_what_the_masked_model_reads(draw_bags, fields, model):
    params = started(model, FREE).params
    rows = ROWS.copy()
    rows[FIELDS.oov_ids] = True
    shared = model.shares_stand_in
    if shared:
        table = params.table
        source = np.where(rows, np.arange(V), FIELDS.oov_ids[FIELDS.field_of_row])
        params = params.replace(
            table=table.replace(rows=table.rows[source], linear=table.linear[source])
        )
    bags = bags_of(fields, model.pooling)
    mask = None if shared else jnp.asarray(rows)
    stats = init_params(jax.random.key(0), model, FIELDS)[1]
    ids = draw_bags(fields, 60, seed=3)
    expected, _ = forward(model, params, stats, ids, Selection(mask, jnp.asarray(DIMS), bags=bags))
    small, index = compact(model, params, fields, rows, DIMS)
    found, _ = forward(model, small, stats, ids, index)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    stacks, reading = keep(model, params, fields, rows, DIMS)
    found, _ = forward(model, stacks, stats, ids, reading)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("way", "devices", "exchange", "update"),
    [
        (pmapped, 2, None, "sparse"),
        (pmapped, 4, None, "dense"),
        (row_sharded, 2, "all_gather", "sparse"),
        (row_sharded, 4, "all_gather", "dense"),
        (row_sharded, 4, "all_to_all", "sparse"),
        (row_sharded, 2, "all_to_all", "dense"),
    ],
)
def test_any_devices_train_as_one_does(draw_bags, way, devices, exchange, update):
    model = dataclasses.replace(
        FM, mode="all", mode_threshold="budget", row_keep=0.5, row_score="frequency"
    )
    train = TrainConfig(lr=0.01, l2=1e-3, table_update=update)
    fields = WEIGHTED if devices == 4 else FIELDS
    frozen = Selection(bags=bags_of(fields, "mean"))

    def run(steps):
        state = steps.create(
            lambda key: init_state(key, model, train, fields, gather_scores=True),
            jax.random.key(1),
        )
        for number in range(6):
            ids = draw_bags(fields, BATCH, seed=number)
            state, loss = steps.train(state, ids, labels_of(BATCH, number), steps.place(frozen))
        state = steps.bring_up_to_date(state)
        logits = steps.evaluate(state.params, state.batch_stats, ids, steps.place(frozen))
        return *steps.whole((state.params, state.scores)), float(loss), np.asarray(logits)

    more = {} if way is pmapped else {"exchange": exchange}
    steps = way(Phase.SUPERNET, model, train, BATCH, V, jax.devices()[:devices], **more)
    expected, found = run(one_device(Phase.SUPERNET, model, train)), run(steps)
    for one, other in zip(*map(jax.tree.leaves, (expected, found)), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=2e-5)
    reads = np.zeros(V + 1, int)
    for number in range(6):
        np.add.at(reads, draw_bags(FIELDS, BATCH, seed=number), 1)
    np.testing.assert_array_equal(np.asarray(found[1].reads), reads[:V])
