import numpy as np
import pytest

from optembed_jax.serving.bundle_content import served
from optembed_jax.serving.numpy_bags import bags_of
from optembed_jax.serving.numpy_table import NumpyTable
from optembed_jax.table import packing

# Fields that share an array stand apart, in most of these.
STORAGES = ("int2", "int8", "float32", "int3", "int2", "int4_field", "int6", "float16", "int2")
DIMS = {
    "one width": (4,) * 9,
    "all even": (4, 2, 4, 2, 4, 6, 2, 4, 6),
    "no common factor": (3, 5, 3, 1, 3, 7, 5, 2, 3),
    "some without columns": (3, 0, 4, 3, 0, 4, 3, 0, 3),
    "one with columns": (0, 0, 0, 5, 0, 0, 0, 0, 0),
    "none with columns": (0,) * 9,
}


@pytest.mark.parametrize("dims", DIMS.values(), ids=DIMS)
@pytest.mark.parametrize("count", [0, 1, 40])
def test_fields_are_read_in_their_order_whatever_array_they_are_in(dims, count):
    rng = np.random.default_rng(0)
    fields, tensors, numbers = [], {}, []
    for field, (dim, storage) in enumerate(zip(dims, STORAGES, strict=True)):
        size = 3 + field
        storage = storage if dim else "float32"  # As bundles say of fields without columns.
        fields.append(
            {"name": f"f{field}", "ids": size, "rows": size, "dim": dim, "storage": storage}
        )
        own = rng.normal(size=(size, dim)).astype(np.float32)
        if dim and packing.bits_of(storage) is not None:
            codes, scale = packing.quantized(own, storage)
            tensors[f"rows/{field}"] = packing.pack(codes, packing.bits_of(storage))
            tensors[f"scale/{field}"] = scale
            own = codes * scale.astype(np.float32)[:, None]
        elif dim:
            tensors[f"rows/{field}"] = own.astype(storage)
            own = tensors[f"rows/{field}"].astype(np.float32)
        numbers.append(own)
    manifest = {"fields": fields, "linear_by_id": False, "kernels": {}, "model": {}}
    held = served(manifest, tensors, packing.in_few_bits)
    sizes = np.array([field["ids"] for field in fields])
    places = rng.integers(0, sizes, (count, 9))
    bags = bags_of(manifest)
    read = NumpyTable(manifest, held, bags).read(places + bags.offsets[:-1], None)
    expected = [own[place] for own, place in zip(numbers, places.T, strict=True)]
    np.testing.assert_array_equal(read.flat, np.concatenate(expected, axis=1))
    assert read.flat.dtype == np.float32 and read.linear is None
    assert [d for k, d in read.runs for _ in range(k)] == [dim for dim in dims if dim]
    parts = [part[:, at] for part in read.parts for at in range(part.shape[1])]
    with_columns = [own for own, dim in zip(expected, dims, strict=True) if dim]
    for part, own in zip(parts, with_columns, strict=True):
        np.testing.assert_array_equal(part, own)
