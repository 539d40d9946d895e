import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import begin_epoch, bring_up_to_date, init_state
from optembed_jax.step.train_step import Phase, train_step
from optembed_jax.table.decay import RowRule, idle
from optembed_jax.table.moments import MomentRows
from optembed_jax.table.score import (
    ROW_SCORES,
    init_scores,
    keep_best,
    keep_within,
    kept_by_frequency,
    row_scores,
    sum_of_idle_norms,
    with_memory,
)
from optembed_jax.training.fit import fit


@pytest.mark.parametrize("l2", [0.0, 0.02])
@pytest.mark.parametrize("order", [1, 2])
def test_norms_of_idle_rows_are_summed_as_if_each_step_were_taken(order, l2):
    rule, rng = RowRule("group_lasso", 1e-2, l2, group_lasso=0.05), np.random.default_rng(0)
    rows = MomentRows(
        jnp.asarray(rng.normal(0, 0.2, (6, 3)), jnp.float32).at[5].set(0),
        jnp.zeros((6, 3)),
        jnp.asarray(rng.uniform(1e-6, 1e-4, (6, 3)), jnp.float32),
    )
    steps, visits = jnp.asarray([0, 1, 5, 90, 90, 4]), jnp.asarray([3, 1, 9, 50, 0, 2])
    last = jnp.zeros(6, jnp.int32)
    expected = np.zeros(6)
    for step in range(1, 91):
        value = np.asarray(idle(rule, rows, jnp.full(6, step), last, visits).value, np.float64)
        norm = np.abs(value).sum(1) if order == 1 else np.sqrt((value**2).sum(1))
        expected += np.where(step <= np.asarray(steps), norm, 0)
    after = idle(rule, rows, steps, last, visits).value
    assert not np.asarray(after)[3].any(), "one row dies on the way"
    found = sum_of_idle_norms(rule, rows, after, steps, visits, order)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_norms_of_rows_that_stand_still():
    rows = MomentRows(jnp.asarray([[3.0, 4.0]] * 2), jnp.zeros((2, 2)), jnp.zeros((2, 2)))
    rule, steps = RowRule("none", 1e-2), jnp.asarray([7, 0])
    found = sum_of_idle_norms(rule, rows, rows.value, steps, None, 2)
    np.testing.assert_allclose(found, [35, 0])


def trained(fields, draw_clicks, randomise, score, decay, update):
    """Two epochs of 4 steps, and the tables after each step of the second."""
    model = ModelConfig("fm", 4, (), mode="feature", mode_threshold="budget", row_score=score)
    train = TrainConfig(lr=0.01, l2=0.01, group_lasso=0.05, row_decay=decay, table_update=update)
    state = init_state(jax.random.key(0), model, train, fields, gather_scores=True)
    state = state.replace(params=randomise(state.params))
    step = jax.jit(functools.partial(train_step, phase=Phase.SUPERNET, model=model, train=train))
    ids, labels = draw_clicks(fields, 24)
    ids[ids == 4] = 3  # A row that no example reads.
    tables = []
    for _ in range(2):
        state, tables = begin_epoch(state), []
        for batch in range(4):
            rows = slice(batch * 6, batch * 6 + 6)
            state, _ = step(state, ids[rows], labels[rows], Selection())
            now = bring_up_to_date(state, train=train)
            tables.append(np.asarray(now.params.table.rows))
        state = bring_up_to_date(state, train=train)
    found = row_scores(state.scores, state.params.table.rows, fields, int(state.step))
    return found, ids, tables


@pytest.mark.parametrize(
    ("decay", "update"),
    [
        ("group_lasso", "sparse"),
        ("group_lasso", "dense"),
        ("none", "sparse"),
        ("l2_coupled", "dense"),
    ],
)
def test_the_mean_norm_is_that_of_the_last_epoch(fields, draw_clicks, randomise, decay, update):
    found, ids, tables = trained(fields, draw_clicks, randomise, "mean_norm", decay, update)
    expected = np.mean([np.abs(table).sum(axis=1) for table in tables], axis=0)
    expected[np.setdiff1d(np.arange(12), ids)] = 0
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert found[4] == 0


def test_the_mean_norm_under_sparse_decoupled_is_near_that_of_each_step(
    fields, draw_clicks, randomise
):
    # Between two visits norms are taken to change evenly, which moments that fade do not quite do.
    found, _, tables = trained(fields, draw_clicks, randomise, "mean_norm", "decoupled", "sparse")
    expected = np.mean([np.abs(table).sum(axis=1) for table in tables], axis=0)
    np.testing.assert_allclose(np.delete(found, 4), np.delete(expected, 4), rtol=0.02)
    assert found[4] == 0


