"""What NumPy pools is what the model pools."""

import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method import bag
from optembed_jax.serving.numpy_bags import bags_of

NAMES, SIZES, SLOTS = ("user", "tags", "hour", "seen"), (4, 5, 3, 6), (1, 3, 1, 4)


def both(weighted, pooling):
    """The fields, and their slots in NumPy."""
    kinds = zip(NAMES, SIZES, SLOTS, weighted, strict=True)
    described = [{"name": n, "ids": i, "slots": s, "weighted": w} for n, i, s, w in kinds]
    manifest = {"fields": described, "model": {"pooling": pooling}}
    return Fields(NAMES, SIZES, SLOTS, weighted), bags_of(manifest)


@pytest.mark.parametrize("pooling", ["mean", "sum"])
@pytest.mark.parametrize(
    "weighted", [(False,) * 4, (False, True, False, False), (True, True, False, True)]
)
def test_fields_are_pooled_as_the_model_pools_them(draw_bags, weighted, pooling):
    fields, found = both(weighted, pooling)
    rows = draw_bags(fields, 50)
    ids, weights = found.split(rows)
    assert ids.shape == (50, 9) and (weights is None) == (not any(weighted))
    values = np.random.default_rng(1).normal(size=(50, 9, 2)).astype(np.float32)
    expected = bag.bags_of(fields, pooling).pooled(jnp.asarray(values), jnp.asarray(rows))
    every = np.arange(4)
    np.testing.assert_allclose(found.pooled(values, ids, weights, every), expected, atol=1e-6)
    # Of some fields alone, in the order that is asked for, as of all.
    some = np.array([3, 0, 1])
    slots = found.slots_of(some)
    assert slots.tolist() == [5, 6, 7, 8, 0, 1, 2, 3]
    np.testing.assert_array_equal(
        found.pooled(values[:, slots], ids[:, slots], weights, some),
        found.pooled(values, ids, weights, every)[:, some],
    )


def test_fields_of_one_value_are_not_pooled():
    plain = bags_of({"fields": [{"name": "a", "ids": 3}, {"name": "b", "ids": 2}], "model": {}})
    assert not plain.are_pooled and plain.is_mean
    ids, weights = plain.split([[0, 4], [2, 3]])
    assert ids.tolist() == [[0, 4], [2, 3]] and weights is None
    assert both((False,) * 4, "mean")[1].are_pooled
    alone = bags_of({"fields": [{"name": "a", "ids": 3, "weighted": True}], "model": {}})
    assert alone.are_pooled


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([18, 4, 18, 18, 9, 12, 18, 18, 18], "row 0: id 18 is not one of field 'user'"),
        ([0, 3, 18, 18, 9, 12, 18, 18, 18], "row 0: id 3 is not one of field 'tags'"),
        ([0, 4, 18, 18, 9, 12, 18, 18, 19], "row 0: id 19 is not one of field 'seen'"),
        ([0, 4, 18], "9"),
    ],
)
def test_ids_of_other_fields_are_refused(row, message):
    with pytest.raises(InputError, match=message):
        both((False,) * 4, "sum")[1].split(np.array([row], np.int32))
