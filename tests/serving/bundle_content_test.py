"""Checks of arrays against a manifest; whole bundles that lie are in bundle_mutations_test.py."""

import numpy as np
import pytest

from optembed_jax.serving import bundle_content
from optembed_jax.serving.bundle_format import BundleError


def manifest_of(tensors, fields, **others):
    """A true manifest of some arrays."""
    types = {"float32": "F32", "int8": "I8", "uint16": "BF16"}
    manifest = {
        "model": {"model": "fm", "latent_dim": 4, "mlp_dims": []},
        "fields": fields,
        "prunes_linear": False,
        "storage": "float32",
        "tensors": {k: {"dtype": types.get(str(v.dtype), "U8")} for k, v in tensors.items()},
        "bytes": bundle_content.count_bytes(fields, tensors, 4) | {"disk": {}},
    }
    return manifest | others


def field(rows, kept, dim, **others):
    described = {"name": "a", "rows": rows, "rows_kept": kept, "dim": dim, "has_oov_row": False}
    return described | others


def check(tmp_path, tensors, fields, **others):
    bundle_content.check_content(tmp_path, {}, manifest_of(tensors, fields, **others), tensors)


def test_remaps_lead_to_every_kept_row_once(tmp_path):
    rows = np.zeros((2, 3), np.float32)
    remap = np.array([2, 0, 2, 1], np.uint8)
    check(tmp_path, {"rows/0": rows, "remap/0": remap}, [field(4, 2, 3)])
    for wrong in ([2, 1, 2, 0], [0, 0, 2, 1], [2, 0, 3, 1], [2, 2, 2, 2], [2, 0, 1]):
        tensors = {"rows/0": rows, "remap/0": np.array(wrong, np.uint8)}
        with pytest.raises(BundleError, match="does not lead to its 2 rows"):
            check(tmp_path, tensors, [field(4, 2, 3)])


def test_nothing_left_of_a_field_needs_no_arrays(tmp_path):
    check(tmp_path, {}, [field(4, 0, 0)])
    with pytest.raises(BundleError, match="should have 4 rows of 2 columns"):
        check(tmp_path, {}, [field(4, 4, 2)])
    with pytest.raises(BundleError, match="more rows than int32 ids"):
        check(tmp_path, {}, [field(2**30, 0, 0)] * 2)


def test_bytes_are_those_of_the_arrays():
    tensors = {
        "rows/0": np.zeros((5, 3), np.int8),
        "scale/0": np.zeros(5, np.float32),
        "rows/1": np.zeros((2, 9), np.uint16),
        "remap/1": np.zeros(7, np.int32),
        "linear": np.zeros(12, np.float32),
        "network/bias": np.zeros((), np.float32),
        "batch_stats/mean": np.zeros(3, np.float32),
    }
    assert bundle_content.count_bytes([field(5, 5, 3), field(7, 2, 9)], tensors, 16) == {
        "rows": 15 + 20 + 36,
        "rows_padded": 5 * 8 + 20 + 2 * 16 * 2,
        "linear": 48,
        "remap": 28,
        "network": 4 + 12,
        "full_table": 4 * 12 * 16,
    }
    empty = bundle_content.count_bytes([field(3, 0, 0)], {}, 8)
    assert empty.pop("full_table") == 96 and set(empty.values()) == {0}


def test_scales_come_with_int8_alone(tmp_path):
    rows = np.zeros((4, 3), np.int8)
    both = {"rows/0": rows, "scale/0": np.zeros(4, np.float32)}
    check(tmp_path, both, [field(4, 4, 3)], storage="int8")
    with pytest.raises(BundleError, match="rows/0 has scales or not"):
        check(tmp_path, {"rows/0": rows}, [field(4, 4, 3)], storage="int8")
    with pytest.raises(BundleError, match="scale/1 is the scale of nothing"):
        tensors = both | {"scale/1": np.zeros(4, np.float32)}
        check(tmp_path, tensors, [field(4, 4, 3)], storage="int8")


def test_samples_are_of_their_fields_and_always_the_same():
    fields = [field(5, 1, 1), field(1, 0, 0), field(1000, 7, 2)]
    ids = bundle_content.draw_samples(fields)
    assert ids.shape == (bundle_content.SAMPLES, 3) and ids.dtype == np.int32
    assert (ids >= [0, 5, 6]).all() and (ids < [5, 6, 1006]).all()
    np.testing.assert_array_equal(ids, bundle_content.draw_samples(fields))


def test_samples_are_scored_within_a_tolerance(tmp_path):
    manifest = {"samples": {"ids": [[0], [1]], "logits": [0.5, -200.0]}}

    def check(*logits):
        bundle_content.check_samples(tmp_path, manifest, lambda ids: np.array(logits), 1e-2)

    check(0.509, -201.9)
    with pytest.raises(BundleError, match=r"gives 0\.52 for its sample 0, 0\.5 when"):
        check(0.52, -200)
    with pytest.raises(BundleError, match="gives nan for its sample 1, -200 when"):
        check(0.5, np.nan)


def test_the_most_different_row():
    zeros = np.zeros(3)
    assert bundle_content.most_different(zeros, zeros, 0.0) is None
    assert bundle_content.most_different(np.array([1e-3, 2e-3, 0]), zeros, 1e-3) == 1
    assert bundle_content.most_different(np.array([9, 0, np.nan]), zeros, 1e-3) == 2
    assert bundle_content.most_different(zeros[:0], zeros[:0], 1e-3) is None
