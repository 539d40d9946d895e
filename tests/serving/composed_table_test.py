"""Composed rows: the authors' formulas in NumPy, forward and one step, and bundles that serve."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.fields import Fields
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.network import logits_of
from optembed_jax.models.params import init_params
from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_format import BundleError, format_sums
from optembed_jax.serving.bundle_writer import write_bundle
from optembed_jax.serving.composed_table import ComposedTable
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import bring_up_to_date, init_state
from optembed_jax.step.train_step import Phase, train_step
from optembed_jax.table.composition import Hashed, QuotientRemainder

PLAIN = Fields(("a", "b", "c"), (40, 7, 3))
SEVERAL = Fields(("a", "b", "c"), (40, 7, 3), (3, 1, 1), (True, False, False))
MODEL = ModelConfig(model="deepfm", latent_dim=4, mlp_dims=(8,), mode="embed")
BY = {"hash": Hashed(PLAIN.sizes, 9, 3), "qr": QuotientRemainder(PLAIN.sizes, (7, 3, 0))}
TRAINS = {
    "optax": TrainConfig(table_update="dense"),
    "sparse": TrainConfig(table_update="sparse", row_decay="l2_visited"),
}


def authors(composition, stored, ids):
    """What values read, in NumPy: by Weinberger et al., equation 1, or Shi et al., section 2."""
    if isinstance(composition, Hashed):
        sign = composition.signs[ids]
        return (stored[composition.places[0][ids]].T * sign.T).T
    firsts = np.concatenate([[0], np.cumsum(composition.rows_per_field)])
    found = np.zeros((*ids.shape, *stored.shape[1:]), stored.dtype)
    for field, (offset, m) in enumerate(zip(PLAIN.offsets, composition.remainders, strict=True)):
        own = stored[firsts[field] : firsts[field + 1]]
        value = ids[:, field] - offset
        if m:
            quotients, remainders = own[:-m], own[-m:]
            found[:, field] = quotients[value // m] * remainders[value % m]
        else:
            found[:, field] = own[value]
    return found


def draw(fields, count=64, seed=0):
    rng, of_slot = np.random.default_rng(seed), fields.field_of_slot
    sizes = np.array(fields.sizes)[of_slot]
    return (rng.integers(0, sizes, (count, len(of_slot))) + fields.offsets[of_slot]).astype(
        np.int32
    )


def cut(by, fields=PLAIN, seed=1):
    kept = ComposedTable(BY[by], 4, seed)
    full, batch_stats = init_params(jax.random.key(seed), MODEL, fields, 0.3)
    full = dataclasses.replace(
        full,
        table=dataclasses.replace(
            full.table, linear=jnp.asarray(np.random.default_rng(2).normal(size=50), jnp.float32)
        ),
    )
    return kept, full, batch_stats, kept.cut(MODEL, full, fields)


@pytest.mark.parametrize("by", BY)
def test_values_read_what_the_paper_says(by):
    kept, _, _, made = cut(by)
    (table,), ids = made.params.table.stacks, draw(PLAIN)
    stored = np.random.default_rng(3).normal(size=table.rows.shape).astype(np.float32)
    linear = np.random.default_rng(4).normal(size=len(stored)).astype(np.float32)
    table = dataclasses.replace(table, rows=jnp.asarray(stored), linear=jnp.asarray(linear))
    params = dataclasses.replace(made.params, table=made.params.table.with_stacks((table,)))
    rows, term = made.reading.embed(MODEL, params, jnp.asarray(ids))
    np.testing.assert_allclose(rows, authors(BY[by], stored, ids), rtol=1e-6)
    np.testing.assert_allclose(term, authors(BY[by], linear, ids).sum(axis=1), rtol=1e-5)
    assert kept.numbers(PLAIN) == stored.size and kept.linear_weights(MODEL, PLAIN) == len(linear)


def test_rows_begin_with_what_the_full_table_has_for_their_first_value():
    for by, composition in BY.items():
        _, full, _, made = cut(by)
        read, _ = made.reading.embed(MODEL, made.params, draw(PLAIN))
        whole = np.asarray(full.table.rows)
        begun = np.asarray(made.params.table.stacks[0].rows)
        first = {}
        for number, place in enumerate(composition.places[0].tolist()):
            first.setdefault(place, number)
        for place, number in first.items():
            sign = 1 if composition.signs is None else composition.signs[number]
            np.testing.assert_array_equal(begun[place], sign * whole[number])
        if by == "qr":
            factors = begun[np.unique(composition.places[1][composition.places[1] < len(begun)])]
            assert 0.5 <= factors.min() < 0.7 < 1.3 < factors.max() <= 1.5
        assert np.isfinite(read).all()


@pytest.mark.parametrize("train", TRAINS)
@pytest.mark.parametrize("by", BY)
def test_a_step_is_that_of_the_formula(by, train):
    """Adam's first step goes by the sign of the gradient: that of the authors' formula."""
    _, _, batch_stats, made = cut(by)
    ids, labels = draw(PLAIN, 32), (np.arange(32) % 3 == 0).astype(np.float32)
    config = TRAINS[train]
    state = init_state(jax.random.key(0), MODEL, config, PLAIN, start=(made.params, batch_stats))
    step = jax.jit(
        lambda state: train_step(
            state, ids, labels, made.reading, phase=Phase.RETRAIN, model=MODEL, train=config
        )[0]
    )
    after = bring_up_to_date(step(state), train=config).params.table.stacks[0]
    before, composition = made.params.table.stacks[0], BY[by]

    def loss(rows, linear):
        # The formula again, in one dense product for each factor.
        value = [jnp.asarray(composition.places[0])[ids]]
        whole, weight = rows[value[0]], linear[value[0]]
        for factor in composition.places[1:]:
            at, ones = jnp.asarray(factor)[ids], factor[ids] == len(rows)
            whole = jnp.where(ones[..., None], whole, whole * rows.at[at].get(mode="clip"))
            weight = jnp.where(ones, weight, weight * linear.at[at].get(mode="clip"))
        if composition.signs is not None:
            sign = jnp.asarray(composition.signs)[ids]
            whole, weight = whole * sign[..., None], weight * sign
        logits, _ = logits_of(
            MODEL,
            made.params.network,
            batch_stats,
            whole,
            weight.sum(axis=1),
            train=True,
            dropout_key=jax.random.key(0),
        )
        return jnp.mean(jnp.logaddexp(0, logits) - labels * logits)

    of_rows, _ = jax.grad(loss, argnums=(0, 1))(
        jnp.asarray(before.rows), jnp.asarray(before.linear)
    )
    moved, of_rows = np.asarray(after.rows) - np.asarray(before.rows), np.asarray(of_rows)
    clear = np.abs(of_rows) > 1e-3
    assert clear.sum() > 10
    np.testing.assert_allclose(moved[clear], -1e-3 * np.sign(of_rows[clear]), atol=2e-4)
    if train == "sparse":
        unread = np.setdiff1d(np.arange(len(moved)), composition.places[:, ids].ravel())
        assert (moved[unread] == 0).all()


@pytest.mark.parametrize("fields", [PLAIN, SEVERAL], ids=["plain", "several"])
@pytest.mark.parametrize("by", BY)
def test_a_bundle_gives_the_live_model_and_stores_no_more_than_its_rows(tmp_path, by, fields):
    kept, _, batch_stats, made = cut(by, fields)
    served, index = kept.compact(MODEL, made.saved(made.params), fields)
    ids = draw(fields)
    if fields is SEVERAL:
        ids[::3, 2], ids[1::5, 1:3] = 50, 50  # Fewer values than slots.
        weights = np.random.default_rng(5).random((64, 3)).astype(np.float32)
        weights[ids[:, :3] == 50] = 0
        ids = np.concatenate([ids, weights.view(np.int32)], axis=1)
    live = np.asarray(forward(MODEL, made.params, batch_stats, ids, made.reading)[0])
    bundle = write_bundle(
        tmp_path / "bundle", MODEL, served, batch_stats, index, fields, check=(ids, live)
    )
    np.testing.assert_allclose(bundle.logits(ids), live, rtol=1e-5, atol=1e-6)
    own = NumpyBundle.load(tmp_path / "bundle")
    np.testing.assert_allclose(own.logits(ids), live, rtol=1e-5, atol=1e-6)
    size = bundle.manifest["bytes"]
    assert size["rows"] == 4 * kept.numbers(fields) and size["remap"] == 0
    assert size["linear"] == 4 * BY[by].rows and bundle.manifest["format_version"] == 6
    assert "shared" in (tmp_path / "bundle" / "README.md").read_text()


def test_a_bundle_that_says_otherwise_is_refused(tmp_path):
    kept, _, batch_stats, made = cut("hash")
    served, index = kept.compact(MODEL, made.saved(made.params), PLAIN)
    write_bundle(tmp_path / "bundle", MODEL, served, batch_stats, index, PLAIN)
    folder = tmp_path / "bundle"
    good = json.loads((folder / layout.MANIFEST).read_text())
    lies = [
        ({"by": "luck"}, "composed by 'luck'"),
        ({"by": "hash", "rows": 8, "seed": 3}, "reads|rows/0"),
        ({"by": "hash", "rows": 9, "seed": 4}, "reads|sample"),
        ({"by": "hash", "rows": 9}, "does not fit"),
    ]
    for lie, message in lies:
        text = json.dumps({**good, "composition": lie})
        (folder / layout.MANIFEST).write_text(text)
        files = {
            file.name: file.read_bytes() for file in folder.iterdir() if file.name != layout.SUMS
        }
        (folder / layout.SUMS).write_bytes(format_sums(files))
        for loader in (Bundle, NumpyBundle):
            with pytest.raises(BundleError, match=message):
                loader.load(folder)


@pytest.mark.parametrize("by", ["hash", "qr"])
def test_numbers_of_fields_add_up_where_no_row_is_shared(by):
    kept = ComposedTable(BY[by], 4, 0)
    found = kept.numbers_per_field(PLAIN)
    ends = np.cumsum(PLAIN.sizes)
    own = [
        np.unique(BY[by].places[:, end - size : end])
        for end, size in zip(ends, PLAIN.sizes, strict=True)
    ]
    np.testing.assert_array_equal(found, [4 * (rows < BY[by].rows).sum() for rows in own])
    crosses = len(np.intersect1d(own[0], own[1][own[1] < BY[by].rows])) > 0
    assert kept.shares_rows == crosses == (by == "hash")
    if by == "qr":
        assert found.sum() == kept.numbers(PLAIN) == 4 * kept.stored_rows
    else:
        assert kept.stored_rows == 9
