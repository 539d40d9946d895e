import subprocess
import sys

import jax
import numpy as np
import pytest

import optembed_jax
from optembed_jax.fields import Fields
from optembed_jax.models import MODEL_NAMES
from optembed_jax.models.forward import forward, init_params
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_format import BundleError, format_sums
from optembed_jax.serving.bundle_writer import write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.numpy_bundle import NumpyBundle

FIELDS = Fields(("user", "item", "hour"), (9, 30, 3))
ROWS = (np.random.default_rng(0).random(42) < 0.5) & (FIELDS.field_of_row != 2)


@pytest.fixture
def write(randomise, tmp_path):
    def write(rows=ROWS, **model):
        config = ModelConfig(latent_dim=4, mlp_dims=(6, 5), cross_layers=2, **model)
        params, batch_stats = randomise(init_params(jax.random.key(0), config, FIELDS))
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


def test_refuses_the_manifest_of_another_model(write):
    path = write(model="fnn")
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"model":"fnn"', '"model":"ipnn"'))
    files = {p.name: p.read_bytes() for p in path.iterdir() if p.name != "SHA256SUMS"}
    (path / "SHA256SUMS").write_bytes(format_sums(files))
    with pytest.raises(BundleError, match="the manifest's samples cannot be scored"):
        NumpyBundle.load(path)
