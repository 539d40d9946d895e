import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from param_shapes import shapes_of_params

from optembed_jax.errors import InputError
from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.fields import Fields
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import (
    Phase,
    eval_selection,
    eval_step,
    train_selection,
    train_step,
)

D = 4
FREE = TrainConfig(lr=0.01, l2=0.0, t_lr=0.5, alpha=0.1)


def step_of(phase, model, train):
    return jax.jit(functools.partial(train_step, phase=phase, model=model, train=train))


def first_moments(state):
    """Gradients of the first step: Adam's first moment is a tenth of them."""
    table, _, network = (jax.tree.map(lambda m: m / 0.1, adam_mu(s)) for s in state.opt_state)
    return table, network


def adam_mu(opt_state):
    moments = [part.mu for part in jax.tree.leaves(opt_state, is_leaf=is_adam) if is_adam(part)]
    return moments[0] if moments else None


def is_adam(part):
    return isinstance(part, optax.ScaleByAdamState)


def random_state(fields, randomise, model, train, seed=1):
    start = randomise(shapes_of_params(model, fields), seed)
    params, stats = start
    if params.thresholds is not None:
        middle = np.random.default_rng(2).uniform(0.5, 1.5, params.thresholds.shape)
        params = params.replace(thresholds=jnp.asarray(middle.astype(np.float32)))
    return init_state(jax.random.key(3), model, train, fields, start=(params, stats))


def numpy_fm_step(params, ids, labels, model, alpha):
    """Loss and gradients of FM with learned rows, by hand.

    With e the row, m its mask and o the stand-in, FM reads x = e m + o (1 - m), and each x_f meets
    the sum of the others.
    """
    e, t = np.asarray(params.table.rows, np.float64)[ids], np.asarray(params.thresholds, np.float64)
    o = np.zeros(e.shape[1:]) if params.table.oov is None else np.asarray(params.table.oov)
    w = np.asarray(params.table.linear)[ids]
    norm = np.abs(e).sum(-1) if model.norm == 1 else np.sqrt((e**2).sum(-1))
    distance = norm - (t if model.mode_threshold == "field" else t[ids])
    m = (distance > 0).astype(float)
    x = e * m[..., None] + o * (1 - m[..., None])
    pairs = 0.5 * ((x.sum(1) ** 2).sum(-1) - (x**2).sum((1, 2)))
    kept_w = w * m if model.mode_linear == "prune" else w
    logits = float(params.network["bias"]) + kept_w.sum(1) + pairs
    p = 1 / (1 + np.exp(-logits))
    bce = -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    loss = bce + alpha * np.exp(-t).sum()

    to_logit = (p - labels) / len(labels)
    to_x = to_logit[:, None, None] * (x.sum(1, keepdims=True) - x)
    to_m = (to_x * (e - o)).sum(-1)
    if model.mode_linear == "prune":
        to_m = to_m + to_logit[:, None] * w
    size = np.abs(distance)
    to_distance = to_m * np.where(size <= 0.4, 2 - 4 * size, np.where(size <= 1, 0.4, 0))
    direction = np.sign(e) if model.norm == 1 else e / norm[..., None]
    rows = np.zeros(params.table.rows.shape)
    np.add.at(rows, ids, to_x * m[..., None] + to_distance[..., None] * direction)
    linear = np.zeros(params.table.linear.shape)
    to_w = np.broadcast_to(to_logit[:, None], ids.shape)
    np.add.at(linear, ids, to_w * m if model.mode_linear == "prune" else to_w)
    thresholds = -alpha * np.exp(-t)
    owner = np.arange(ids.shape[1]) if model.mode_threshold == "field" else ids
    np.subtract.at(thresholds, np.broadcast_to(owner, ids.shape), to_distance)
    oov = (to_x * (1 - m[..., None])).sum(0)
    return m, loss, {
        "rows": rows, "linear": linear, "oov": oov, "thresholds": thresholds,
        "bias": to_logit.sum(),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("level", "oov", "linear", "norm"),
    [
        ("field", "zero", "keep", 1),
        ("feature", "oov", "prune", 2),
        ("field", "oov", "prune", 1),
        ("feature", "zero", "keep", 2),
    ],
)
def test_supernet_step_follows_the_gradients_by_hand(
    fields, draw_clicks, randomise, level, oov, linear, norm
):
    model = ModelConfig(
        "fm", D, (), mode="feature", mode_threshold=level, mode_oov=oov, mode_linear=linear,
        norm=norm,
    )  # fmt: skip
    state = random_state(fields, randomise, model, FREE)
    ids, labels = draw_clicks(fields, 24)
    mask, expected_loss, expected = numpy_fm_step(state.params, ids, labels, model, FREE.alpha)
    assert 0 < mask.mean() < 1
    after, loss = step_of(Phase.SUPERNET, model, FREE)(state, ids, labels, Selection())
    assert float(loss) == pytest.approx(expected_loss, rel=1e-5)
    assert int(after.step) == 1

    table, network = first_moments(after)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    close(table.rows, expected["rows"])
    close(table.linear, expected["linear"])
    close(network["bias"], expected["bias"])
    if oov == "oov":
        close(table.oov, expected["oov"])
    # Thresholds: plain SGD at their own rate, no decay.
    before = np.asarray(state.params.thresholds)
    close(after.params.thresholds, before - FREE.t_lr * expected["thresholds"])
    assert (np.abs(expected["thresholds"]) > 1e-4).any()