def test_norm_and_frequency_are_what_they_say(fields, draw_clicks, randomise):
    found, ids, tables = trained(fields, draw_clicks, randomise, "norm", "group_lasso", "sparse")
    expected = np.abs(tables[-1]).sum(axis=1)
    np.testing.assert_allclose(np.delete(found, 4), np.delete(expected, 4), rtol=1e-5)
    found, ids, _ = trained(fields, draw_clicks, randomise, "frequency", "group_lasso", "sparse")
    np.testing.assert_array_equal(found, 2 * np.bincount(ids.ravel(), minlength=12))


def test_sparse_and_dense_gather_the_same_taylor_terms(fields, draw_clicks, randomise):
    sparse, ids, _ = trained(fields, draw_clicks, randomise, "taylor", "none", "sparse")
    dense, _, _ = trained(fields, draw_clicks, randomise, "taylor", "none", "dense")
    np.testing.assert_allclose(sparse, dense, rtol=1e-4)
    assert ((sparse > 0) == np.isin(np.arange(12), ids)).all()


def test_one_step_of_taylor_by_hand(fields):
    # FM with one example: dlogit / de_f is the sum of the other fields' rows.
    model = ModelConfig("fm", 4, (), mode="feature", mode_threshold="budget", row_score="taylor")
    train = TrainConfig(table_update="sparse", row_decay="none")
    state = init_state(jax.random.key(0), model, train, fields, gather_scores=True)
    ids = np.asarray([[1, 6, 10]], np.int32)
    e = np.asarray(state.params.table.rows, np.float64)[ids[0]]
    logit = 0.5 * ((e.sum(0) ** 2).sum() - (e**2).sum())
    gradient = 1 / (1 + np.exp(-logit)) - 1
    expected = np.abs(gradient * ((e.sum(0) - e) * e).sum(axis=1))
    state, _ = train_step(
        state, ids, jnp.ones(1), Selection(), phase=Phase.SUPERNET, model=model, train=train
    )
    found = row_scores(state.scores, state.params.table.rows, fields, 1)
    np.testing.assert_allclose(found[ids[0]], expected, rtol=1e-4)


@pytest.mark.parametrize("keep", [0.5, 0.2, 0.1, 0.05])
def test_the_cut_is_exact_whatever_ties_there_are(keep):
    scores = np.random.default_rng(0).poisson(0.5, 1003).astype(float)
    count = round(keep * 1003)
    mask = keep_best(scores, count)
    assert mask.sum() == count
    assert scores[mask].min() >= scores[~mask].max()
    # Rows that tie at the cut come from everywhere, not from the first fields.
    tied = np.flatnonzero(mask & (scores == scores[mask].min()))
    assert 300 < tied.mean() < 700
    np.testing.assert_array_equal(mask, keep_best(scores, count))


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint32, np.uint64, np.int64, np.float16, np.float32, np.float64]
)
def test_scores_of_every_dtype_keep_the_best(dtype):
    mask = keep_best(np.array([100, 3, 0, 50, 0, 7], dtype), 2)
    assert mask.tolist() == [True, False, False, True, False, False]


def test_scores_that_are_no_array_or_at_an_end_of_their_dtype():
    assert keep_best([1, 3, 2], 1).tolist() == [False, True, False]
    assert keep_best(np.array([False, True, False]), 1).tolist() == [False, True, False]
    least = np.array([np.iinfo(np.int64).min, 5, 9])
    assert keep_best(least, 2).tolist() == [False, True, True]
    assert keep_best([0.0, np.inf, -np.inf], 2).tolist() == [True, True, False]


@pytest.mark.parametrize("count", [-1, 4, 0.5, 2.0, None, "2"])
def test_a_count_that_no_rows_have_is_refused(count):
    with pytest.raises(InputError, match=r"rows to keep must be .*0\.\.3, not "):
        keep_best(np.arange(3.0), count)


@pytest.mark.parametrize("scores", [[0.0, np.nan], ["a", "b"], np.ones((2, 2)), 3.0, [[1], [1, 2]]])
def test_scores_that_put_rows_in_no_order_are_refused(scores):
    with pytest.raises(InputError, match="score"):
        keep_best(scores, 1)
    with pytest.raises(InputError, match="score"):
        keep_within(scores, 0, 1, lambda mask: True)


def test_as_many_of_the_best_are_kept_as_fit():
    scores = np.random.default_rng(0).poisson(0.5, 1003).astype(float)
    sizes = np.random.default_rng(1).integers(1, 9, 1003)
    asked = []

    def fits(mask):
        asked.append(mask)
        return sizes[mask].sum() <= 700

    mask = keep_within(scores, 3, 1003, fits)
    count = int(mask.sum())
    np.testing.assert_array_equal(mask, keep_best(scores, count))
    assert sizes[mask].sum() <= 700 < sizes[keep_best(scores, count + 1)].sum()
    assert len(asked) < 13
    # No more than are asked for, and some in any case.
    np.testing.assert_array_equal(keep_within(scores, 3, 50, fits), keep_best(scores, 50))
    np.testing.assert_array_equal(
        keep_within(scores, 3, 50, lambda mask: False), keep_best(scores, 3)
    )


