import jax
import numpy as np
import pytest
from param_shapes import shapes_of_params

from optembed_jax.errors import InputError
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.network_storage import kernels_of
from optembed_jax.serving.stored_model import (
    Storage,
    describe_fields,
    served_network,
    store,
    tensors_of,
)

KERNELS = ["logit/Dense_0/kernel", "mlp/Dense_0/kernel", "mlp/Dense_1/kernel"]


@pytest.fixture
def model(fields, randomise):
    config = ModelConfig(model="deepfm", latent_dim=4, mlp_dims=(6, 5), mode_linear="prune")
    params, batch_stats = randomise(shapes_of_params(config, fields))
    rows = np.arange(12) % 3 > 0
    return config, *compact(config, params, fields, rows, np.array([3, 0, 4])), batch_stats


def test_in_float32_it_is_the_model(model, fields, draw_ids):
    config, params, index, batch_stats = model
    ids = draw_ids(fields, 40)
    stored = store(params, batch_stats, index)
    found = forward(config, *stored.live(), ids, index)[0]
    expected = forward(config, params, batch_stats, ids, index)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_uniform_storages_keep_8_bits_of_what_is_no_row():
    found = Storage.uniform("int3_field", 2, KERNELS)
    assert found == Storage(("int3_field",) * 2, "int8", dict.fromkeys(KERNELS, "int8"))
    assert Storage.uniform("bfloat16", 1, ["k"]) == Storage(
        ("bfloat16",), "bfloat16", {"k": "float16"}
    )
    assert Storage.uniform("float32", 1, ["k"]).kernels == {"k": "float32"}
    with pytest.raises(InputError, match=r"storage must be one of float32, .* not 'int5'"):
        Storage.uniform("int5", 1)
    for unknown, what in (
        ({"rows": ("int8", "int5")}, "rows must be one of .*, not 'int5'"),
        ({"rows": ("int8",), "linear": "int4"}, "linear weights must be one of .*, not 'int4'"),
        ({"rows": (), "kernels": {"k": "int8_row"}}, "kernels must be one of .*, not 'int8_row'"),
    ):
        with pytest.raises(InputError, match=f"storage of {what}"):
            Storage(**unknown)


def test_arrays_are_packed_and_described(model, fields):
    _, params, index, batch_stats = model
    assert kernels_of(served_network(params, batch_stats)) == KERNELS
    storage = Storage(("int4", "int4", "int6_field"), "int8", {KERNELS[1]: "int6"})
    stored = store(params, batch_stats, index, storage)
    tensors = tensors_of(stored, index)
    rows = index.kept
    assert tensors["rows/0"].shape == (rows[0], 2) and tensors["scale/0"].shape == (rows[0],)
    assert tensors["rows/2"].shape == (rows[2], 3) and tensors["scale/2"].shape == (1,)
    assert tensors["linear"].shape == (sum(rows),) and tensors["linear"].dtype == np.int8
    assert tensors["network/mlp/Dense_0/kernel"].shape == (6, -(-7 * 6 // 8))
    described = describe_fields(fields.names, index, stored)
    assert [field["storage"] for field in described] == ["int4", "float32", "int6_field"]
    assert [field["dim"] for field in described] == [3, 0, 4]
    # As small as the rows count themselves.
    sizes = [tensors[f"rows/{f}"].nbytes + tensors[f"scale/{f}"].nbytes for f in (0, 2)]
    assert sizes == [array.nbytes for array in stored.table.rows]


def test_refuses_what_cannot_be_stored(model, fields):
    config, params, index, batch_stats = model
    broken = jax.tree.map(lambda leaf: leaf * np.nan, params.network)
    with pytest.raises(InputError, match="not finite"):
        store(params.replace(network=broken), batch_stats, index)
    full, _ = init_params(jax.random.key(0), config, fields)
    with pytest.raises(InputError, match="holds a compact model"):
        store(full, batch_stats, index)
