"""Checks of arrays against a manifest; whole bundles that lie are in bundle_mutations_test.py."""

import numpy as np
import pytest

from optembed_jax.serving import bundle_content
from optembed_jax.serving.bundle_content import Content
from optembed_jax.serving.bundle_format import BundleError, version_of

TYPES = {"float32": "F32", "float16": "F16", "uint16": "U16", "uint8": "U8", "int8": "I8"}


def field(ids, rows, dim, storage="float32"):
    return {"name": "a", "ids": ids, "rows": rows, "dim": dim, "storage": storage}


def check(tmp_path, tensors, fields, kernels=None, **others):
    """Checks arrays against a true manifest, but for what is given otherwise."""
    full_rows = sum(f["ids"] for f in fields) + 5
    manifest = {
        "format_version": version_of(fields),
        "model": {"model": "fm", "latent_dim": 4, "mlp_dims": []},
        "fields": fields,
        "full_rows": full_rows,
        "linear": "float32" if "linear" in tensors else None,
        "linear_by_id": False,
        "kernels": kernels or {},
        "bytes": bundle_content.count_bytes(
            [(field["rows"], field["dim"]) for field in fields], tensors, full_rows, 4
        ),
    }
    types = {name: TYPES[str(array.dtype)] for name, array in tensors.items()}
    content = Content(manifest | others, tensors, types, {})
    bundle_content.check_content(tmp_path, content)


def test_remaps_lead_to_every_row(tmp_path):
    rows = np.zeros((3, 3), np.float32)
    check(tmp_path, {"rows/0": rows, "remap/0": np.array([2, 0, 2, 1], np.uint8)}, [field(4, 3, 3)])
    for wrong in ([1, 0, 1, 1], [0, 1, 3, 2], [0, 0, 0, 0], [2, 0, 1], [[0, 1, 2, 2]]):
        tensors = {"rows/0": rows, "remap/0": np.array(wrong, np.uint8)}
        with pytest.raises(BundleError, match="the remap of field 'a'"):
            check(tmp_path, tensors, [field(4, 3, 3)])
    with pytest.raises(BundleError, match="3 rows for 4 ids, and no remap"):
        check(tmp_path, {"rows/0": rows}, [field(4, 3, 3)])


def test_nothing_left_of_a_field_needs_no_arrays(tmp_path):
    check(tmp_path, {}, [field(1, 1, 0)])
    with pytest.raises(BundleError, match="rows/0 is missing"):
        check(tmp_path, {}, [field(4, 4, 2)])
    with pytest.raises(BundleError, match="more ids than int32"):
        check(tmp_path, {}, [field(2**30, 2**30, 0)] * 2)
    with pytest.raises(BundleError, match="has no columns, and 'int4' of them"):
        check(tmp_path, {}, [field(1, 1, 0, "int4")])


def test_a_table_is_no_smaller_than_what_is_left_of_it(tmp_path):
    with pytest.raises(BundleError, match="9 ids are of a table of 8 rows"):
        check(tmp_path, {}, [field(9, 9, 0)], full_rows=8)


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
    fields = [field(5, 5, 3, "int8"), field(7, 2, 9)]
    tables = bundle_content.tables_of({"fields": fields})
    assert bundle_content.count_bytes(tables, tensors, 100, 16) == {
        "rows": 15 + 10 + 72,
        "rows_padded": 4 * (5 * 8 + 2 * 16),
        "linear": 7 + 4,
        "remap": 28,
        "network": 4,
        "full_table": 4 * 100 * 16,
    }


