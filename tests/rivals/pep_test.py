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


def test_thresholds_begin_where_the_authors_do_and_leave_all():
    made = SoftThreshold().init(jax.random.key(0), np.ones((1, 2, 3), np.float32), train=False)
    np.testing.assert_allclose(10 * made["params"]["tenth"], -15.0)
    embedded = np.float32([[[1e-3, -1e-3, 0.5]] * 2])
    np.testing.assert_allclose(apply(embedded, made["params"]["tenth"]), embedded, atol=4e-7)


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
def test_the_largest_of_what_is_left_are_kept(limit):
    left = np.abs(authors(ROWS, 10 * TENTH[FIELDS.field_of_row]))
    left[READS == 0] = 0
    wanted = set(np.argsort(-left, axis=None)[: min(limit, np.count_nonzero(left))].tolist())
    found = PEP.choose(task(limit))
    assert set(np.flatnonzero(found.elements).tolist()) == wanted
    assert found.numbers(FIELDS) == len(wanted) and found.dims.tolist() == [3, 3]
    assert found.rows.tolist() == found.elements.any(axis=1).tolist()


def test_where_nothing_is_left_is_said():
    with pytest.raises(InputError, match=r"--method=pep left no number .* smaller --l2"):
        PEP.choose(task(9, ROWS / 100))
