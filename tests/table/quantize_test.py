import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.table.quantize import (
    STORAGES,
    ScaledRows,
    quantize_rows,
    restore_rows,
    storage_of,
)


@pytest.fixture
def rows():
    values = np.random.default_rng(0).normal(0, 0.3, (50, 7)).astype(np.float32)
    values[3] = 0.0
    return jnp.asarray(values)


def test_int8_is_within_half_a_step_of_each_row(rows):
    stored = quantize_rows(rows, "int8")
    assert isinstance(stored, ScaledRows) and storage_of(stored) == "int8"
    assert (stored.values.dtype, stored.scale.dtype) == (jnp.int8, jnp.float16)
    assert stored.shape == (50, 7) and stored.nbytes == 50 * (7 + 2)
    step = np.abs(np.asarray(rows)).max(axis=1) / 127
    np.testing.assert_allclose(np.asarray(stored.scale, np.float32), step, rtol=1e-3)
    error = np.abs(np.asarray(restore_rows(stored)) - np.asarray(rows))
    # The scale is rounded to float16, which may cut the largest value off by as much.
    assert (error <= step[:, None] / 2 + np.abs(np.asarray(rows)) * 2.0**-10).all()
    np.testing.assert_array_equal(restore_rows(stored)[3], np.zeros(7))


@pytest.mark.parametrize(("storage", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_half_precision_rounds_to_its_significand(rows, storage, bits):
    stored = quantize_rows(rows, storage)
    assert stored.dtype == jnp.dtype(storage)
    error = np.abs(np.asarray(restore_rows(stored)) - np.asarray(rows))
    assert (error <= np.abs(np.asarray(rows)) * 2.0**-bits + 2.0**-25).all()


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_empty_rows_stay_empty(storage, shape):
    assert restore_rows(quantize_rows(jnp.zeros(shape, jnp.float32), storage)).shape == shape


def test_float32_is_untouched(rows):
    np.testing.assert_array_equal(quantize_rows(rows, "float32"), rows)


def test_refusals(rows):
    with pytest.raises(InputError, match="storage must be one of"):
        quantize_rows(rows, "int5")
    with pytest.raises(InputError, match="int2 cannot hold 1e"):
        quantize_rows(jnp.array([[1e30]]), "int2")
    with pytest.raises(InputError, match="not finite"):
        quantize_rows(jnp.array([[jnp.nan]]), "int8")
    with pytest.raises(InputError, match="float16 holds values up to 65504"):
        quantize_rows(jnp.array([[7e4]]), "float16")
