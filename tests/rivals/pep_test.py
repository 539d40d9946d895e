"""PEP's thresholds against the authors' formula in NumPy, their gradient, and what is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.rivals.pep import PEP, SoftThreshold
from optembed_jax.rivals.rival import Relaxed, Task

FIELDS = Fields(("a", "b"), (6, 4))
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(10, 3)).astype(np.float32)
ROWS[2, 1] = 0.0
TENTH = RNG.normal(size=(2, 3)).astype(np.float32) / 10
READS = np.array([0, 5, 1, 3, 2, 9, 1, 1, 4, 2], np.float64)


def authors(values, thresholds):
    """Equation 4 with g the sigmoid, of thresholds for each column of each field."""
    bound = 1 / (1 + np.exp(-thresholds))
    return np.sign(values) * np.maximum(np.abs(values) - bound, 0)


def apply(embedded, tenth):
    return SoftThreshold().apply({"params": {"tenth": jnp.asarray(tenth)}}, embedded, train=True)


def task(limit, rows=ROWS):
    relaxed = Relaxed(rows, {"tenth": TENTH})
    return Task(FIELDS, READS, 3, limit, False, lambda: READS, relaxed=lambda: relaxed)


def test_the_model_reads_what_the_formula_leaves():
    embedded = RNG.normal(size=(8, 2, 3)).astype(np.float32)
    read = np.asarray(apply(embedded, TENTH))
    np.testing.assert_allclose(read, authors(embedded, 10 * TENTH), rtol=1e-5, atol=1e-6)
    assert 0 < (read == 0).sum() < read.size


def test_thresholds_begin_where_they_leave_all_but_the_smallest():
    made = SoftThreshold().init(jax.random.key(0), np.ones((1, 2, 3), np.float32), train=False)
    np.testing.assert_allclose(10 * made["params"]["tenth"], -7.0, rtol=1e-6)
    embedded = np.float32([[[5e-4, -2e-3, 0.5]] * 2])
    read = apply(embedded, made["params"]["tenth"])
    np.testing.assert_allclose(read[0, 0], [0, -0.00109, 0.49909], atol=1e-5)


def test_gradients_are_those_of_the_formula():
    embedded, target = RNG.normal(size=(8, 2, 3)).astype(np.float32), RNG.normal(size=(8, 2, 3))
    of_rows, of_tenth = jax.grad(lambda e, t: jnp.sum(apply(e, t) * target), argnums=(0, 1))(
        embedded, jnp.asarray(TENTH)
    )
    bound = 1 / (1 + np.exp(-10 * TENTH))
    left = np.abs(embedded) > bound
    np.testing.assert_allclose(of_rows, left * target, rtol=1e-5, atol=1e-6)
    slope = 10 * bound * (1 - bound)
    expected = -(np.sign(embedded) * left * target).sum(axis=0) * slope
    np.testing.assert_allclose(of_tenth, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("limit", [1, 4, 9, 100])
def test_what_is_furthest_above_its_threshold_is_kept(limit):
    above = np.abs(ROWS) - 1 / (1 + np.exp(-10 * TENTH[FIELDS.field_of_row]))
    above[READS == 0] = above[2, 1] = -np.inf  # Nothing reads the one, the other is zero.
    wanted = set(np.argsort(-above, axis=None)[: min(limit, 26)].tolist())
    found = PEP.choose(task(limit))
    assert set(np.flatnonzero(found.elements).tolist()) == wanted
    assert found.numbers(FIELDS) == len(wanted) and found.dims.tolist() == [3, 3]
    assert found.rows.tolist() == found.elements.any(axis=1).tolist()
    # While it fits, it is what the thresholds leave.
    left = authors(ROWS, 10 * TENTH[FIELDS.field_of_row]) != 0
    left[READS == 0] = False
    np.testing.assert_array_equal(PEP.choose(task(int(left.sum()))).elements, left)


def test_where_nothing_is_left_is_said():
    with pytest.raises(InputError, match=r"--method=pep: training left no number .* --group_lasso"):
        PEP.choose(task(9, ROWS * 0))