def test_codes_come_with_scales_and_are_codes(tmp_path):
    good = {"rows/0": np.zeros((4, 2), np.uint8), "scale/0": np.zeros(4, np.float16)}
    check(tmp_path, good, [field(4, 4, 3, "int4")])
    check(tmp_path, good | {"scale/0": np.zeros(1, np.float16)}, [field(4, 4, 3, "int4_field")])
    wrong = [
        ({"rows/0": good["rows/0"]}, "int4", "scale/0 is missing"),
        (good | {"scale/0": np.zeros(1, np.float16)}, "int4", r"is not float16 \(4,\)"),
        (good | {"scale/0": np.zeros(4, np.float32)}, "int4", "is not float16"),
        (good, "int8", "no 4 rows of 3 codes of 8 bits"),
        (good, "int5", "storage 'int5', which there is not"),
        (good, ["int4"], "which there is not|unhashable"),
        (good | {"rows/0": np.full((4, 2), 255, np.uint8)}, "int4", "no 4 rows of 3 codes"),
        (good | {"scale/1": np.zeros(4, np.float16)}, "int4", r"\['scale/1'\] belong to nothing"),
    ]
    for tensors, storage, message in wrong:
        with pytest.raises(BundleError, match=message):
            check(tmp_path, tensors, [field(4, 4, 3, storage)])


def test_linear_weights_are_as_described(tmp_path):
    fields = [field(3, 2, 0), field(2, 2, 0)]
    remap = {"remap/0": np.array([0, 1, 0], np.uint8)}
    whole = np.zeros(5, np.float32)
    check(tmp_path, remap | {"linear": whole[:4]}, fields)
    check(tmp_path, remap | {"linear": whole}, fields, linear_by_id=True)
    codes = {"linear": np.zeros(4, np.int8), "linear_scale": np.zeros(2, np.float16)}
    check(tmp_path, remap | codes, fields, linear="int8")
    for tensors, others, message in (
        ({"linear": whole}, {}, r"linear has shape \(5,\), not \(4,\)"),
        ({"linear": whole[:4]}, {"linear_by_id": 1}, "linear_by_id is 1"),
        ({"linear": whole[:4]}, {"linear": "float16"}, "linear is F32, not float16"),
        ({}, {"linear": "float32"}, "linear weights in float32 are missing"),
        (codes | {"linear": np.full(4, -128, np.int8)}, {"linear": "int8"}, "no numbers of 8 bits"),
        (codes | {"linear_scale": whole[:3]}, {"linear": "int8"}, "not one for each field"),
    ):
        with pytest.raises(BundleError, match=message):
            check(tmp_path, remap | tensors, fields, **others)
    with pytest.raises(BundleError, match="by id, but no id is without a row"):
        check(tmp_path, {"linear": whole[:2]}, [field(2, 2, 0)], linear_by_id=True)


def test_kernels_are_as_described(tmp_path):
    name = "logit/Dense_0/kernel"
    codes = {f"network/{name}": np.zeros((1, 3), np.uint8)}
    codes |= {f"network/{name}/scale": np.zeros(1, np.float16)}
    half = {f"network/{name}": np.zeros((3, 1), np.float16)}
    fields = [field(1, 1, 0)]
    check(tmp_path, codes, fields, {name: ["int8", 3]})
    check(tmp_path, codes, fields, {name: ["int6", 4]})
    check(tmp_path, half, fields, {name: ["float16", 3]})
    for tensors, kernels, message in (
        (codes, {name: ["int8", 4]}, "no 1 rows of 4 codes of 8 bits"),
        (codes, {name: ["int8", True]}, "no kernel of True inputs"),
        (codes, {name: ["int3", 3]}, "stored as 'int3'"),
        (codes, {}, "U8, not float32"),
        ({f"network/{name}/scale": np.zeros(1, np.float32)}, {}, "scale of no kernel in codes"),
        ({f"network/{name}": np.zeros((), np.float16)}, {name: ["float16", 3]}, "does not fit"),
        (half, {name: ["float16", 2]}, "not float16"),
        (half, {"bias": ["float16", 2]}, "does not fit the arrays: 'network/bias'"),
    ):
        with pytest.raises(BundleError, match=message):
            check(tmp_path, tensors, fields, kernels)


def test_samples_are_of_their_fields_and_always_the_same():
    fields = [field(5, 1, 1), field(1, 1, 0), field(1000, 7, 2)]
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
