"""Bundles of fields whose cells hold several values: the live scores, by JAX and by NumPy."""

import dataclasses
import itertools
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from future_module import from_the_future, put_module
from param_shapes import shapes_of_params

from optembed_jax import data
from optembed_jax.data.prepared import encoder_of
from optembed_jax.errors import InputError
from optembed_jax.method.bag import bags_of
from optembed_jax.models import MODEL_NAMES
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_format import BundleError, format_sums
from optembed_jax.serving.bundle_writer import refresh_module, write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.forward_module import ForwardRebuilt
from optembed_jax.serving.network_storage import kernels_of
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.serving.stored_model import Storage, served_network
from optembed_jax.targets import interop
from optembed_jax.targets.registry import TARGETS
from optembed_jax.values.cells import with_slots

GENRES = ("war", "sci", "art", "doc", "fun", "kid")
CELLS = [["war", "sci"], ["sci", "war"], [], ["kid"], ["new", "newer"], ["war", "art", "doc"]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(tmp_path_factory, ())


@pytest.fixture(scope="module")
def weighted(tmp_path_factory):
    """The same, where the values of both fields have weights."""
    return prepare(tmp_path_factory, ("genres", "words"))


def prepare(tmp_path_factory, value_weights):
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("several")
    cells = [rng.choice(GENRES, rng.integers(0, 4)).tolist() for _ in range(300)]
    kind, weight = pa.list_(pa.string()), ""
    if value_weights:
        kind = pa.map_(pa.string(), pa.float32())
        cells = [[(value, rng.random() * 2) for value in dict.fromkeys(own)] for own in cells]
        weight = ":0.25"
    table = {
        "user": [f"u{n}" for n in rng.integers(0, 9, 300)],
        "genres": pa.array(cells, kind),
        "words": [f"w{a}{weight}+w{b}" for a, b in rng.integers(0, 20, (300, 2))],
        "click": rng.integers(0, 2, 300),
    }
    pq.write_table(pa.table(table), folder / "clicks.parquet")
    options = data.DataOptions(
        table_file=str(folder / "clicks.parquet"), label="click", categorical=("user",),
        multi=("genres", "words"), separator="+", max_values=4, min_count=1,
        value_weights=value_weights,
    )  # fmt: skip
    return data.prepare("table", options, folder / "out")


@pytest.fixture
def write(prepared, randomise, tmp_path):
    def write(config, storage=None, dims=(3, 2, 4), prepared=prepared):
        fields, encoder = prepared.fields, encoder_of(prepared)
        start = randomise(shapes_of_params(config, fields))
        rows = np.random.default_rng(1).random(fields.num_features) < 0.6
        if config.shares_stand_in:
            rows[fields.oov_ids] = True
            source = np.where(rows, np.arange(len(rows)), fields.oov_ids[fields.field_of_row])
            table = start[0].table
            linear = None if table.linear is None else table.linear[source]
            table = table.replace(rows=table.rows[source], linear=linear)
            start = start[0].replace(table=table), start[1]
        small, index = compact(config, start[0], fields, rows, np.asarray(dims))
        wide = dataclasses.replace(fields, slots=encoder.slots)
        index = dataclasses.replace(index, bags=bags_of(wide, config.pooling))
        path = tmp_path / "bundle"
        if storage is not None:
            kernels = kernels_of(served_network(small, start[1]))
            storage = Storage.uniform(storage, fields.num_fields, kernels)
        write_bundle(path, config, small, start[1], index, wide, encoder=encoder, storage=storage)
        mask = None if config.shares_stand_in else jnp.asarray(rows)
        bags = bags_of(fields, config.pooling)
        frozen = Selection(mask, jnp.asarray(dims), bags=bags)

        def live(ids):
            return np.asarray(forward(config, *start, jnp.asarray(ids), frozen)[0])

        return path, live

    return write


ZERO, OOV = {"mode_linear": "prune"}, {"mode_oov": "oov"}
SHARED = {"mode_oov": "shared", "mode_linear": "prune", "pooling": "sum"}


@pytest.mark.parametrize(
    ("name", "options"),
    [*zip(MODEL_NAMES, itertools.cycle((OOV, ZERO, SHARED)), strict=False)],
)
@pytest.mark.filterwarnings("ignore::optembed_jax.values.unseen.UnseenValues")
def test_every_way_of_serving_gives_the_live_models_scores(
    prepared, write, monkeypatch, name, options
):
    config = ModelConfig(name, 4, (6, 5), cross_layers=2, **options)
    path, live = write(config)
    bundle, plain, fields = Bundle.load(path), NumpyBundle.load(path), prepared.fields
    ids, _ = prepared.arrays("train")
    wide = with_slots(ids, fields.slots, bundle.fields.slots, fields.num_features)
    assert bundle.fields.slots == (1, 4, 4) and fields.slots == (1, 3, 2)
    for found in (bundle.logits(wide, batch_size=64), plain.logits(wide, batch_size=64)):
        np.testing.assert_allclose(found, live(ids), rtol=2e-5, atol=2e-5)
    rows = {
        "user": ["u1", "u2", None, "nobody", "u3", "u1"],
        "genres": CELLS,
        "words": ["w1+w2", "w2+w1", "", "w3", "+w4+", "w1+w1"],
    }
    expected = live(prepared.encode(rows))
    for form in (rows, pa.table({**rows, "genres": pa.array(CELLS)})):
        for found in (bundle.logits(form), plain.logits(form)):
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
    many = {name: column * 20 for name, column in rows.items()}
    np.testing.assert_allclose(bundle.logits(many), np.tile(expected, 20), rtol=2e-5, atol=2e-5)
    together = bundle.encode(many)
    monkeypatch.setattr(plain._encoder, "at_once", 150)  # Texts of a field or two.
    np.testing.assert_array_equal(plain.encode(many), together)


WEIGHTED_CELLS = [
    [("war", 0.5), ("sci", 2.0)], {"sci": 2, "war": 0.5}, [], [{"value": "kid", "weight": 0}],
    [("new", 3), "newer:0.1"], ["war:0.5", "war:0.25", "doc"],
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options"),
    [("deepfm", OOV), ("fm", SHARED), ("dcn", ZERO), ("ipnn", {"pooling": "sum"})],
)
@pytest.mark.filterwarnings("ignore::optembed_jax.values.unseen.UnseenValues")
def test_weights_of_values_are_served_too(weighted, write, name, options):
    config = ModelConfig(name, 4, (6, 5), cross_layers=2, **options)
    path, live = write(config, prepared=weighted)
    bundle, plain, fields = Bundle.load(path), NumpyBundle.load(path), weighted.fields
    assert fields.weighted == (False, True, True)
    assert bundle.manifest["format_version"] == 5
    ids, _ = weighted.arrays("train")
    own = ids[:, 6:].view(np.float32)
    assert ids.shape[1] == 11 and len(np.unique(own)) > 100
    wide = with_slots(ids, fields.slots, bundle.fields.slots, fields.num_features, fields.weighted)
    for found in (bundle.logits(wide, batch_size=64), plain.logits(wide, batch_size=64)):
        np.testing.assert_allclose(found, live(ids), rtol=2e-5, atol=2e-5)
    rows = {
        "user": ["u1", "u2", None, "nobody", "u3", "u1"],
        "genres": WEIGHTED_CELLS,
        "words": ["w1:2+w2:0.5", "w2:.5 + w1:2.0", "", "w3:0", "+w4+", "w1:0.5+w1:1.5"],
    }
    encoded = bundle.encode(rows)
    np.testing.assert_array_equal(encoded, plain.encode(rows))
    weights = encoded[:, 9:].view(np.float32)
    assert weights[0].tolist() == [0.5, 2, 0, 0, 2, 0.5, 0, 0]
    assert weights[5].tolist() == [0.75, 1, 0, 0, 2, 0, 0, 0]
    many = {name: column * 20 for name, column in rows.items()}
    np.testing.assert_array_equal(bundle.encode(many), np.tile(encoded, (20, 1)))
    expected = live(weighted.encode(rows))
    for served in (bundle, plain):
        np.testing.assert_allclose(served.logits(rows), expected, rtol=2e-5, atol=2e-5)
        for bad in ("w1:-1", "w1:nan", "w1:", ":1", "w1:inf", "w1:1e13", "w1:x"):
            with pytest.raises(InputError, match=r"row 1: column 'words' is .*, expected values"):
                served.predict({"user": ["u1"] * 2, "genres": [[]] * 2, "words": ["w1", bad]})
        with pytest.raises(InputError, match="row 0: a value of field 'genres' has the weight -1"):
            wrong = encoded[:1].copy()
            wrong[0, 9] = np.float32(-1).view(np.int32)
            served.predict(wrong)
    with pytest.raises(InputError, match="values of field 'genres' have weights"):
        interop.positions(fields, interop.index_of(bundle), wide)
    with pytest.raises(InputError, match=r"--format=onnx has no weights of values.*'genres'"):
        TARGETS["onnx"].write(bundle, path.with_name("model.onnx"), takes_ids=True)
    assert not path.with_name("model.onnx").exists()


@pytest.mark.parametrize("storage", ["int8", "int4_field", "float16", "bfloat16"])
def test_in_few_bits_too(prepared, write, storage):
    path, live = write(ModelConfig("deepfm", 4, (6,), mode_oov="oov"), storage, dims=(4, 4, 4))
    bundle, plain, fields = Bundle.load(path), NumpyBundle.load(path), prepared.fields
    ids, _ = prepared.arrays("validation")
    wide = with_slots(ids, fields.slots, bundle.fields.slots, fields.num_features)
    np.testing.assert_allclose(plain.logits(wide), bundle.logits(wide), rtol=1e-4, atol=1e-4)
    assert np.corrcoef(bundle.logits(wide), live(ids))[0, 1] > 0.9


def test_a_module_that_jax_does_not_take_is_built_again_and_written_anew(prepared, write, capfd):
    path, _ = write(ModelConfig("deepfm", 4, (6,), **OOV))
    before, ids = Bundle.load(path), prepared.arrays("test")[0]
    ids = with_slots(ids, prepared.fields.slots, before.fields.slots, before.fields.num_features)
    sums = (path / "SHA256SUMS").read_bytes()
    put_module(path, from_the_future)
    with pytest.warns(ForwardRebuilt, match="is not used"):
        found = Bundle.load(path).logits(ids)
    np.testing.assert_allclose(found, before.logits(ids), rtol=1e-5, atol=1e-6)
    refresh_module(path, path)
    assert (path / "SHA256SUMS").read_bytes() == sums
    capfd.readouterr()  # What MLIR prints about the module from the future.


@pytest.mark.filterwarnings("ignore::optembed_jax.values.unseen.UnseenValues")
def test_a_cell_is_a_set(write):
    path, _ = write(ModelConfig("deepfm", 4, (6,)))
    rows = {"user": ["u1"] * 4, "words": ["w1"] * 4}
    cells = [["war", "sci", "art"], ["art", "sci", "war"], ["sci", "war", "sci", "art"], ["war"]]
    for bundle in (Bundle.load(path), NumpyBundle.load(path)):
        scores = bundle.predict({**rows, "genres": cells})
        np.testing.assert_allclose(scores[:3], scores[0], rtol=1e-6)
        assert scores[3] != scores[0]


def test_says_what_it_holds_and_refuses_other_ids(write):
    path, _ = write(ModelConfig("deepfm", 4, (6,), pooling="sum"))
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["format_version"] == 4 and manifest["model"]["pooling"] == "sum"
    assert [field.get("slots") for field in manifest["fields"]] == [None, 4, 4]
    card = (path / "README.md").read_text()
    assert "Cells of `genres` (up to 4), `words` (up to 4) hold several values" in card
    lying = shutil.copytree(path, path.with_name("lying"))
    edited = {**manifest, "model": {**manifest["model"], "pooling": "max"}}
    (lying / "manifest.json").write_text(json.dumps(edited))
    files = {p.name: p.read_bytes() for p in lying.iterdir() if p.name != "SHA256SUMS"}
    (lying / "SHA256SUMS").write_bytes(format_sums(files))
    for kind in (Bundle, NumpyBundle):
        with pytest.raises(BundleError, match="cells are pooled by 'max'"):
            kind.load(lying)
    bundle, plain = Bundle.load(path), NumpyBundle.load(path)
    nothing, offsets = bundle.fields.num_features, bundle.fields.offsets.tolist()
    good = [offsets[0], offsets[1], *[nothing] * 3, *[nothing] * 4]
    for served in (bundle, plain):
        assert np.isfinite(served.logits(np.array([good]))).all()
        for slot, wrong in ((0, nothing), (1, offsets[2]), (2, nothing + 1), (3, -1)):
            bad = [*good]
            bad[slot] = wrong
            with pytest.raises(InputError, match=rf"id {wrong} is not one of field"):
                served.logits(np.array([bad]))
        with pytest.raises(InputError, match=r"expected \[N, 9\]"):
            served.logits(np.zeros((1, 3), int))


def test_texts_for_lists_are_refused_by_both(write):
    path, _ = write(ModelConfig("fm", 4, ()))
    rows = {"user": ["u1"], "genres": "war", "words": ["w1"]}
    for served in (Bundle.load(path), NumpyBundle.load(path)):
        with pytest.raises(InputError, match="'genres' is one value, a sequence"):
            served.predict(rows)
        with pytest.raises(InputError, match="list of mappings"):
            served.predict([{"user": "u1", "genres": "war", "words": "w1"}])


def test_other_libraries_are_told_of_slots_and_how_to_combine(prepared, randomise):
    config = ModelConfig("fm", 4, (), pooling="mean")
    params, _ = randomise(shapes_of_params(config, prepared.fields))
    small, index = compact(config, params, prepared.fields, None, np.array([4, 4, 4]))
    found = interop.tpu_embedding(prepared.fields, index, 8)
    assert [table["combiner"] for table, _ in found.values()] == ["sum", "mean", "mean"]
    assert [feature["input_shape"] for _, feature in found.values()] == [(8, 1), (8, 3), (8, 2)]
    ids, _ = prepared.arrays("test")
    places = interop.positions(prepared.fields, index, ids)
    nothing = prepared.fields.num_features
    for field, own in ((1, ids[:, 1:4]), (2, ids[:, 4:])):
        assert ((places[field] == -1) == (own == nothing)).all()
        rows = np.asarray(small.table.rows[field])[places[field]]
        full = np.asarray(params.table.rows)[np.minimum(own, nothing - 1)]
        is_value = own != nothing
        np.testing.assert_array_equal(rows[is_value], full[is_value])