def test_first_table_step_is_adam_with_coupled_l2(fields, draw_clicks, randomise):
    train = TrainConfig(lr=0.01, l2=0.05, t_lr=0.3, alpha=0.1)
    model = ModelConfig("fm", D, (), mode="feature", mode_oov="oov")
    state = random_state(fields, randomise, model, train)
    ids, labels = draw_clicks(fields, 6)
    _, _, gradient = numpy_fm_step(state.params, ids, labels, model, train.alpha)
    after, _ = step_of(Phase.SUPERNET, model, train)(state, ids, labels, Selection())
    unseen = np.setdiff1d(np.arange(12), ids)
    assert len(unseen), "some rows must have no gradient of their own"
    for name in ("rows", "linear", "oov"):
        before = np.asarray(getattr(state.params.table, name), np.float64)
        g = gradient[name] + train.l2 * before
        # The first step's bias-corrected moments are g and g squared.
        expected = before - train.lr * g / (np.sqrt(g**2) + 1e-8)
        np.testing.assert_allclose(getattr(after.params.table, name), expected, atol=2e-6)
    # So a row that no example reads moves by lr towards zero, whatever the decay.
    old, new = (np.asarray(s.params.table.rows)[unseen] for s in (state, after))
    np.testing.assert_allclose(new, old - train.lr * np.sign(old), atol=2e-6)
    # The bias has no decay.
    g = gradient["bias"]
    bias = float(state.params.network["bias"])
    assert float(after.params.network["bias"]) == pytest.approx(bias - 0.01 * np.sign(g), abs=2e-6)
    np.testing.assert_allclose(
        after.params.thresholds,
        np.asarray(state.params.thresholds) - 0.3 * gradient["thresholds"],
        rtol=1e-5,
    )


def test_l2_reaches_the_kernels_and_no_bias_nor_batch_norm(fields, draw_clicks, randomise):
    # DCN, because it has kernels and biases of its own beside those of the perceptron.
    model = ModelConfig("dcn", D, (5,), mode="none", cross_layers=2)
    train = TrainConfig(lr=0.01, l2=0.3)
    state = random_state(fields, randomise, model, train)
    ids, labels = draw_clicks(fields, 24)
    after, _ = step_of(Phase.BASELINE, model, train)(state, ids, labels, Selection())
    _, with_l2 = first_moments(after)
    free = dataclasses.replace(train, l2=0.0)
    after, _ = step_of(Phase.BASELINE, model, free)(state, ids, labels, Selection())
    _, without = first_moments(after)

    decayed = {}
    for (path, before), a, b in zip(
        jax.tree_util.tree_leaves_with_path(state.params.network),
        jax.tree.leaves(with_l2),
        jax.tree.leaves(without),
        strict=True,
    ):
        where = jax.tree_util.keystr(path)
        is_kernel = where.endswith(("['kernel']", "['cross_weight']"))
        expected = 0.3 * np.asarray(before) if is_kernel else np.zeros_like(before)
        np.testing.assert_allclose(
            np.asarray(a) - np.asarray(b), expected, rtol=1e-4, atol=1e-5, err_msg=where
        )
        decayed[where] = is_kernel
    assert sum(decayed.values()) == 3
    assert len(decayed) > 2 * sum(decayed.values())


