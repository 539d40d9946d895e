import itertools

import jax
import numpy as np
import pytest
from param_shapes import shapes_of_params

from optembed_jax.fields import Fields
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving import bit_allocation
from optembed_jax.serving.bit_allocation import Option
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.stored_model import Storage, store, tensors_of

PARTS = {
    "a": [Option("8", 80, 0.1), Option("4", 40, 0.3), Option("2", 20, 3.0), Option("x", 50, 0.9)],
    "b": [Option("8", 800, 0.2), Option("4", 400, 0.2), Option("2", 200, 5.0)],
}


def total(choice, what):
    return sum(
        getattr(option, what)
        for name, options in PARTS.items()
        for option in options
        if option.storage == choice[name]
    )


def test_each_step_loses_least_for_a_byte():
    path = [tuple(choice.values()) for choice in bit_allocation.path(PARTS)]
    # Of b, 8 bits are no better than 4; of a, x is worse than something smaller.
    assert path == [("8", "4"), ("4", "4"), ("4", "2"), ("2", "2")]


def test_nothing_of_the_same_size_or_less_is_better():
    names = [[option.storage for option in options] for options in PARTS.values()]
    every = [dict(zip(PARTS, chosen, strict=True)) for chosen in itertools.product(*names)]
    for choice in bit_allocation.path(PARTS):
        size, harm = total(choice, "size"), total(choice, "harm")
        assert all(total(o, "harm") >= harm for o in every if total(o, "size") <= size)


logits_of = jax.jit(lambda *args: forward(*args)[0], static_argnums=0)


@pytest.mark.parametrize("model", ["deepfm", "ipnn"])
def test_what_is_measured_is_what_the_stored_model_does(model, randomise, draw_ids):
    fields = Fields(("user", "item", "hour"), (9, 30, 3))
    config = ModelConfig(model=model, latent_dim=4, mlp_dims=(5,), mode_linear="prune")
    params, batch_stats = randomise(shapes_of_params(config, fields))
    small, index = compact(config, params, fields, np.arange(42) % 3 > 0, np.array([3, 0, 4]))
    ids = draw_ids(fields, 80)
    exact = np.asarray(logits_of(config, small, batch_stats, ids, index))
    weights = np.linspace(0.1, 2, 80) if model == "ipnn" else None
    parts = bit_allocation.measured(config, small, batch_stats, index, ids, weights)
    names = {"rows/0", "rows/2", "kernel/mlp/Dense_0/kernel", "kernel/logit/Dense_0/kernel"}
    assert set(parts) == names | ({"linear"} if config.has_linear_term else set())
    for name, options in parts.items():
        for option in options[1:3]:
            storage = bit_allocation.storages({name: option.storage}, 3)
            stored = store(small, batch_stats, index, storage)
            found = np.asarray(logits_of(config, *stored.live(), ids, index))
            expected = np.average(np.square(found - exact), weights=weights)
            np.testing.assert_allclose(option.harm, expected, rtol=1e-2, atol=1e-10)
            sizes = {n: array.nbytes for n, array in tensors_of(stored, index).items()}
            place = name.replace("kernel/", "network/", 1) if name.startswith("kernel/") else name
            own = {place, place + "/scale", place.replace("rows", "scale")}
            own |= {"linear_scale"} if name == "linear" else set()
            assert option.size == sum(sizes.get(n, 0) for n in own)


def test_storages_name_every_field():
    found = bit_allocation.storages({"rows/1": "int4", "kernel/a/kernel": "int8"}, 2)
    assert found == Storage(("float32", "int4"), "float32", {"a/kernel": "int8"})
