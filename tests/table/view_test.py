import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.method import threshold
from optembed_jax.method.embedding import Table, select
from optembed_jax.table.view import RowView, Seen, of_columns

V, D, SIZES = 9, 4, (5, 4)
FIELD_OF_ROW = np.repeat([0, 1], SIZES).astype(np.int32)
IDS = np.asarray([[0, 5], [3, 5], [3, 8], [0, 6], [3, 5]], np.int32)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return Table(
        rows=jnp.asarray(rng.normal(0, 0.3, (V, D)), jnp.float32),
        linear=jnp.asarray(rng.normal(size=V), jnp.float32),
        oov=jnp.asarray(rng.normal(size=(2, D)), jnp.float32),
    )


@pytest.fixture
def weights():
    """Of what each id sees; their sum is the loss."""
    rng = np.random.default_rng(1)
    return Seen(
        jnp.asarray(rng.normal(size=(*IDS.shape, D)), jnp.float32),
        jnp.asarray(rng.normal(size=IDS.shape), jnp.float32),
    )


def thresholds_of(level):
    number = 2 if level == "field" else V
    return jnp.asarray(np.linspace(0.5, 0.9, number), jnp.float32)


def by_id(view, weights):
    """The loss as every id judges its row by itself, of rows, linear weights, OOV, thresholds."""

    def loss(rows, linear, oov, thresholds):
        mask, read = None, rows[IDS]
        if thresholds is not None:
            mask = threshold.row_mask(read, thresholds, jnp.asarray(IDS), view.level, view.order)
        elif view.mask is not None:
            mask = view.mask[IDS].astype(jnp.float32)
        of_linear = linear[IDS]
        if view.prunes_linear and mask is not None:
            of_linear = of_linear * mask
        seen = select(read, mask, None, oov)
        return jnp.sum(seen * weights.rows) + jnp.sum(of_linear * weights.linear)

    return loss


def summed_by_row(weights, rows):
    """The gradient with respect to what is seen, summed up by row; zeros in unused places."""
    of_rows, of_linear = np.zeros((V + 2, D), np.float32), np.zeros(V + 2, np.float32)
    np.add.at(of_rows, IDS, weights.rows)
    np.add.at(of_linear, IDS, weights.linear)
    return Seen(jnp.asarray(of_rows[rows]), jnp.asarray(of_linear[rows]))


def views(table):
    mask = jnp.asarray(np.arange(V) % 3 > 0)
    for oov in (None, table.oov):
        yield RowView(oov=oov)
        yield RowView(mask=mask, oov=oov)
        for level in ("field", "feature"):
            yield RowView(thresholds=thresholds_of(level), oov=oov, level=level, order=1)
            yield RowView(
                thresholds=thresholds_of(level), oov=oov, level=level, order=2, prunes_linear=True
            )


@pytest.mark.parametrize("number", range(12))
def test_sums_by_row_have_the_gradients_of_every_id(table, weights, number):
    view = list(views(table))[number]
    # Two places more than are read.
    rows = np.asarray([8, 0, 3, 5, 6, V, V + 1], np.int32)
    fields = np.asarray([1, 0, 0, 1, 1, 2, 2], np.int32)
    in_use = np.minimum(rows, V - 1)
    value = Table(table.rows[in_use], table.linear[in_use])
    loss = by_id(view, weights)
    of = (table.rows, table.linear, view.oov, view.thresholds)
    expected = jax.grad(loss, tuple(k for k in range(4) if of[k] is not None))(*of)
    expected = dict(zip([k for k in range(4) if of[k] is not None], expected, strict=True))

    used = Table(value.rows[:5], value.linear[:5])
    seen = view.seen(used, jnp.asarray(rows[:5]), jnp.asarray(fields[:5]))
    kept = np.all(np.asarray(seen.rows) == np.asarray(used.rows), axis=1)
    slots = np.asarray([np.flatnonzero(rows == own)[0] for own in IDS.reshape(-1)])
    total = np.sum(np.asarray(seen.rows)[slots] * weights.rows.reshape(-1, D))
    total += np.sum(np.asarray(seen.linear)[slots] * weights.linear.reshape(-1))
    np.testing.assert_allclose(total, loss(*of), rtol=1e-5)
    assert 0 < kept.sum() < kept.size if view.prunes else kept.all()

    found, view_gradients = view.pull_back(
        value, jnp.asarray(rows), jnp.asarray(fields), summed_by_row(weights, rows),
        view.zero_gradients(),
    )  # fmt: skip
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(found.rows[:5], expected[0][rows[:5]], **close)
    np.testing.assert_allclose(found.linear[:5], expected[1][rows[:5]], **close)
    if view.oov is not None and view.prunes:
        assert np.asarray(expected[2]).any()
        np.testing.assert_allclose(view_gradients.oov, expected[2], **close)
    if view.thresholds is not None:
        assert np.asarray(expected[3]).any()
        np.testing.assert_allclose(view_gradients.thresholds, expected[3], **close)


def test_gradients_of_blocks_add_up(table, weights):
    view = RowView(thresholds=thresholds_of("field"), oov=table.oov)
    rows, fields = np.arange(V, dtype=np.int32), FIELD_OF_ROW
    sums = summed_by_row(weights, rows)

    def part(lines, others):
        cut = jax.tree.map(lambda a: a[lines], (Table(table.rows, table.linear), sums))
        return view.pull_back(
            cut[0], jnp.asarray(rows[lines]), jnp.asarray(fields[lines]), cut[1], others
        )[1]

    once = part(slice(0, V), view.zero_gradients())
    twice = part(slice(4, V), part(slice(0, 4), view.zero_gradients()))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), twice, once)


def test_columns_that_are_not_seen_have_no_gradient(weights):
    found = of_columns(weights, jnp.asarray([1, 3]))
    expected = np.asarray(weights.rows) * (np.arange(D) < np.asarray([[1], [3]]))
    np.testing.assert_array_equal(found.rows, expected)
    np.testing.assert_array_equal(found.linear, weights.linear)
    np.testing.assert_array_equal(of_columns(weights, None).rows, weights.rows)
