import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.serving import network_storage

NAME = "mlp/Dense_0/kernel"


@pytest.fixture
def network():
    rng = np.random.default_rng(0)
    return {
        NAME: rng.normal(size=(7, 3)).astype(np.float32),
        "mlp/Dense_0/bias": rng.normal(size=3).astype(np.float32),
    }


def test_what_is_not_named_stays(network):
    found = network_storage.stored(network, {})
    assert network_storage.kernels_of(found) == [NAME]
    for name, array in network_storage.restored(found, {}, {}).items():
        np.testing.assert_array_equal(array, network[name])


@pytest.mark.parametrize(("storage", "error"), [("int8", 0.01), ("int6", 0.05), ("int4", 0.6)])
def test_kernels_have_a_scale_for_each_output(network, storage, error):
    found = network_storage.stored(network, {NAME: storage})
    assert found[NAME].shape[0] == 3 and found[NAME + "/scale"].shape == (3,)
    restored = network_storage.restored(found, {NAME: storage}, {NAME: 7})
    assert set(restored) == set(network)
    largest = np.abs(network[NAME]).max(axis=0)
    differences = np.abs(restored[NAME] - network[NAME]).max(axis=0)
    assert (differences < largest * error).all() and differences.any()
    np.testing.assert_array_equal(restored["mlp/Dense_0/bias"], network["mlp/Dense_0/bias"])


def test_half_precision(network):
    found = network_storage.stored(network, {NAME: "float16"})
    assert found[NAME].dtype == np.float16
    restored = network_storage.restored(found, {NAME: "float16"}, {NAME: 7})[NAME]
    np.testing.assert_allclose(restored, network[NAME], rtol=2**-10, atol=1e-6)


def test_a_kernel_without_inputs():
    found = network_storage.stored({NAME: np.zeros((0, 3), np.float32)}, {NAME: "int6"})
    restored = network_storage.restored(found, {NAME: "int6"}, {NAME: 0})
    assert restored[NAME].shape == (0, 3)


@pytest.mark.parametrize("storage", ["float16", "int8", "int4"])
def test_numbers_too_large_for_a_storage_are_refused(network, storage):
    network[NAME][2, 1] = 1e30
    with pytest.raises(InputError, match=NAME):
        network_storage.stored(network, {NAME: storage})
