"""Straight-through rounding, against the stored model itself and Adam's formula in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from param_shapes import shapes_of_params

from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.composed_table import ComposedTable
from optembed_jax.serving.network_storage import kernels_of
from optembed_jax.serving.stored_model import Storage, served_network, store
from optembed_jax.serving.straight_through import FineTuning, fine_tuned, folded, rounding_error
from optembed_jax.table.composition import QuotientRemainder

LR = 1e-2
BACKBONES = ["fm", "fnn", "deepfm", "ipnn", "dcn", "dcnv2", "autoint", "dlrm", "finalmlp"]


def made(model, fields, randomise, **options):
    config = ModelConfig(
        model=model, latent_dim=4, mlp_dims=(6,), mode_linear="prune", mode="all", **options
    )
    params, batch_stats = randomise(shapes_of_params(config, fields))
    dims = np.array([4, 4, 4] if model in ("fm", "dlrm") else [3, 0, 4])
    small, index = compact(config, params, fields, np.arange(12) % 3 > 0, dims)
    return config, small, batch_stats, index


def in_codes(rows, params, batch_stats, **parts):
    kernels = kernels_of(served_network(params, batch_stats))
    return Storage(rows, **({"linear": "int8", "kernels": dict.fromkeys(kernels, "int4")} | parts))


def logits_of(config, params, batch_stats, ids, index):
    return np.asarray(forward(config, params, batch_stats, ids, index)[0])


def stored_numbers(params, batch_stats, index, storage):
    """What the bits stand for, number by number, by the arrays that are written."""
    live, stats = store(params, batch_stats, index, storage).live()
    rows = []
    for array in live.table.rows:
        scale = np.asarray(getattr(array, "scale", np.float32(1)), np.float32).reshape(-1, 1)
        rows.append(np.asarray(getattr(array, "values", array), np.float32) * scale)
    linear = live.table.linear
    if linear is not None and live.table.linear_scale is not None:
        scale = np.repeat(np.asarray(live.table.linear_scale, np.float32), index.kept)
        linear = np.asarray(linear, np.float32) * scale
    table = dataclasses.replace(
        live.table, rows=tuple(map(jnp.asarray, rows)), linear=linear, linear_scale=None
    )
    return dataclasses.replace(live, table=table), stats


@pytest.mark.parametrize("model", BACKBONES)
def test_numbers_and_their_rounding_errors_are_the_stored_model(model, fields, randomise, draw_ids):
    config, params, batch_stats, index = made(model, fields, randomise)
    storage = in_codes(("int2", "int4", "int3_field"), params, batch_stats)
    now, stats = folded(params, batch_stats, index)
    error = rounding_error(now, stats, index, storage)
    ids = draw_ids(fields, 50)
    exact = logits_of(config, params, batch_stats, ids, index)
    np.testing.assert_allclose(
        logits_of(config, now, stats, ids, index), exact, atol=2e-5, rtol=2e-5
    )
    found = logits_of(config, jax.tree.map(jnp.add, now, error), stats, ids, index)
    live = store(params, batch_stats, index, storage).live()
    np.testing.assert_allclose(found, logits_of(config, *live, ids, index), atol=2e-5, rtol=2e-5)
    assert np.abs(found - exact).max() > 1e-3  # There is something to train for.


def adam(gradient, moments, number):
    """Kingma and Ba (2015), algorithm 1."""
    first, second = moments or (np.zeros_like(gradient), np.zeros_like(gradient))
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * np.square(gradient)
    move = first / (1 - 0.9**number) / (np.sqrt(second / (1 - 0.999**number)) + 1e-8)
    return -LR * move, (first, second)


@pytest.mark.parametrize("hold", [1, 2])
def test_steps_are_adams_by_the_gradient_of_what_is_stored(
    hold, fields, randomise, draw_ids, draw_clicks
):
    """In the second step the first one's rounding error, where it is held."""
    config, params, batch_stats, index = made("deepfm", fields, randomise)
    storage = in_codes(("int3", "int4", "int4_field"), params, batch_stats)
    ids, labels = draw_clicks(fields, 40)
    weights = np.linspace(0.0, 2.0, 40, dtype=np.float32)
    log_odds = 0.7

    def loss_of(numbers, stats):
        logits, _ = forward(config, numbers, stats, ids, index)
        z = logits + log_odds
        each = jnp.maximum(z, 0) - z * labels + jnp.log1p(jnp.exp(-jnp.abs(z)))
        return jnp.average(each, weights=weights)

    now, stats = folded(params, batch_stats, index)
    leaves, structure = jax.tree.flatten(now)
    now, moments = [np.asarray(leaf) for leaf in leaves], {}
    losses, error = [], None
    for number in (1, 2):
        whole = jax.tree.unflatten(structure, now)
        if (number - 1) % hold == 0:
            stored, _ = stored_numbers(whole, stats, index, storage)
            error = [np.asarray(s) - n for s, n in zip(jax.tree.leaves(stored), now, strict=True)]
        at = jax.tree.unflatten(structure, [n + e for n, e in zip(now, error, strict=True)])
        loss, gradients = jax.value_and_grad(loss_of)(at, stats)
        losses.append(float(loss))
        for place, gradient in enumerate(jax.tree.leaves(gradients)):
            move, moments[place] = adam(np.asarray(gradient), moments.get(place), number)
            now[place] = now[place] + move
    told = []
    found = fine_tuned(
        config,
        params,
        batch_stats,
        index,
        storage,
        [(ids, labels, weights)] * 2,
        FineTuning(2, LR, hold=hold, judged=1),
        lambda params, stats: 1.0,
        before=0.0,
        log_odds=log_odds,
        on_step=lambda number, loss: told.append((number, float(loss))),
    )
    assert [number for number, _ in told] == [1, 2]
    np.testing.assert_allclose([loss for _, loss in told], losses, rtol=1e-5)
    assert (found.step, found.metric) == (2, 1.0)
    for leaf, expected in zip(jax.tree.leaves(found.params), now, strict=True):
        # Where a gradient is next to nothing Adam's first steps are its sign.
        np.testing.assert_allclose(leaf, expected, atol=2e-4)