@pytest.mark.parametrize("score", ["norm", "mean_norm"])
def test_the_loop_hands_back_the_scores_of_the_best_epoch(fields, draw_clicks, batches_of, score):
    model = ModelConfig("fm", 4, (), mode="feature", mode_threshold="budget", row_score=score)
    train = TrainConfig(lr=0.01, group_lasso=0.01, row_decay="group_lasso", table_update="sparse")
    state = init_state(jax.random.key(0), model, train, fields, gather_scores=True)
    batches = batches_of(*draw_clicks(fields, 64), 8, seed=0)
    validation = batches_of(*draw_clicks(fields, 32, seed=1), 8)
    options = {"phase": Phase.SUPERNET, "model": model, "train": train}
    fitted = fit(state, batches, validation, Selection(), **options, epochs=3, patience=3)
    assert fitted.steps == 8 * fitted.best.number
    assert int(fitted.scores.reads.sum()) == fitted.steps * 8 * 3
    found = row_scores(fitted.scores, fitted.params.table.rows, fields, fitted.steps)
    assert found.shape == (12,) and (found >= 0).all() and found.any()


def test_nothing_and_everything_can_be_kept():
    assert not keep_best(np.arange(3.0), 0).any()
    assert keep_best(np.zeros(3), 3).all()


def test_frequency_per_field_keeps_the_same_share_of_each():
    fields = Fields(("a", "b"), (1000, 100))
    scores = init_scores("frequency_per_field", 1100)
    rng = np.random.default_rng(0)
    reads = np.concatenate([rng.integers(0, 5, 1000), rng.integers(1000, 2000, 100)])
    scores = scores.replace(reads=jnp.asarray(reads, jnp.int32))
    mask = keep_best(row_scores(scores, None, fields, 1), 220)
    np.testing.assert_array_equal(fields.rows_per_field(mask), [200, 20])
    for block in (slice(0, 1000), slice(1000, 1100)):
        assert reads[block][mask[block]].min() >= reads[block][~mask[block]].max()


def test_kept_rows_by_frequency():
    counts = np.asarray([0, 1, 1, 2, 9, 10, 99, 100, 5000])
    mask = np.asarray([0, 0, 1, 1, 1, 0, 1, 1, 1], bool)
    found = [tuple(r.values()) for r in kept_by_frequency(counts, mask)]
    assert found == [("0", 1, 0), ("1", 2, 1), ("2-9", 2, 2), ("10-99", 2, 1), ("100+", 2, 2)]


def test_every_score_has_a_state(fields):
    for kind in ROW_SCORES:
        assert init_scores(kind, 12).kind == kind


def test_frequency_is_by_weight_where_rows_are_weighted(fields):
    scores = init_scores("frequency", 12).replace(reads=jnp.arange(12, dtype=jnp.int32))
    weights = np.linspace(7, 1, 12)
    found = row_scores(scores, None, fields, 1, weights)
    np.testing.assert_array_equal(found, np.where(np.arange(12) > 0, weights, 0))


def test_of_rows_that_scored_alike_those_go_first_that_were_not_read_for_longer():
    """Row ``n`` of four was read on day ``n`` alone; on each day the others give the rest."""
    days = [np.zeros(5) for _ in range(4)]
    for day, scores in enumerate(days):
        scores[day], scores[4] = 3.0, 7.0
    found = days[0]
    for scores in days[1:]:
        found = with_memory(scores, found, np.arange(5), 0.2)
    # Every day gives its row .3 of all: the first .2 ** 3 of that, each later one four fifths of
    # what it is remembered by.
    expected = 0.3 * np.array([0.2**3, 0.8 * 0.2**2, 0.8 * 0.2, 0.8])
    np.testing.assert_allclose(found, [*expected, 0.7], rtol=1e-12)
    # Rows in other places, one that is new, one that is gone; and a day on which nothing was read.
    source = np.array([2, -1, 0])
    expected = 0.9 * np.array([0.5, 0.25, 0.25]) + 0.1 * np.array([0.6, 0, 0.1])
    found = with_memory(np.array([2.0, 1, 1]), np.array([1.0, 3, 6]), source, 0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (with_memory(np.zeros(3), np.zeros(3), source, 0.5) == 0).all()
    none = with_memory(np.array([2.0, 1, 1]), np.ones(3), source, 0.0)
    np.testing.assert_allclose(none, [0.5, 0.25, 0.25])
