"""Loading, refusing and serving; thousands of changed bundles are in bundle_mutations_test.py."""

import hashlib
import json
import lzma
import shutil

import jax
import numpy as np
import pyarrow as pa
import pytest
from future_module import from_the_future, put_module

from optembed_jax import data
from optembed_jax.data.prepared import encoder_of
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection
from optembed_jax.serving.bundle import Bundle, BundleError
from optembed_jax.serving.bundle_format import FORMAT_VERSION, format_sums
from optembed_jax.serving.bundle_writer import Provenance, write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.forward_module import ForwardRebuilt
from optembed_jax.serving.network_storage import kernels_of
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.serving.stored_model import Storage, served_network, store
from optembed_jax.values.unseen import UnseenValues

FIELDS = Fields(("user", "item", "hour"), (9, 300, 3))
CONFIG = ModelConfig(model="deepfm", latent_dim=4, mlp_dims=(6,), mode_oov="oov")
ROWS = np.random.default_rng(0).random(FIELDS.num_features) < 0.5
DIMS = np.array([3, 2, 4])
MIXED = Storage(("int6", "int3_field", "float16"), "int8", {"mlp/Dense_0/kernel": "int4"})


@pytest.fixture(scope="module")
def model():
    params, batch_stats = init_params(jax.random.key(0), CONFIG, FIELDS)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(np.float32), params)
    ids = np.stack([rng.integers(0, size, 40) for size in FIELDS.sizes], 1) + FIELDS.offsets
    ids = ids.astype(np.int32)
    selection = Selection(rows=jax.numpy.asarray(ROWS), dims=jax.numpy.asarray(DIMS))
    whole = jax.jit(forward, static_argnums=0)
    logits = np.asarray(whole(CONFIG, params, batch_stats, ids, selection)[0])
    return (*compact(CONFIG, params, FIELDS, ROWS, DIMS), batch_stats, ids, logits)


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    params, index, batch_stats, ids, logits = model
    path = tmp_path_factory.mktemp("bundles") / "bundle"
    provenance = Provenance({"name": "made"}, {"test_auc": 0.75}, {"seed": 3})
    write_bundle(
        path, CONFIG, params, batch_stats, index, FIELDS, provenance=provenance, check=(ids, logits)
    )
    return path


@pytest.fixture
def copy(written, tmp_path):
    return shutil.copytree(written, tmp_path / "copy")


def reseal(path):
    """New checksums, as a liar would write them."""
    files = {p.name: p.read_bytes() for p in path.iterdir() if p.name != "SHA256SUMS"}
    (path / "SHA256SUMS").write_bytes(format_sums(files))


def edit_manifest(path, edit):
    manifest = json.loads((path / "manifest.json").read_text())
    edit(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    reseal(path)


def refuse(path, message):
    with pytest.raises(BundleError, match=message):
        Bundle.load(path)


def test_gives_the_masked_models_logits(written, model):
    ids, logits = model[-2:]
    bundle = Bundle.load(written)
    np.testing.assert_allclose(bundle.logits(ids), logits, atol=1e-6)
    np.testing.assert_allclose(bundle.predict(ids), 1 / (1 + np.exp(-logits)), rtol=1e-6)
    assert bundle.fields == FIELDS
    assert bundle.manifest["metrics"] == {"test_auc": 0.75}
    assert bundle.manifest["flags"] == {"seed": 3}


def test_any_number_of_rows_in_any_batches(written, model):
    ids, logits = model[-2:]
    bundle = Bundle.load(written)
    for rows, batch_size in ((1, 2048), (7, 2048), (40, 16), (40, 1)):
        found = bundle.logits(ids[:rows], batch_size=batch_size)
        np.testing.assert_allclose(found, logits[:rows], atol=1e-6)
    assert bundle.predict(ids[:0]).shape == (0,)


def test_the_module_is_for_each_kind_of_device(written):
    content = lzma.decompress((written / "forward.jax_export.xz").read_bytes())
    exported = jax.export.deserialize(bytearray(content))
    assert exported.platforms == ("cpu", "cuda", "rocm", "tpu")
    assert jax.export.is_symbolic_dim(exported.in_avals[-1].shape[0])


def test_every_bit_of_a_bundle_is_the_same_when_written_again(written, model, tmp_path):
    params, index, batch_stats, _, _ = model
    provenance = Provenance({"name": "made"}, {"test_auc": 0.75}, {"seed": 3})
    again = tmp_path / "again"
    write_bundle(again, CONFIG, params, batch_stats, index, FIELDS, provenance=provenance)
    assert (again / "SHA256SUMS").read_bytes() == (written / "SHA256SUMS").read_bytes()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((2, 2), np.int32), r"shape \(2, 2\), expected \[N, 3\]"),
        (np.zeros((2, 3)), "ids are float64, expected integers"),
        ([[0, 9, 309], [0, 8, 309]], "row 1: id 8 is not one of field 'item'"),
        ([[-1, 9, 309]], "row 0: id -1 is not one of field 'user'"),
        ([[0, 9, 312]], "row 0: id 312 is not one of field 'hour'"),
        ([[0, [9], 309]], "rows are list; ids .*raw columns by name are needed: a mapping"),
        (None, r"rows are NoneType; ids \[N, 3\] or raw columns"),
        ("user=1", "rows are str; ids"),
        ((row for row in ({"user": 1},)), "rows are generator; ids"),
        ([{"user": 1}], "rows are a list of mappings"),
        (pa.array([{"user": 1}]), r"shape \(1,\), expected \[N, 3\]"),
    ],
)
def test_refuses_wrong_ids(written, ids, message):
    for served in (Bundle, NumpyBundle):
        with pytest.raises(InputError, match=message):
            served.load(written).predict(ids)