def judged(scores, **options):
    """What is kept of a training that is judged at these."""
    left, seen = list(scores), []

    def judge(params, stats):
        seen.append(jax.tree.map(np.array, params))
        return left.pop(0)

    fields = options.pop("fields")
    config, params, batch_stats, index = made("fnn", fields, options.pop("randomise"))
    ids, labels = options.pop("draw_clicks")(fields, 16)
    steps = options.pop("steps")
    storage = in_codes(("int4",) * 3, params, batch_stats)
    batches = [(ids, labels, np.ones(16, np.float32))] * options.pop("batches", steps)
    tuning = FineTuning(steps, LR, judged=4)
    found = fine_tuned(
        config, params, batch_stats, index, storage, batches, tuning, judge, before=0.5
    )
    return found, seen, left


@pytest.mark.parametrize(
    ("scores", "step"),
    [((0.4, 0.5, 0.3, 0.5), None), ((0.6, 0.7, 0.7, 0.4), 4), ((np.nan, 0.5, 0.51, np.nan), 6)],
)
def test_the_best_is_kept_the_first_of_equals_and_nothing_that_is_no_better(
    scores, step, fields, randomise, draw_clicks
):
    found, seen, _ = judged(
        scores, steps=8, fields=fields, randomise=randomise, draw_clicks=draw_clicks
    )
    assert len(seen) == 4
    if step is None:
        assert found is None
        return
    assert found.step == step and found.metric == max(s for s in scores if s == s)
    # As they were when they were judged, though training went on.
    assert jax.tree.all(jax.tree.map(np.array_equal, found.params, seen[step // 2 - 1]))


@pytest.mark.parametrize(("steps", "at"), [(1, [1]), (3, [1, 2, 3]), (10, [3, 5, 8, 10])])
def test_it_is_judged_evenly_and_at_the_end(steps, at):
    tuning = FineTuning(steps, LR)
    assert [step for step in range(1, steps + 1) if tuning.is_judged_after(step)] == at


def test_without_a_batch_there_is_nothing(fields, randomise, draw_clicks):
    found, seen, _ = judged(
        (), steps=8, batches=0, fields=fields, randomise=randomise, draw_clicks=draw_clicks
    )
    assert found is None and not seen


def test_padding_does_not_count(fields, randomise, draw_ids, draw_clicks):
    config, params, batch_stats, index = made("deepfm", fields, randomise)
    storage = in_codes(("int4",) * 3, params, batch_stats)
    ids, labels = draw_clicks(fields, 20)
    more = draw_ids(fields, 12, seed=5)
    padded = np.concatenate([ids, more]), np.concatenate([labels, np.zeros(12, np.float32)])
    weights = np.repeat(np.array([1, 0], np.float32), [20, 12])
    found = [
        fine_tuned(
            config,
            params,
            batch_stats,
            index,
            storage,
            [batch] * 3,
            FineTuning(3, LR),
            lambda params, stats: 1.0,
            before=0.0,
        ).params
        for batch in ((ids, labels, np.ones(20, np.float32)), (*padded, weights))
    ]
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


def stored_loss(config, params, batch_stats, index, storage, ids, labels):
    live = store(params, batch_stats, index, storage).live()
    logits = logits_of(config, *live, ids, index)
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


@pytest.mark.parametrize("kind", ["rows and dims", "composed"])
def test_what_is_stored_fits_the_rows_better_than_before(kind, fields, randomise, draw_ids):
    """Labels that float32 gives: 2 bits lose a lot of it, and training takes back most."""
    if kind == "composed":
        config = ModelConfig(model="deepfm", latent_dim=4, mlp_dims=(6,), mode="embed")
        kept = ComposedTable(QuotientRemainder(fields.sizes, (2, 0, 3)), 4, 1)
        full, batch_stats = init_params(jax.random.key(1), config, fields, 0.3)
        cut = kept.cut(config, full, fields)
        params, _ = randomise((cut.params, batch_stats))
        params, index = kept.compact(config, cut.saved(params), fields)
        storage = in_codes(("int2",) * 3, params, batch_stats, linear="float16")
    else:
        config, params, batch_stats, index = made("deepfm", fields, randomise)
        storage = in_codes(("int2",) * 3, params, batch_stats)
    ids = draw_ids(fields, 200)
    labels = 1 / (1 + np.exp(-logits_of(config, params, batch_stats, ids, index)))
    labels = labels.astype(np.float32)
    least = stored_loss(config, params, batch_stats, index, None, ids, labels)
    before = stored_loss(config, params, batch_stats, index, storage, ids, labels)
    found = fine_tuned(
        config,
        params,
        batch_stats,
        index,
        storage,
        [(ids, labels, np.ones(200, np.float32))] * 60,
        FineTuning(60, LR, hold=5),
        lambda *numbers: -stored_loss(config, *numbers, index, storage, ids, labels),
        before=-before,
    )
    after = stored_loss(config, found.params, found.batch_stats, index, storage, ids, labels)
    assert after == pytest.approx(-found.metric)
    assert after - least < 0.5 * (before - least)
