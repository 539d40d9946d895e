"""Checks of arrays against a manifest; whole bundles that lie are in bundle_mutations_test.py."""

import numpy as np
import pytest

from optembed_jax.serving.bundle_format import BundleError, version_of
from optembed_jax.serving.bundle_manifest import count_bytes
from optembed_jax.serving.content_checks import check_arrays

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
        "bytes": count_bytes(
            [(field["rows"], field["dim"]) for field in fields], tensors, full_rows, 4
        ),
    }
    types = {name: TYPES[str(array.dtype)] for name, array in tensors.items()}
    check_arrays(tmp_path, manifest | others, tensors, types)


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
