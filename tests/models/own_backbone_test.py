"""One's own backbone in every form of the model: full, masked, compact, searched, on devices."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from outside_backbones import Calm, LinenAttention, NnxAttention
from param_shapes import shapes_of_params

from optembed_jax import metrics
from optembed_jax.devices.parallel import one_device, pmapped
from optembed_jax.errors import InputError
from optembed_jax.fitness.validation_fitness import make_fitness
from optembed_jax.method.ragged import Ragged
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.output_bias import shifted
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection
from optembed_jax.serving.compact_model import compact, expand, keep
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase
from optembed_jax.training.fit import fit

D = 4
BOTH = pytest.mark.parametrize("own", [LinenAttention, functools.partial(NnxAttention, width=4)])


def config_of(own, **changes):
    return ModelConfig(model=own, latent_dim=D, **changes)


def of_flax_alone(own, network, stats, embedded, linear):
    """The same module by Flax's own API, without the library."""
    if own is LinenAttention:
        variables = {"params": network["own"], "batch_stats": stats["own"]}
        return network["bias"] + own().apply(variables, embedded, linear, train=False)
    module = own(embedded.shape[1], D, rngs=nnx.Rngs(7))
    bias, network = network["bias"], network["own"]
    for name in ("query", "key", "value", "out"):
        layer = getattr(module.attention, name)
        layer.kernel[...] = network["attention"][name]["kernel"]
        layer.bias[...] = network["attention"][name]["bias"]
    for number, layer in enumerate(module.layers):
        layer.kernel[...] = network["layers"][str(number)]["kernel"]
    module.layers[0].bias[...] = network["layers"]["0"]["bias"]
    module.norm.scale[...], module.norm.bias[...] = (
        network["norm"]["scale"],
        network["norm"]["bias"],
    )
    module.norm.mean[...], module.norm.var[...] = stats["own"]["norm"].values()
    module.eval()
    return bias + module(embedded)


@pytest.fixture
def make(fields, randomise):
    def make(own, **changes):
        config = config_of(own, **changes)
        return config, *randomise(shapes_of_params(config, fields), seed=3)

    return make


@BOTH
def test_the_logits_are_those_of_the_module(own, make, fields, draw_ids):
    config, params, stats = make(own)
    ids = draw_ids(fields, 8)
    network = params.network
    embedded = params.table.rows[ids]
    linear = None if params.table.linear is None else params.table.linear[ids].sum(axis=1)
    expected = of_flax_alone(own, network, stats, embedded, linear)
    found, _ = forward(config, params, stats, ids, Selection())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(found) > 0.1


@BOTH
@pytest.mark.parametrize("mode_oov", ["zero", "oov"])
@pytest.mark.parametrize("dims", [[3, 1, 2], [0, 4, 1], [0, 0, 0]])
def test_compact_equals_masked(own, mode_oov, dims, make, fields, draw_ids):
    config, params, stats = make(own, mode_oov=mode_oov)
    ids, rows = draw_ids(fields, 16), np.arange(12) % 3 != 1
    masks = Selection(rows=jnp.asarray(rows), dims=jnp.asarray(dims, jnp.int32))
    expected, _ = forward(config, params, stats, ids, masks)
    small, index = compact(config, params, fields, rows, np.array(dims))
    np.testing.assert_allclose(forward(config, small, stats, ids, index)[0], expected, atol=1e-5)
    small, reading = keep(config, params, fields, rows, np.array(dims))
    small = jax.tree.map(jnp.asarray, small)
    np.testing.assert_allclose(forward(config, small, stats, ids, reading)[0], expected, atol=1e-5)
    full = expand(config, small, reading, fields, params)
    np.testing.assert_allclose(forward(config, full, stats, ids, masks)[0], expected, atol=1e-5)


@BOTH
def test_candidates_score_as_each_alone(own, make, fields):
    config, params, stats = make(own)
    rng = np.random.default_rng(0)  # No two equal rows: ties would hang on the last bit.
    every = np.stack([axis.ravel() for axis in np.indices(fields.sizes)], axis=1)
    ids = (rng.permutation(every)[:37] + fields.offsets).astype(np.int32)
    labels = rng.integers(0, 2, 37).astype(np.float32)
    rows = np.arange(12) >= 0
    dims = np.array([[4, 4, 4], [1, 2, 3], [2, 1, 1], [3, 3, 1], [1, 1, 1]], np.int32)
    fitness = make_fitness(config, params, stats, rows, ids, labels, batch_size=16)
    expected = [
        metrics.auc(
            labels,
            np.asarray(
                forward(config, params, stats, ids, Selection(jnp.asarray(rows), jnp.asarray(own)))[
                    0
                ]
            ),
        )
        for own in dims
    ]
    np.testing.assert_allclose(fitness(dims), expected, atol=1e-6)
    assert len(set(expected)) > 2
    with pytest.raises(InputError, match=r"logloss takes batch statistics anew.*use fitness auc"):
        make_fitness(config, params, stats, rows, ids, labels, measure="logloss")


