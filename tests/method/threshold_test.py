import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.method import threshold

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def numpy_gradient(x):
    """The estimator's derivative, case by case."""
    distance = np.abs(x)
    return np.where(distance <= 0.4, 2 - 4 * distance, np.where(distance <= 1, 0.4, 0.0))


def numpy_norm(rows, order):
    return np.abs(rows).sum(-1) if order == 1 else np.sqrt((rows**2).sum(-1))


def numpy_norm_gradient(rows, order):
    if order == 1:
        return np.sign(rows)
    return rows / np.maximum(numpy_norm(rows, 2), 1e-30)[..., None]


@pytest.fixture
def looked_up(fields, draw_ids):
    """Ids ``[64, 3]`` and a table whose norms lie on all branches of the estimator."""
    rng = np.random.default_rng(3)
    table = rng.normal(0, 0.4, (fields.num_features, 4)).astype(np.float32)
    table *= rng.permutation(np.linspace(0.1, 2, len(table)).astype(np.float32))[:, None]
    table[2] = 0
    return draw_ids(fields, 64, seed=1), table


def thresholds_for(level, fields):
    size = fields.num_fields if level == "field" else fields.num_features
    return np.random.default_rng(4).uniform(0.2, 1.2, size).astype(np.float32)


def per_lookup(thresholds, ids, level):
    return thresholds[np.arange(ids.shape[1])] if level == "field" else thresholds[ids]


@pytest.mark.parametrize("order", [1, 2])
def test_norm_and_its_gradient(order):
    rows = np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32)
    norm, pull = jax.vjp(lambda r: threshold.row_norm(r, order), jnp.asarray(rows))
    np.testing.assert_allclose(norm, numpy_norm(rows, order), rtol=1e-6)
    (gradient,) = pull(jnp.ones_like(norm))
    np.testing.assert_allclose(gradient, numpy_norm_gradient(rows, order), rtol=1e-5)


@pytest.mark.parametrize("order", [1, 2])
def test_norm_of_a_zero_row_has_a_zero_gradient(order):
    rows = jnp.zeros((2, 3))
    assert threshold.row_norm(rows, order).tolist() == [0, 0]
    gradient = jax.grad(lambda r: threshold.row_norm(r, order).sum())(rows)
    np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


def test_norm_of_one_column_is_its_size():
    column = jnp.array([[-2.0], [0.5]])
    for order in (1, 2):
        np.testing.assert_allclose(threshold.row_norm(column, order), [2.0, 0.5])


def test_other_norms_are_refused():
    with pytest.raises(ValueError, match="1 or 2, not 3"):
        threshold.row_norm(jnp.ones((1, 2)), 3)


def test_step_is_one_above_zero_only():
    x = jnp.array([-jnp.inf, -1.0, -1e-30, 0.0, 1e-30, 1.0, jnp.inf])
    np.testing.assert_array_equal(threshold.long_tail_step(x), [0, 0, 0, 0, 1, 1, 1])
    assert threshold.long_tail_step(x).dtype == x.dtype


def test_step_is_differentiated_as_the_long_tail():
    x = np.concatenate([np.linspace(-1.5, 1.5, 601), [0, 0.4, -0.4, 1, -1]]).astype(np.float32)
    cotangent = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    _, pull = jax.vjp(threshold.long_tail_step, jnp.asarray(x))
    (gradient,) = pull(jnp.asarray(cotangent))
    np.testing.assert_allclose(gradient, cotangent * numpy_gradient(x), rtol=1e-5, atol=1e-6)


def test_the_gradient_at_the_corners():
    # 2 at the centre, 0.4 from both sides of 0.4 and at 1, nothing just beyond.
    x = np.array([0, 0.2, 0.4, 0.7, 1, np.nextafter(np.float32(1), np.float32(2))], np.float32)
    expected = [2, 1.2, 0.4, 0.4, 0.4, 0]
    np.testing.assert_allclose(threshold.long_tail_gradient(jnp.asarray(x)), expected, rtol=1e-6)
    np.testing.assert_allclose(threshold.long_tail_gradient(jnp.asarray(-x)), expected, rtol=1e-6)


def test_area_under_the_gradient():
    # On each side 0.48 under the steep part and 0.24 under the tail.
    x = np.linspace(0, 1, 100_001).astype(np.float32)
    area = np.mean(np.asarray(threshold.long_tail_gradient(jnp.asarray(x)), np.float64))
    assert area == pytest.approx(0.72, abs=1e-4)


