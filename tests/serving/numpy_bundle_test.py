import json
import subprocess
import sys

import jax
import numpy as np
import pyarrow as pa
import pytest
from param_shapes import shapes_of_params

import optembed_jax
from optembed_jax import data
from optembed_jax.data.prepared import encoder_of
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models import MODEL_NAMES
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_format import BundleError, format_sums
from optembed_jax.serving.bundle_writer import write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.values.unseen import UnseenValues

FIELDS = Fields(("user", "item", "hour"), (9, 30, 3))
ROWS = (np.random.default_rng(0).random(42) < 0.5) & (FIELDS.field_of_row != 2)


@pytest.fixture
def write(randomise, tmp_path):
    def write(rows=ROWS, **model):
        config = ModelConfig(latent_dim=4, mlp_dims=(6, 5), cross_layers=2, **model)
        params, batch_stats = randomise(shapes_of_params(config, FIELDS))
        small, index = compact(config, params, FIELDS, rows, np.array([3, 2, 4]))
        path = tmp_path / "bundle"
        write_bundle(path, config, small, batch_stats, index, FIELDS)
        return path

    return write


@pytest.mark.parametrize("mode_oov", ["zero", "oov", "shared"])
@pytest.mark.parametrize("model", MODEL_NAMES)
def test_gives_the_scores_of_the_exported_module(write, draw_ids, model, mode_oov):
    rows = ROWS | (np.isin(np.arange(42), FIELDS.oov_ids) & (mode_oov == "shared"))
    path = write(rows=rows, model=model, mode_oov=mode_oov, mode_linear="prune")
    ids = draw_ids(FIELDS, 50)
    expected = Bundle.load(path).logits(ids)
    found = NumpyBundle.load(path)
    np.testing.assert_allclose(found.logits(ids, batch_size=16), expected, atol=2e-5, rtol=2e-5)
    np.testing.assert_allclose(found.predict(ids), 1 / (1 + np.exp(-expected)), rtol=2e-5)
    assert found.logits(ids).dtype == np.float32


def test_leftovers_on_the_stack_warn_of_nothing(write, draw_ids):
    # Of 5 columns, read by products that look at more than they use (on CPUs with AVX-512).
    path = write(rows=ROWS, model="dcn")
    found = NumpyBundle.load(path)
    ids = draw_ids(FIELDS, 7)
    expected = found.logits(ids)
    # Finite doubles, half of each the bits of a float32 that raises the flag. Strided, so that
    # the product copies them to the stack.
    leftovers = np.full(600, 0x3FF000007F800001, np.uint64).view(np.float64)
    for count in range(3, 300, 3):
        assert np.isfinite(np.ones((count, count)) @ leftovers[: 2 * count : 2]).all()
        np.testing.assert_array_equal(found.logits(ids), expected)


@pytest.mark.parametrize("rows", [np.zeros(42, bool), np.ones(42, bool)])
def test_nothing_and_everything_kept(write, draw_ids, rows):
    path = write(rows=rows, model="deepfm")
    ids = draw_ids(FIELDS, 20)
    expected = Bundle.load(path).logits(ids)
    np.testing.assert_allclose(NumpyBundle.load(path).logits(ids), expected, atol=1e-5)