def test_without_a_vocabulary_it_takes_ids_only(written):
    with pytest.raises(BundleError, match="it takes ids, not raw columns"):
        Bundle.load(written).predict({"user": ["a"]})


@pytest.mark.parametrize(
    "name",
    ["SHA256SUMS", "manifest.json", "weights.safetensors", "forward.jax_export.xz", "README.md"],
)
def test_refuses_a_missing_file(copy, name):
    (copy / name).unlink()
    refuse(copy, f"{name} cannot be read")


@pytest.mark.parametrize(
    "name", ["manifest.json", "weights.safetensors", "forward.jax_export.xz", "README.md"]
)
def test_refuses_a_flipped_byte(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    refuse(copy, f"{name} is damaged: its checksum differs")


def test_refuses_a_newer_format(copy):
    newest = FORMAT_VERSION
    edit_manifest(copy, lambda m: m.update(format_version=newest + 1))
    told = f"format version {newest + 1}, this package reads up to {newest}; install a newer"
    refuse(copy, f"{told} optembed-jax")


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_format_says_how_to_export_again(copy, version):
    edit_manifest(copy, lambda m: m.update(format_version=version))
    message = (
        f"format version {version}, which is not read any more; .*experiments.export --workdir"
    )
    refuse(copy, message)
    # The files of the first had other names, which is not a damaged list of files.
    with (copy / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  vocabulary.parquet\n")
    refuse(copy, message.replace(f"version {version}", "version 1"))


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "sub/weights.safetensors", "..", "a\\b", "weights"]
)
def test_refuses_a_path_that_escapes(copy, name):
    (copy.parent / "outside").write_text("secret")
    digest = hashlib.sha256(b"secret").hexdigest()
    with (copy / "SHA256SUMS").open("a") as sums:
        sums.write(f"{digest}  {name}\n")
    refuse(copy, "is not a file of a bundle")


def test_refuses_a_link(copy):
    outside = copy.parent / "outside"
    (copy / "README.md").rename(outside)
    (copy / "README.md").symlink_to(outside)
    refuse(copy, "is a link")


def test_refuses_a_module_of_another_model(copy, model, tmp_path):
    params, index, batch_stats, _, _ = model
    other = tmp_path / "other"
    small = ModelConfig(model="fnn", latent_dim=4, mlp_dims=(6,), mode_oov="oov")
    params = params.replace(table=params.table.replace(linear=None))
    write_bundle(other, small, params, batch_stats, index, FIELDS)
    shutil.copy(other / "forward.jax_export.xz", copy)
    reseal(copy)
    refuse(copy, "it takes other arrays than the weights")


def test_a_bundle_outlives_its_module(copy, model, capfd):
    ids, logits = model[-2:]
    put_module(copy, from_the_future)
    told = (
        rf"forward.jax_export.xz, written by jax {jax.__version__}, is not used: jax .* cannot "
        r"read it.*built from the weights instead; .* experiments.export --refresh --bundle="
    )
    with pytest.warns(ForwardRebuilt, match=told) as warned:
        bundle = Bundle.load(copy)
    assert warned[0].filename == __file__ and "\n" not in str(warned[0].message)
    np.testing.assert_allclose(bundle.logits(ids), logits, atol=1e-6)
    capfd.readouterr()  # What MLIR prints about the module.


def test_samples_are_compared_without_a_module_too(copy, capfd):
    put_module(copy, from_the_future)
    edit_manifest(copy, lambda m: m["samples"]["logits"].__setitem__(3, 0.125))
    with pytest.warns(ForwardRebuilt):
        refuse(copy, "for its sample 3, 0.125 when")
    edit_manifest(copy, lambda m: m["model"].update(model="ipnn"))
    refuse(copy, "cannot be used .*, and the weights are not those of the model")
    capfd.readouterr()


