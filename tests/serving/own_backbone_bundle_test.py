"""A bundle of a backbone of its user's own is served by its module, without its user's code."""

import dataclasses
import functools

import flax.linen as nn
import numpy as np
import pytest
from future_module import from_the_future, put_module
from outside_backbones import LinenAttention, NnxAttention
from param_shapes import shapes_of_params

from optembed_jax.errors import InputError
from optembed_jax.models import backbone_name
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.numpy_bundle import NumpyBundle
from optembed_jax.serving.bundle import Bundle, BundleError
from optembed_jax.serving.bundle_writer import refresh_module, write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.forward_module import ForwardRebuilt
from optembed_jax.serving.network_storage import kernels_of
from optembed_jax.serving.stored_model import Storage, served_network, store
from optembed_jax.targets.registry import target_of


class OddRows(nn.Module):
    @nn.compact
    def __call__(self, embedded):
        rows = embedded.shape[0]
        return nn.Dense(1)(embedded.reshape(rows, -1))[:, 0] * (1.0 if rows > 5 else 2.0)


NNX = functools.partial(NnxAttention, width=4)


@pytest.fixture
def cut(fields, randomise):
    def cut(own):
        config = ModelConfig(model=own, latent_dim=4, mode_oov="oov")
        params, stats = randomise(shapes_of_params(config, fields), seed=3)
        small, index = compact(config, params, fields, np.arange(12) % 2 == 0, np.array([4, 0, 2]))
        return config, small, stats, index

    return cut


@pytest.mark.parametrize("own", [LinenAttention, NNX])
@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_what_is_loaded_gives_what_was_written(
    own, storage, cut, fields, draw_ids, tmp_path, monkeypatch
):
    config, small, stats, index = cut(own)
    kernels = kernels_of(served_network(small, stats))
    assert kernels and all(small.network["own"] for _ in kernels)
    chosen = Storage.uniform(storage, 3, kernels)
    live = store(small, stats, index, chosen).live()
    ids = draw_ids(fields, 32)
    expected = np.asarray(forward(config, *live, ids, index)[0])
    given = {"storage": chosen, "check": (ids, expected), "platforms": ("cpu",)}
    write_bundle(tmp_path / "b", config, small, stats, index, fields, **given)

    def never(name):
        raise AssertionError(f"{name} was imported")

    monkeypatch.setattr(backbone_name.importlib, "import_module", never)
    loaded = Bundle.load(tmp_path / "b")
    np.testing.assert_allclose(loaded.logits(ids), expected, atol=1e-5)
    assert loaded.manifest["model"]["model"] == config.model_name
    exact = np.asarray(forward(config, small, stats, ids, index)[0])
    assert (np.abs(expected - exact).max() > 1e-4) == (storage == "int8")


def test_who_has_no_code_for_it_says_so_by_name(cut, fields, tmp_path):
    config, *rest = cut(LinenAttention)
    bundle = write_bundle(tmp_path / "b", config, *rest, fields, platforms=("cpu",))
    with pytest.raises(BundleError, match=r"outside_backbones:LinenAttention is a backbone of its"):
        NumpyBundle.load(tmp_path / "b")
    # Whatever is written: a target whose libraries are missing says that first.
    target = dataclasses.replace(target_of("torch"), module="optembed_jax.targets.registry")
    with pytest.raises(InputError, match=r"--format=torch: outside_backbones:LinenAtt.* JAX"):
        target.write(bundle, tmp_path / "out", False)
    assert not (tmp_path / "out").exists()


def test_without_its_module_the_class_is_needed(cut, fields, draw_ids, tmp_path):
    config, *rest = cut(NNX)
    bundle = write_bundle(tmp_path / "b", config, *rest, fields, platforms=("cpu",))
    ids = draw_ids(fields, 8)
    expected = bundle.logits(ids)
    put_module(tmp_path / "b", from_the_future)
    for load in (
        Bundle.load,
        lambda path: refresh_module(path, tmp_path / "c", ("cpu",)),
    ):
        with pytest.raises(BundleError, match=r"its user's own: give its class to Bundle.load"):
            load(tmp_path / "b")
    with pytest.raises(
        BundleError, match=r"^[^:]*b has the backbone outside_backbones:Nnx.*, not fm"
    ):
        Bundle.load(tmp_path / "b", backbone="fm")
    with pytest.warns(ForwardRebuilt, match=r"--refresh .* --model=package.module:Name"):
        rebuilt = Bundle.load(tmp_path / "b", backbone=NNX)
    np.testing.assert_allclose(rebuilt.logits(ids), expected, atol=1e-5)
    refresh_module(tmp_path / "b", tmp_path / "c", ("cpu",), backbone=NNX)
    np.testing.assert_allclose(Bundle.load(tmp_path / "c").logits(ids), expected, atol=1e-5)


def test_a_module_that_goes_by_the_number_of_rows_has_no_bundle(cut, fields, tmp_path):
    config, *rest = cut(OddRows)
    with pytest.raises(InputError, match=r"OddRows cannot be written into a bundle, where the num"):
        write_bundle(tmp_path / "b", config, *rest, fields, platforms=("cpu",))
    assert not list(tmp_path.iterdir())