@pytest.mark.parametrize("level", ["field", "feature"])
@pytest.mark.parametrize("order", [1, 2])
def test_row_mask_and_its_gradients(fields, looked_up, level, order):
    ids, table = looked_up
    thresholds = thresholds_for(level, fields)
    x = numpy_norm(table[ids], order) - per_lookup(thresholds, ids, level)
    regions = np.digitize(np.abs(x), [0.4, 1.0])
    assert set(regions.ravel()) == {0, 1, 2}, "the case must reach every branch"
    mask, pull = jax.vjp(
        lambda rows, t: threshold.row_mask(rows, t, jnp.asarray(ids), level, order),
        jnp.asarray(table[ids]),
        jnp.asarray(thresholds),
    )
    np.testing.assert_array_equal(mask, x > 0)
    assert 0 < np.asarray(mask).mean() < 1

    cotangent = np.random.default_rng(5).normal(size=x.shape).astype(np.float32)
    to_rows, to_thresholds = pull(jnp.asarray(cotangent))
    pushed = cotangent * numpy_gradient(x)
    np.testing.assert_allclose(
        to_rows, pushed[..., None] * numpy_norm_gradient(table[ids], order), rtol=1e-4, atol=1e-6
    )
    expected = np.zeros_like(thresholds)
    owner = np.arange(3) if level == "field" else ids
    np.subtract.at(expected, np.broadcast_to(owner, ids.shape), pushed)
    np.testing.assert_allclose(to_thresholds, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("level", ["field", "feature"])
@pytest.mark.parametrize("order", [1, 2])
def test_table_mask_is_the_row_mask_of_every_id(fields, looked_up, level, order):
    _, table = looked_up
    thresholds = thresholds_for(level, fields)
    per_row = thresholds[fields.field_of_row] if level == "field" else thresholds
    frozen = threshold.table_row_mask(
        jnp.asarray(table), jnp.asarray(thresholds), jnp.asarray(fields.field_of_row), level, order
    )
    assert frozen.dtype == bool
    np.testing.assert_array_equal(frozen, numpy_norm(table, order) > per_row)
    # Each id looked up in its own field: the other columns are any ids of the other fields.
    for field in range(fields.num_fields):
        block = np.flatnonzero(fields.field_of_row == field)
        ids = np.tile(fields.offsets, (len(block), 1))
        ids[:, field] = block
        looked = threshold.row_mask(
            jnp.asarray(table[ids]), jnp.asarray(thresholds), jnp.asarray(ids), level, order
        )
        np.testing.assert_array_equal(looked[:, field], np.asarray(frozen)[block])


@pytest.mark.parametrize(("value", "kept"), [(1e9, False), (-1.0, True)])
def test_every_row_or_none_is_pruned(fields, looked_up, value, kept):
    ids, table = looked_up
    thresholds = jnp.full((3,), value)
    owners = jnp.asarray(fields.field_of_row)
    assert (
        np.asarray(threshold.table_row_mask(jnp.asarray(table), thresholds, owners, "field"))
        == kept
    ).all()
    mask = threshold.row_mask(jnp.asarray(table[ids]), thresholds, jnp.asarray(ids), "field")
    np.testing.assert_array_equal(mask, np.full(ids.shape, kept))


def test_a_zero_row_is_pruned_at_threshold_zero():
    mask = threshold.table_row_mask(
        jnp.array([[0.0, 0.0], [0.0, 1e-6]]), jnp.zeros(1), jnp.zeros(2, jnp.int32), "field"
    )
    assert mask.tolist() == [False, True]


def test_regulariser_and_its_gradient():
    t = np.array([-1.0, 0.0, 0.5, 3.0], np.float32)
    value, gradient = jax.value_and_grad(threshold.regulariser)(jnp.asarray(t))
    np.testing.assert_allclose(value, np.exp(-t).sum(), rtol=1e-6)
    np.testing.assert_allclose(gradient, -np.exp(-t), rtol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("level", ["field", "feature"])
def test_rows_judged_once_have_the_mask_and_gradients_of_each_id(fields, looked_up, level, order):
    ids, table = looked_up
    assert len(np.unique(ids)) < ids.size, "some rows must be read several times"
    unread = np.setdiff1d(np.arange(len(table)), ids)
    table, ids = jnp.asarray(table), jnp.asarray(ids)
    weights = jnp.asarray(np.random.default_rng(5).normal(size=(*ids.shape, 4)), jnp.float32)
    thresholds = jnp.asarray(thresholds_for(level, fields))

    def by_id(table, thresholds):
        read = table[ids]
        mask = threshold.row_mask(read, thresholds, ids, level, order)
        return jnp.sum(weights * read * mask[..., None]), mask

    def once(table, thresholds):
        mask = threshold.mask_once(table, thresholds, ids, level, order)
        return jnp.sum(weights * (table * mask[:, None])[ids]), mask[ids]

    (_, expected_mask), expected = jax.value_and_grad(by_id, (0, 1), has_aux=True)(
        table, thresholds
    )
    (_, mask), found = jax.value_and_grad(once, (0, 1), has_aux=True)(table, thresholds)
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(mask, expected_mask)
    for gradient, by_hand in zip(found, expected, strict=True):
        assert np.asarray(by_hand).any()
        np.testing.assert_allclose(gradient, by_hand, rtol=1e-5, atol=1e-5)
    assert not np.asarray(found[0])[unread].any()


@pytest.mark.parametrize("count", [0, 1, 4, 5, 9])
def test_a_function_of_rows_is_the_same_by_blocks(count):
    table = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    bound = np.linspace(0, 3, count, dtype=np.float32)
    sizes = []

    def exceeds(rows, own):
        sizes.append(len(rows))
        return threshold.row_norm(rows) > own

    found = threshold.by_block(exceeds, table, bound, rows=4)
    assert isinstance(found, np.ndarray) and found.dtype == bool
    np.testing.assert_array_equal(found, np.abs(table).sum(axis=1) > bound)
    assert max(sizes) <= 4 and sum(sizes) == count