def test_second_step_keeps_adams_moments(fields, draw_clicks, randomise):
    model = ModelConfig("fm", D, (), mode="feature")
    train = TrainConfig(lr=0.01, l2=0.05, t_lr=0.0, alpha=0.1)
    state = random_state(fields, randomise, model, train)
    ids, labels = draw_clicks(fields, 24)
    step = step_of(Phase.SUPERNET, model, train)
    m = v = 0.0
    rows = np.asarray(state.params.table.rows, np.float64)
    for number in (1, 2, 3):
        _, _, gradient = numpy_fm_step(state.params, ids, labels, model, train.alpha)
        g = gradient["rows"] + train.l2 * rows
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        rows = rows - 0.01 * (m / (1 - 0.9**number)) / (np.sqrt(v / (1 - 0.999**number)) + 1e-8)
        state, _ = step(state, ids, labels, Selection())
        np.testing.assert_allclose(state.params.table.rows, rows, atol=1e-5)


@pytest.mark.parametrize("mode", ["all", "feature", "embed", "none"])
def test_what_each_phase_reads(mode):
    model = ModelConfig("fm", 8, (), mode=mode)
    frozen = Selection(rows=jnp.ones(12, bool), dims=jnp.array([1, 2, 3]))
    key = jax.random.key(0)
    prunes, searches = mode in ("all", "feature"), mode in ("all", "embed")

    assert train_selection(Phase.BASELINE, model, key, (5, 3), frozen) == Selection()
    assert eval_selection(Phase.BASELINE, model, frozen) == Selection()
    assert train_selection(Phase.RETRAIN, model, key, (5, 3), frozen) is frozen
    assert eval_selection(Phase.RETRAIN, model, frozen) is frozen
    assert eval_selection(Phase.SUPERNET, model, frozen) == Selection(learned=prunes)
    drawn = train_selection(Phase.SUPERNET, model, key, (50, 3), frozen)
    assert drawn.learned == prunes and drawn.rows is None
    assert (drawn.dims is not None) == searches
    if searches:
        assert drawn.dims.shape == (50, 3)
        assert set(np.asarray(drawn.dims).ravel().tolist()) == set(range(1, 9))