@BOTH
@pytest.mark.parametrize("phase", [Phase.BASELINE, Phase.SUPERNET])
def test_it_trains_the_same_every_time(own, phase, fields, draw_clicks, batches_of):
    config, train = config_of(own), TrainConfig(lr=0.02)
    training = batches_of(*draw_clicks(fields, 256), 64, seed=0)
    validation = batches_of(*draw_clicks(fields, 128, seed=1), 64)

    def trained():
        state = init_state(jax.random.key(0), config, train, fields, click_rate=0.4)
        given = {"phase": phase, "model": config, "train": train, "epochs": 3, "patience": 3}
        return fit(state, training, validation, Selection(), **given)

    first, again = trained(), trained()
    jax.tree.map(np.testing.assert_array_equal, first.params, again.params)
    moved = jax.tree.leaves(first.batch_stats)
    assert any(np.abs(leaf).max() > 1e-3 for leaf in moved[:1])
    assert first.best.val_auc > 0.6


def test_four_devices_train_what_one_does(fields, draw_clicks, batches_of):
    config, train = config_of(Calm), TrainConfig(lr=0.02)
    training = batches_of(*draw_clicks(fields, 128), 16, seed=0)
    how = {"phase": Phase.BASELINE, "model": config}
    found = [
        fit(
            init_state(jax.random.key(0), config, train, fields),
            training,
            batches_of(*draw_clicks(fields, 40, seed=1), 16),
            Selection(),
            **how,
            train=train,
            epochs=1,
            patience=1,
            steps=steps,
        ).params
        for steps in (
            one_device(**how, train=train),
            pmapped(**how, train=train, batch_size=16, num_features=12),
        )
    ]
    jax.tree.map(lambda *of: np.testing.assert_allclose(*of, atol=1e-5), *found)


@BOTH
def test_the_output_bias_is_the_librarys(own, make, fields, draw_ids):
    config, params, stats = make(own)
    fresh, _ = init_params(jax.random.key(0), config, fields, click_rate=0.2)
    assert float(fresh.network["bias"]) == pytest.approx(np.log(0.25), abs=1e-6)
    ids = draw_ids(fields, 4)
    before, _ = forward(config, params, stats, ids, Selection())
    moved = params.replace(network=shifted(params.network, 0.5))
    after, _ = forward(config, moved, stats, ids, Selection())
    np.testing.assert_allclose(after - before, 0.5, atol=1e-5)


class Column(nn.Module):
    @nn.compact
    def __call__(self, embedded):
        return nn.Dense(1)(embedded.reshape(len(embedded), -1))


class Two(nn.Module):
    @nn.compact
    def __call__(self, embedded):
        return embedded.sum(axis=(1, 2)), embedded


class Half(nn.Module):
    @nn.compact
    def __call__(self, embedded):
        weight = self.param("w", nn.initializers.ones, (3, 4), jnp.float16)
        return (embedded * weight.astype(jnp.float32)).sum(axis=(1, 2))


class Remembers(nn.Module):
    @nn.compact
    def __call__(self, embedded):
        seen = self.variable("memory", "seen", lambda: jnp.zeros(()))
        return embedded.sum(axis=(1, 2)) + seen.value


class Frozen(nnx.Variable):
    pass


class RandomFeatures(nnx.Module):
    def __init__(self, latent_dim, *, rngs):
        self.directions = Frozen(jax.random.normal(rngs.params(), (latent_dim,)))

    def __call__(self, embedded):
        return (embedded @ self.directions[...]).sum(axis=1)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (Column, r"Column gives float32 \[2, 1\] for a batch of \[2, 3, 4\].* float32 \[2\]"),
        (Two, r"Two gives tuple \[\] for a batch of \[2, 3, 4\].* float32 \[2\]"),
        (Half, r"Half has float16 values in .*'w'"),
        (Remembers, "Remembers keeps memory, which would not be saved"),
        (RandomFeatures, "RandomFeatures keeps directions, which is neither nnx.Param nor"),
    ],
)
def test_what_would_go_wrong_later_is_refused_at_once(own, message, fields):
    with pytest.raises(InputError, match=message):
        init_params(jax.random.key(0), config_of(own), fields)


def test_a_field_order_is_put_right():
    ragged = Ragged(jnp.arange(1.0, 4.0)[None], (1, 2), (2, 0), 3)
    assert ragged.full(3).tolist() == [[[2, 3, 0], [0, 0, 0], [1, 0, 0]]]
    assert Ragged(jnp.zeros((2, 0)), (), (), 2).full(3).shape == (2, 2, 3)
    with pytest.raises(ValueError, match="2 runs of columns are of 0 fields"):
        Ragged(jnp.zeros((1, 3)), (1, 2)).full(2)
