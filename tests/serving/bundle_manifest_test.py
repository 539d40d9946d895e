import numpy as np

from optembed_jax.serving.bundle_manifest import count_bytes, tables_of


def test_bytes_are_those_of_the_arrays():
    tensors = {
        "rows/0": np.zeros((5, 3), np.uint8),
        "scale/0": np.zeros(5, np.float16),
        "rows/1": np.zeros((2, 9), np.float32),
        "remap/1": np.zeros(7, np.int32),
        "linear": np.zeros(7, np.int8),
        "linear_scale": np.zeros(2, np.float16),
        "network/bias": np.zeros((), np.float32),
    }
    fields = [{"rows": 5, "dim": 3}, {"rows": 2, "dim": 9}]
    tables = tables_of({"fields": fields})
    assert count_bytes(tables, tensors, 100, 16) == {
        "rows": 15 + 10 + 72,
        "rows_padded": 4 * (5 * 8 + 2 * 16),
        "linear": 7 + 4,
        "remap": 28,
        "network": 4,
        "full_table": 4 * 100 * 16,
    }
    # 2 SparseCores of 8 rows each, 16 lanes wide; fields without columns have no table there.
    for name, rows_padded in {"v6e-1": 16 * 8 + 16 * 16, "tpu7x-1": 2 * 16 * 16}.items():
        counted = count_bytes([*tables, (9, 0)], tensors, 100, 16, name)
        assert counted["rows_padded"] == 4 * rows_padded