def test_supernet_examples_draw_every_dimension_equally_often(fields, randomise):
    # A linear model of one example: its gradient has as many columns as were drawn.
    model = ModelConfig("fnn", D, (), mode="embed")
    state = random_state(fields, randomise, model, FREE)
    step = functools.partial(train_step, phase=Phase.SUPERNET, model=model, train=FREE)
    ids, label = jnp.asarray(fields.oov_ids)[None], jnp.ones(1)

    def columns(key):
        after, _ = step(state.replace(key=key), ids, label, Selection())
        return first_moments(after)[0].rows[ids[0]] != 0

    touched = np.asarray(jax.jit(jax.vmap(columns))(jax.random.split(jax.random.key(0), 2000)))
    drawn = touched.sum(-1)
    prefixes = np.arange(D) < drawn[..., None]
    np.testing.assert_array_equal(touched, prefixes)
    for field in range(3):
        counts = np.bincount(drawn[:, field], minlength=D + 1)[1:]
        assert np.abs(counts - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 5 / np.sqrt(2000)


def test_retraining_reads_and_trains_only_what_is_kept(fields, draw_clicks, randomise):
    model = ModelConfig("deepfm", D, (5,), mode="all", mode_linear="prune")
    state = random_state(fields, randomise, model, FREE)
    ids, labels = draw_clicks(fields, 64)
    kept = np.arange(12) % 3 != 0
    dims = np.array([2, 1, 4])
    frozen = Selection(rows=jnp.asarray(kept), dims=jnp.asarray(dims, jnp.int32))
    after, loss = step_of(Phase.RETRAIN, model, FREE)(state, ids, labels, frozen)
    touched = np.asarray(first_moments(after)[0].rows) != 0
    expected = kept[:, None] & (np.arange(D) < dims[fields.field_of_row][:, None])
    np.testing.assert_array_equal(touched, expected)
    np.testing.assert_array_equal(np.asarray(first_moments(after)[0].linear) != 0, kept)
    # Thresholds are out of it: no gradient, no regulariser.
    np.testing.assert_array_equal(after.params.thresholds, state.params.thresholds)
    logits, _ = forward(
        model, state.params, state.batch_stats, jnp.asarray(ids), frozen, train=True
    )
    z = np.asarray(logits, np.float64)
    assert float(loss) == pytest.approx(np.mean(np.logaddexp(0, z) - labels * z), rel=1e-5)


@pytest.mark.parametrize("mode", ["all", "none"])
def test_baseline_trains_the_plain_model_in_any_mode(fields, draw_clicks, randomise, mode):
    model = ModelConfig("fnn", D, (5,), mode=mode)
    state = random_state(fields, randomise, model, FREE)
    ids, labels = draw_clicks(fields, 24)
    after, loss = step_of(Phase.BASELINE, model, FREE)(state, ids, labels, Selection())
    logits, stats = forward(
        model, state.params, state.batch_stats, jnp.asarray(ids), Selection(), train=True
    )
    z = np.asarray(logits, np.float64)
    assert float(loss) == pytest.approx(np.mean(np.logaddexp(0, z) - labels * z), rel=1e-5)
    for a, b in zip(jax.tree.leaves(after.batch_stats), jax.tree.leaves(stats), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    if mode == "all":
        np.testing.assert_array_equal(after.params.thresholds, state.params.thresholds)
    evaluated = eval_step(
        after.params, after.batch_stats, jnp.asarray(ids), Selection(),
        phase=Phase.BASELINE, model=model,
    )  # fmt: skip
    expected, _ = forward(model, after.params, after.batch_stats, jnp.asarray(ids), Selection())
    np.testing.assert_array_equal(evaluated, expected)


def test_one_example_and_every_row_pruned_stay_finite(fields, randomise):
    model = ModelConfig("deepfm", D, (5,), mode="all", dropout=0.5)
    state = random_state(fields, randomise, model, FREE)
    step = step_of(Phase.SUPERNET, model, FREE)
    for value in (1e9, -1e9 / 2e7):  # Every row pruned; none pruned.
        thresholds = jnp.full((3,), value, jnp.float32)
        at = state.replace(params=state.params.replace(thresholds=thresholds))
        after, loss = step(at, fields.oov_ids[None], np.ones(1, np.float32), Selection())
        assert np.isfinite(loss)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))


@pytest.mark.parametrize(("phase", "mode"), [(Phase.BASELINE, "none"), (Phase.SUPERNET, "feature")])
def test_four_devices_equal_one_on_the_whole_batch(fields, draw_clicks, randomise, phase, mode):
    model = ModelConfig("deepfm", D, (5,), mode=mode)
    state = random_state(fields, randomise, model, FREE)
    ids, labels = draw_clicks(fields, 32)
    one, one_loss = step_of(phase, model, FREE)(state, ids, labels, Selection())
    mapped = jax.pmap(
        functools.partial(
            train_step, phase=phase, model=model, train=FREE, batch_axis=BatchAxis("devices", 32, 4)
        ),
        axis_name="devices",
    )
    replicated = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), state)
    # On the host: an operation on an array of all devices is a program of them all, and where many
    # run at once on few cores, each may wait for a thread that another holds.
    four, four_loss = jax.device_get(
        mapped(replicated, ids.reshape(4, 8, 3), labels.reshape(4, 8), Selection())
    )
    np.testing.assert_allclose(four_loss, np.full(4, one_loss), rtol=1e-6)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    for device in range(4):
        own = jax.tree.map(lambda leaf, device=device: leaf[device], four)
        for a, b in zip(
            jax.tree.leaves((first_moments(own), own.batch_stats, own.params.thresholds)),
            jax.tree.leaves((first_moments(one), one.batch_stats, one.params.thresholds)),
            strict=True,
        ):
            # Mean and variance are those of the whole batch: averaged are means of squares.
            close(a, b)
    for leaf in jax.tree.leaves(four.params):
        np.testing.assert_array_equal(leaf[1:], np.broadcast_to(leaf[0], leaf[1:].shape))