def test_needs_no_jax_and_says_what_does(write, draw_ids):
    path = write(model="dcn")
    ids = draw_ids(FIELDS, 3)
    others = "jax jaxlib flax optax orbax pyarrow scipy absl etils matplotlib tensorflow_datasets"
    code = f"""
import sys
for name in {others.split()!r}:
    sys.modules[name] = None  # An import of it raises ModuleNotFoundError.
from optembed_jax.serving.numpy_bundle import NumpyBundle
print(*NumpyBundle.load({str(path)!r}).logits({ids.tolist()!r}))
import optembed_jax
for ask in (lambda: optembed_jax.fit, lambda: optembed_jax.nothing):
    try:
        ask()
    except (ImportError, AttributeError) as error:
        print(type(error).__name__, error)
try:
    from optembed_jax import forward
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    scores, fit, nothing, forward = done.stdout.splitlines()
    found = np.array(scores.split(), np.float32)
    np.testing.assert_allclose(found, Bundle.load(path).logits(ids), atol=1e-5)
    assert fit.startswith("ImportError optembed_jax.fit needs a package that is not installed: ")
    assert nothing == "AttributeError module 'optembed_jax' has no attribute 'nothing'"
    assert forward.startswith("optembed_jax.forward needs a package that is not installed: ")


def test_with_jax_every_public_name_is_there():
    assert all(hasattr(optembed_jax, name) for name in optembed_jax.__all__)
    assert optembed_jax.forward is forward and optembed_jax.Fields is Fields
    assert not hasattr(optembed_jax, "nothing")


def test_refuses_wrong_ids(write):
    bundle = NumpyBundle.load(write(model="fm"))
    assert bundle.predict(np.zeros((0, 3), int)).shape == (0,)
    with pytest.raises(ValueError, match="expected \\[N, 3\\]"):
        bundle.predict(np.zeros((1, 2), int))
    with pytest.raises(ValueError, match="expected integers"):
        bundle.predict(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="row 0: id 0 is not one of field 'item'"):
        bundle.predict(np.zeros((1, 3), int))


@pytest.mark.parametrize("load", [NumpyBundle.load, Bundle.load])
def test_refuses_batches_of_nothing_and_rows_by_name(write, load, draw_ids):
    bundle = load(write(model="fm"))
    ids = draw_ids(FIELDS, 3)
    for ask in (bundle.logits, bundle.predict):
        for size in (0, -1):
            with pytest.raises(InputError, match=f"batch_size must be at least 1, not {size}"):
                ask(ids, batch_size=size)
        with pytest.raises(InputError, match="rows are a list of mappings; give one mapping"):
            ask([{"item": 1}, {"item": 2}])
    assert bundle.logits(ids, batch_size=1).shape == (3,)


def test_refuses_the_manifest_of_another_model(write):
    path = write(model="fnn")
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"model":"fnn"', '"model":"ipnn"'))
    files = {p.name: p.read_bytes() for p in path.iterdir() if p.name != "SHA256SUMS"}
    (path / "SHA256SUMS").write_bytes(format_sums(files))
    with pytest.raises(BundleError, match="the manifest's samples cannot be scored"):
        NumpyBundle.load(path)


@pytest.fixture(scope="module")
def with_values(tmp_path_factory):
    """A bundle that takes raw columns, and some of them."""
    folder = tmp_path_factory.mktemp("values")
    rng = np.random.default_rng(0)
    ages = [*map(str, range(90)), *[""] * 10]
    lines = [f"{rng.integers(2)},{rng.integers(12)}.0,{rng.choice(ages)}" for _ in range(300)]
    (folder / "rows.csv").write_text("\n".join(["click,user,age", *lines]) + "\n")
    options = data.DataOptions(
        table_file=str(folder / "rows.csv"), label="click", categorical=["user"], numeric=["age"]
    )
    prepared = data.prepare("table", options, folder / "data")
    config = ModelConfig(model="deepfm", latent_dim=4, mlp_dims=(6,), mode_oov="oov")
    params, batch_stats = init_params(jax.random.key(0), config, prepared.fields)
    rows = rng.random(prepared.fields.num_features) < 0.7
    small, index = compact(config, params, prepared.fields, rows, np.array([3, 2]))
    path = folder / "bundle"
    encoder = encoder_of(prepared)
    write_bundle(path, config, small, batch_stats, index, prepared.fields, encoder=encoder)
    return path, {"user": [3, "3.0", 11.0, "4"], "age": [17, None, "3.5", 80.0]}


def test_raw_columns_give_the_scores_of_the_exported_module(with_values):
    path, raw = with_values
    one, other = Bundle.load(path), NumpyBundle.load(path)
    ids = one.encode(raw)
    np.testing.assert_array_equal(other.encode(raw), ids)
    assert ids[0, 0] == ids[1, 0] and (ids[:, 0] > 0).all()
    np.testing.assert_allclose(other.predict(raw), one.predict(raw), rtol=2e-5)
    np.testing.assert_array_equal(other.predict(raw), other.predict(ids))
    table = pa.table({"user": [3.0, 3.0, 11.0, 4.0], "age": [17.0, None, 3.5, 80.0]})
    for bundle in (one, other):
        np.testing.assert_array_equal(bundle.predict(table), bundle.predict(ids))
    with pytest.raises(InputError, match="column 'age' is missing"):
        other.predict({"user": [3]})
    with pytest.raises(InputError, match="row 1: column 'age' is 'old', expected a number"):
        other.predict({"user": [3, 4], "age": [1, "old"]})


@pytest.mark.parametrize("loader", [Bundle, NumpyBundle])
@pytest.mark.parametrize("method", ["encode", "logits", "predict"])
def test_unseen_values_are_told_where_they_came_from(with_values, loader, method):
    path, _ = with_values
    bundle = loader.load(path)
    with pytest.warns(UnseenValues, match="field 'user': 3 of 3 rows") as told:
        getattr(bundle, method)({"user": ["x", "y", "z"], "age": [1, 2, 3]})
    assert [warning.filename for warning in told] == [__file__]
    getattr(bundle, method)({"user": ["x", "y", "z"], "age": [1, 2, 3]})  # told once


def test_a_bundle_without_values_takes_ids_alone(write):
    with pytest.raises(BundleError, match="has no vocabulary: it takes ids, not raw columns"):
        NumpyBundle.load(write(model="fnn")).predict({"user": ["a"]})


def test_raw_columns_need_no_pyarrow(with_values):
    path, raw = with_values
    code = f"""
import sys
for name in {BLOCKED.split()!r}: sys.modules[name] = None
from optembed_jax.numpy_bundle import NumpyBundle
print(NumpyBundle.load({str(path)!r}).predict({raw!r}).tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = NumpyBundle.load(path).predict(raw)
    np.testing.assert_allclose(np.array(json.loads(done.stdout)), expected, rtol=1e-6)


BLOCKED = (
    "jax jaxlib flax optax orbax pyarrow scipy absl etils matplotlib tensorflow_datasets pandas"
)
