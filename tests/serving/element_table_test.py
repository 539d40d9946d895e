"""Single numbers of a table: steps leave the rest at zero, and a bundle stores no more."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection
from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_format import BundleError, format_sums
from optembed_jax.serving.bundle_writer import write_bundle
from optembed_jax.serving.element_table import ElementTable
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.serving.stored_model import Storage
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import bring_up_to_date, init_state
from optembed_jax.step.train_step import Phase, train_step
from optembed_jax.table.elements import ELEMENTS
from optembed_jax.targets import interop

FIELDS = Fields(("a", "b"), (20, 7))
MODEL = ModelConfig(model="deepfm", latent_dim=4, mlp_dims=(8,), mode="embed")
RNG = np.random.default_rng(0)
MASK = RNG.random((27, 4)) < 0.4
MASK[3] = False
IDS = np.stack([RNG.integers(0, 20, 64), RNG.integers(20, 27, 64)], axis=1).astype(np.int32)
KEPT = ElementTable(MASK, 2)


@pytest.fixture(scope="module")
def made():
    full, batch_stats = init_params(jax.random.key(1), MODEL, FIELDS, 0.3)
    return full, batch_stats, KEPT.cut(MODEL, full, FIELDS)


@pytest.mark.parametrize("update", ["dense", "sparse"])
def test_steps_are_those_of_masked_rows_and_leave_the_rest_at_zero(made, update):
    full, batch_stats, cut = made
    train = TrainConfig(table_update=update, row_decay="l2_visited")
    state = init_state(jax.random.key(0), MODEL, train, FIELDS, start=(cut.params, batch_stats))
    labels = (np.arange(64) % 3 == 0).astype(np.float32)
    step = jax.jit(
        lambda state: train_step(
            state, IDS, labels, cut.reading, phase=Phase.RETRAIN, model=MODEL, train=train
        )[0]
    )
    begun = np.asarray(cut.params.table.rows)
    np.testing.assert_array_equal(begun, np.asarray(full.table.rows) * MASK)
    first = bring_up_to_date(step(state), train=train)

    def loss(rows):
        table = dataclasses.replace(full.table, rows=rows * MASK)
        params = dataclasses.replace(full, table=table)
        logits, _ = forward(
            MODEL, params, batch_stats, IDS, Selection(), train=True, dropout_key=jax.random.key(0)
        )
        return jnp.mean(jnp.logaddexp(0, logits) - labels * logits)

    gradient = np.asarray(jax.grad(loss)(jnp.asarray(begun)))
    clear = np.abs(gradient) > 1e-4
    moved = np.asarray(first.params.table.rows) - begun
    assert clear.sum() > 10
    np.testing.assert_allclose(moved[clear], -1e-3 * np.sign(gradient[clear]), atol=2e-4)
    after = step(step(first)).params.table.rows
    assert (np.asarray(after)[~MASK] == 0).all()


def test_stand_ins_keep_to_the_mask(made):
    _, _, cut = made
    ones = lambda table: dataclasses.replace(table, rows=np.ones_like(table.rows))  # noqa: E731
    np.testing.assert_array_equal(cut.settled(cut.params, ones).table.rows, MASK)
    assert cut.settled(cut.params, lambda table: table) is cut.params


def write(made, path, storage=ELEMENTS):
    _, batch_stats, cut = made
    live = np.asarray(forward(MODEL, cut.params, batch_stats, IDS, cut.reading)[0])
    served, index = KEPT.compact(MODEL, cut.saved(cut.params), FIELDS)
    own = Storage((storage,) * 2)
    bundle = write_bundle(
        path, MODEL, served, batch_stats, index, FIELDS, storage=own, check=(IDS, live)
    )
    return bundle, live


def test_a_bundle_gives_the_live_model_in_the_bytes_of_its_numbers(made, tmp_path):
    bundle, live = write(made, tmp_path / "bundle")
    plain, _ = write(made, tmp_path / "plain", "float32")
    own = NumpyBundle.load(tmp_path / "bundle")
    np.testing.assert_array_equal(bundle.logits(IDS), plain.logits(IDS))
    np.testing.assert_allclose(bundle.logits(IDS), live, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(own.logits(IDS), live, rtol=1e-5, atol=1e-6)
    assert bundle.manifest["bytes"]["rows"] == 4 * MASK.sum() + 27
    assert plain.manifest["bytes"]["rows"] == 4 * 27 * 4
    assert (bundle.manifest["format_version"], plain.manifest["format_version"]) == (6, 3)
    assert [field["numbers"] for field in bundle.manifest["fields"]] == [
        MASK[:20].sum(),
        MASK[20:].sum(),
    ]
    assert f"| {4 * MASK[:20].sum() + 20} |" in (tmp_path / "bundle" / "README.md").read_text()
    with pytest.raises(InputError, match="single numbers"):
        interop.index_of(bundle)


def test_a_bundle_that_says_otherwise_is_refused(made, tmp_path):
    write(made, tmp_path / "bundle")
    folder = tmp_path / "bundle"
    good = (folder / layout.MANIFEST).read_text()
    lies = [
        ({"numbers": 1}, "holds"),
        ({"dim": 3}, "no numbers"),
        ({"storage": "float32"}, "rows/0"),
    ]
    for lie, message in lies:
        manifest = json.loads(good)
        manifest["fields"][0].update(lie)
        (folder / layout.MANIFEST).write_text(json.dumps(manifest))
        files = {
            file.name: file.read_bytes() for file in folder.iterdir() if file.name != layout.SUMS
        }
        (folder / layout.SUMS).write_bytes(format_sums(files))
        for loader in (Bundle, NumpyBundle):
            with pytest.raises(BundleError, match=message):
                loader.load(folder)


def test_a_mask_comes_back_from_its_bits():
    back = ElementTable.from_arrays(KEPT.arrays(), FIELDS)
    np.testing.assert_array_equal(back.elements, MASK)
    assert back.numbers(FIELDS) == MASK.sum() and not back.rows[3]
    assert back.linear_weights(MODEL, FIELDS) == 27
    assert back.rows_per_field(FIELDS).sum() == MASK.any(axis=1).sum()


def test_numbers_of_fields_are_those_of_their_rows():
    fields = Fields(("a", "b", "c"), (3, 2, 1))
    elements = np.zeros((6, 4), bool)
    elements[0, :3] = elements[2, 1] = elements[4] = True
    kept = ElementTable(elements, 3)
    assert kept.numbers_per_field(fields).tolist() == [4, 4, 0]
    assert kept.numbers(fields) == 8 and kept.stored_rows == 3 and not kept.shares_rows