def test_devices_draw_dimensions_of_their_own(fields, randomise):
    model = ModelConfig("fnn", 64, (), mode="embed")
    state = random_state(fields, randomise, model, FREE)
    state.params.network["logit"]["Dense_0"]["kernel"] = jnp.ones((192, 1))
    mapped = jax.pmap(
        functools.partial(
            train_step,
            phase=Phase.SUPERNET,
            model=model,
            train=FREE,
            batch_axis=BatchAxis("devices", 4, 4),
        ),
        axis_name="devices",
    )
    replicated = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), state)
    ids = np.tile(fields.oov_ids, (4, 1, 1))
    after, _ = jax.device_get(mapped(replicated, ids, np.ones((4, 1), np.float32), Selection()))
    own = jax.tree.map(lambda leaf: leaf[0], after)
    gradient = np.asarray(first_moments(own)[0].rows)[fields.oov_ids]
    # Averaged over four prefixes of different lengths, a row's gradient falls in several stairs.
    stairs = [len(set(np.round(row[row != 0], 6).tolist())) for row in gradient]
    assert max(stairs) > 1 and max(stairs) <= 4


def test_steps_repeat_with_the_key_and_differ_between_steps(fields, draw_clicks, randomise):
    model = ModelConfig("fnn", D, (), mode="embed")
    state = random_state(fields, randomise, model, FREE)
    ids, labels = draw_clicks(fields, 24)
    step = step_of(Phase.SUPERNET, model, FREE)
    losses = [
        float(step(at, ids, labels, Selection())[1])
        for at in (
            state,
            state,
            state.replace(step=jnp.int32(1)),
            state.replace(key=jax.random.key(8)),
        )
    ]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_one_field_of_one_column_trains(draw_clicks, randomise):
    fields = Fields(("only",), (3,))
    model = ModelConfig("ipnn", 1, (4,), mode="all")
    state = random_state(fields, randomise, model, FREE)
    ids, labels = draw_clicks(fields, 8)
    after, loss = step_of(Phase.SUPERNET, model, FREE)(state, ids, labels, Selection())
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))


WEIGHTS = np.array([1, 2, 0, 1, 3, 1, 2, 1], np.float32)