def test_a_platform_that_the_module_is_not_for(model, tmp_path):
    params, index, batch_stats, ids, logits = model
    # Who writes it asked for that, and is not warned.
    bundle = write_bundle(
        tmp_path / "b", CONFIG, params, batch_stats, index, FIELDS, platforms=("cuda", "tpu")
    )
    with pytest.warns(ForwardRebuilt, match="it was made for cuda, tpu, this is cpu"):
        loaded = Bundle.load(tmp_path / "b")
    for found in (bundle, loaded):
        np.testing.assert_allclose(found.logits(ids), logits, atol=1e-6)


def test_refuses_what_is_no_bundle(tmp_path):
    refuse(tmp_path / "nowhere", "is not a folder")
    refuse(tmp_path, "SHA256SUMS cannot be read")


@pytest.mark.parametrize("storage", ["float16", "bfloat16", "int8", "int4_field", "mixed"])
def test_quantised_bundles(model, tmp_path, storage):
    params, index, batch_stats, ids, logits = model
    kernels = kernels_of(served_network(params, batch_stats))
    kinds = Storage.uniform(storage, 3, kernels) if storage != "mixed" else MIXED
    expected = np.asarray(
        forward(CONFIG, *store(params, batch_stats, index, kinds).live(), ids, index)[0]
    )
    bundle = write_bundle(
        tmp_path / "b",
        CONFIG,
        params,
        batch_stats,
        index,
        FIELDS,
        storage=kinds,
        check=(ids, expected),
    )
    found = [field["storage"] for field in bundle.manifest["fields"]]
    assert found == ([storage] * 3 if storage != "mixed" else list(MIXED.rows))
    assert bundle.manifest["bytes"]["rows"] < sum(rows.nbytes for rows in params.table.rows)
    np.testing.assert_allclose(bundle.logits(ids), logits, atol=0.1 if "8" in storage else 1.0)
    np.testing.assert_allclose(NumpyBundle.load(tmp_path / "b").logits(ids), expected, atol=1e-5)


def test_sizes_in_use_are_compiled_when_loading(written, model):
    ids, logits = model[-2:]
    bundle = Bundle.load(written, warm=(1, 33))
    assert bundle.compiled == {1, 33}
    np.testing.assert_allclose(bundle.logits(ids[:1]), logits[:1], atol=1e-6)
    np.testing.assert_allclose(bundle.logits(ids[:33], batch_size=33), logits[:33], atol=1e-6)
    assert bundle.compiled == {1, 33}
    with pytest.raises(InputError, match="each at least 1"):
        Bundle.load(written, warm=(0,))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    lines = [
        f"{rng.integers(2)},u{rng.integers(12)},{'' if rng.random() < 0.1 else rng.integers(90)}"
        for _ in range(160)
    ]
    (folder / "rows.csv").write_text("\n".join(["click,user,age", *lines]) + "\n")
    options = data.DataOptions(
        table_file=str(folder / "rows.csv"), label="click", categorical=["user"], numeric=["age"]
    )
    return data.prepare("table", options, folder / "data")


def test_raw_columns_give_the_scores_of_their_ids(prepared, tmp_path):
    config = ModelConfig(model="fnn", latent_dim=3, mlp_dims=(4,))
    params, batch_stats = init_params(jax.random.key(0), config, prepared.fields)
    rows = np.random.default_rng(0).random(prepared.fields.num_features) < 0.6
    small, index = compact(config, params, prepared.fields, rows, None)
    bundle = write_bundle(
        tmp_path / "bundle",
        config,
        small,
        batch_stats,
        index,
        prepared.fields,
        encoder=encoder_of(prepared),
    )
    raw = {"user": ["u1", "never seen", "", "u3"], "age": ["17", "", "3.5", "1e3"], "more": [0] * 4}
    ids = prepared.encode({"user": raw["user"], "age": raw["age"]})
    assert ids[1, 0] == prepared.fields.oov_ids[0]
    with pytest.warns(UnseenValues, match="field 'user': 2 of 4 rows .50.0%. have an unseen value"):
        np.testing.assert_array_equal(bundle.encode(raw), ids)
    np.testing.assert_array_equal(bundle.predict(raw), bundle.predict(ids))
    with pytest.raises(InputError, match="column 'age' is missing"):
        bundle.predict({"user": ["u1"]})
    with pytest.raises(InputError, match="row 1: column 'age' is 'old', expected a number"):
        bundle.predict({"user": ["u1", "u1"], "age": ["3", "old"]})
