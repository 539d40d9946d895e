import ml_dtypes
import numpy as np
import pytest

from optembed_jax.serving.stored_rows import numbers
from optembed_jax.table import packing
from optembed_jax.targets.fbgemm_tables import COLUMNS, decoded, nbit_table

ROWS = np.random.default_rng(0).normal(0, 0.3, (40, 6)).astype(np.float32)
KINDS = {"float32": "FP32", "float16": "FP16", "bfloat16": "FP32", "int8": "INT8", "int6": "INT8"}
KINDS |= {
    "int4": "INT4",
    "int3": "INT4",
    "int2": "INT2",
    "int8_field": "INT8",
    "int3_field": "INT4",
}


def stored(values, storage):
    if packing.bits_of(storage) is not None:
        codes, scale = packing.quantized(values, storage)
        return {"rows/0": codes, "scale/0": scale}
    kind = ml_dtypes.bfloat16 if storage == "bfloat16" else storage
    return {"rows/0": values.astype(kind)}


@pytest.mark.parametrize(("storage", "kind"), KINDS.items())
def test_a_table_has_the_very_numbers_of_the_bundle(storage, kind):
    rows = stored(ROWS, storage)
    table = nbit_table(rows, 0, storage)
    assert table.kind == kind and table.dim % COLUMNS[kind] == 0 and 6 <= table.dim < 6 + 16
    found = decoded(table)
    np.testing.assert_array_equal(found[:, :6], numbers(rows, 0))
    np.testing.assert_array_equal(found[:, 6:], 0)
    assert np.abs(found[:, :6] - ROWS).max() < {"INT2": 1.0, "INT4": 0.5}.get(kind, 0.03)


def test_the_bytes_of_a_row():
    """Of one row: a half of .5, one of -4 (8 times .5), then the codes, the first one lowest."""
    rows = {"rows/0": np.array([[-7, 7, 0, 3]], np.int8), "scale/0": np.array([0.5], np.float16)}
    table = nbit_table(rows, 0, "int4")
    np.testing.assert_array_equal(
        table.weights, np.array([[0x00, 0x38, 0x00, 0xC4, 0xF1, 0xB8, 0x88, 0x88]], np.uint8)
    )


def test_a_scale_whose_bias_float16_cannot_hold():
    rows = {"rows/0": np.array([[-127, 5]], np.int8), "scale/0": np.array([512.0], np.float16)}
    table = nbit_table(rows, 0, "int8")
    assert table.kind == "FP32"
    np.testing.assert_array_equal(decoded(table), [[-65024.0, 2560.0, 0.0, 0.0]])


def test_a_table_of_one_row_and_one_column():
    rows = stored(ROWS[:1, :1], "int2_field")
    table = nbit_table(rows, 0, "int2_field")
    assert table.weights.shape == (1, 4 + 4) and table.dim == 16
    np.testing.assert_array_equal(decoded(table)[:, :1], numbers(rows, 0))
