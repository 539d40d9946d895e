import numpy as np

from experiments.benchmarks import runtimes
from optembed_jax.fields import Fields

FIELDS = Fields(("a", "b", "c"), (4, 1000, 2))


def test_raw_columns_are_the_values_of_the_ids():
    ids = runtimes._drawn(FIELDS, 50, np.random.default_rng(0))
    assert (ids >= FIELDS.offsets + 1).all()  # each has a row of its own
    raw = runtimes._raw(ids, FIELDS)
    np.testing.assert_array_equal(runtimes._encoder(FIELDS).encode(raw), ids)
    assert {len(value) for value in raw["b"]} == {8}


def test_ratios_are_of_the_worse_storage_and_of_what_was_there():
    one = {"lookup_2048_ms": 4.0, "fbgemm_lookup_2048_ms": 2.0, "ids_1_ms": 1.0, "ids_64_ms": 3.0}
    other = {**one, "lookup_2048_ms": 1.0, "ids_1_ms": 2.0}
    assert runtimes.headline([one, other]) == {"lookup_over_fbgemm": 2.0}
    onnx = {"onnx_ids_1_ms": 0.5, "onnx_ids_64_ms": 6.0, "onnx_raw_1_ms": 2.0, "raw_1_ms": 1.0}
    assert runtimes.headline([one | onnx, other | onnx]) == {
        "lookup_over_fbgemm": 2.0,
        "ids_one_row_over_onnx": 4.0,
        "ids_64_rows_over_onnx": 0.5,
        "one_row_over_onnx": 0.5,
    }