@pytest.mark.parametrize("name", ["fm", "deepfm", "dcn"])
@pytest.mark.parametrize("decay", ["l2_coupled", "group_lasso"])
def test_an_example_of_weight_two_steps_as_the_example_given_twice(
    fields, draw_clicks, randomise, name, decay
):
    model = ModelConfig(name, D, (4,), cross_layers=2)
    train = TrainConfig(lr=0.01, l2=1e-4, row_decay=decay, table_update="sparse")
    # A row that nobody reads is idle, which one of weight 0 is not.
    ids, labels = draw_clicks(fields, 8, seed=1)
    kept = WEIGHTS > 0
    again = np.repeat(np.arange(8), WEIGHTS.astype(int))
    step = step_of(Phase.BASELINE, model, train)
    found = []
    for rows, weights in ((kept, WEIGHTS[kept]), (again, None), (kept, None)):
        state = random_state(fields, randomise, model, train)
        for _ in range(3):
            state, loss = step(state, ids[rows], labels[rows], Selection(), weights)
        found.append((state, float(loss)))
    (weighted, loss), (twice, expected), (_, plain) = found
    assert loss == pytest.approx(expected, abs=1e-6)
    assert abs(loss - plain) > 1e-3, "these weights must matter"
    for tree in ("params", "batch_stats"):
        leaves = (jax.tree.leaves(getattr(state, tree)) for state in (weighted, twice))
        for a, b in zip(*leaves, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


def test_weighted_gradients_are_those_of_the_formula(fields, draw_clicks, randomise):
    """FM by hand: the gradient of a logit is ``w (p - y) / sum(w)``; weight 0 adds nothing."""
    model, train = ModelConfig("fm", D), dataclasses.replace(FREE, alpha=0.0)
    ids, labels = draw_clicks(fields, 8, seed=1)
    state = random_state(fields, randomise, model, train)
    params = state.params
    after, loss = step_of(Phase.BASELINE, model, train)(state, ids, labels, Selection(), WEIGHTS)
    e = np.asarray(params.table.rows, np.float64)[ids]
    pairs = 0.5 * ((e.sum(1) ** 2).sum(-1) - (e**2).sum((1, 2)))
    logits = float(params.network["bias"]) + np.asarray(params.table.linear)[ids].sum(1) + pairs
    p = 1 / (1 + np.exp(-logits))
    losses = -(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    assert float(loss) == pytest.approx((WEIGHTS * losses).sum() / WEIGHTS.sum(), rel=1e-6)
    to_logit = WEIGHTS * (p - labels) / WEIGHTS.sum()
    rows = np.zeros(params.table.rows.shape)
    np.add.at(rows, ids, to_logit[:, None, None] * (e.sum(1, keepdims=True) - e))
    linear = np.zeros(params.table.linear.shape)
    np.add.at(linear, ids, np.broadcast_to(to_logit[:, None], ids.shape))
    table, network = first_moments(after)
    np.testing.assert_allclose(table.rows, rows, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table.linear, linear, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(network["bias"], to_logit.sum(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("decay", ["group_lasso", "l2_coupled"])
def test_steps_for_an_accelerator_are_those_for_a_cpu(fields, randomise, draw_clicks, decay):
    """The forms differ in loops, branches and pieces; a sum's order, and no more, may differ."""
    model = ModelConfig("deepfm", D, (6,), mode_oov="oov")
    ids, labels = draw_clicks(fields, 3 * 16)
    trained = {}
    for device in ("cpu", "NVIDIA H200"):
        train = dataclasses.replace(
            FREE, l2=1e-2, row_decay=decay, table_update="sparse", device=device
        )
        state = random_state(fields, randomise, model, train)
        step = step_of(Phase.SUPERNET, model, train)
        for start in range(0, 48, 16):
            rows = slice(start, start + 16)
            state, _ = step(state, ids[rows], labels[rows], Selection())
        trained[device] = state.params, state.opt_state
    for one, other in zip(*map(jax.tree.leaves, trained.values()), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": jnp.ones(1)}, r"labels have shape \[1\] for a batch of 6 examples"),
        ({"labels": jnp.float32(1)}, r"labels have shape \[\] for"),
        ({"labels": jnp.ones((6, 1))}, r"labels have shape \[6, 1\] for"),
        ({"weights": jnp.ones(1)}, r"weights have shape \[1\] for .*: \[6\] is wanted"),
    ],
)
def test_a_label_or_weight_for_all_examples_is_refused(fields, given, message):
    model, train = ModelConfig("fm", 4, (), mode="none"), TrainConfig()
    state = init_state(jax.random.key(0), model, train, fields)
    ids = jnp.tile(jnp.asarray(fields.oov_ids), (6, 1))
    given = {"labels": jnp.ones(6), **given}
    how = {"phase": Phase.BASELINE, "model": model, "train": train}
    with pytest.raises(InputError, match=message):
        train_step(state, ids, frozen=Selection(), **given, **how)
    with pytest.raises(InputError, match=message):
        jax.jit(lambda given: train_step(state, ids, frozen=Selection(), **given, **how))(given)


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (Selection(jnp.arange(5)), r"the row mask has shape \[5\]"),
        (Selection(dims=jnp.array([1, 2])), r"dims have shape \[2\], and there are 3 fields"),
        (Selection(dims=jnp.array([1.5, 2, 3])), "dims must be integers"),
    ],
)
def test_a_selection_of_another_table_is_refused(fields, frozen, message):
    model, train = ModelConfig("fm", 4, (), mode="embed"), TrainConfig()
    state = init_state(jax.random.key(0), model, train, fields)
    ids = jnp.tile(jnp.asarray(fields.oov_ids), (6, 1))
    how = {"phase": Phase.RETRAIN, "model": model}
    with pytest.raises(InputError, match=message):
        jax.jit(lambda frozen: train_step(state, ids, jnp.ones(6), frozen, train=train, **how))(
            frozen
        )
    with pytest.raises(InputError, match=message):
        eval_step(state.params, state.batch_stats, ids, frozen, **how)
