import dataclasses
import functools

import jax
import numpy as np
import pytest

from experiments.benchmarks import same_work, step_comparison
from experiments.benchmarks.click_log import fields_of, zipf_batches
from experiments.benchmarks.step_sides import Peers
from optembed_jax.errors import InputError
from optembed_jax.step.optimisers import TrainConfig

DIM, BATCH, ROWS = 4, 64, 600


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in (("BATCH", BATCH), ("DIM", DIM), ("MLP_DIMS", (8, 6))):
        monkeypatch.setattr(step_comparison, name, value)
    monkeypatch.setattr(same_work, "ROWS", ROWS)


def batch():
    return zipf_batches(fields_of(ROWS), BATCH, 1)[0]


def test_our_embedding_part_takes_the_step_that_is_expected_of_adam():
    state = same_work.first_state()
    start = same_work.arrays_of(state)
    ids, labels = batch()
    step = functools.partial(
        step_comparison.embedding_step,
        model=same_work._model(),
        train=TrainConfig(row_decay="none", table_update="sparse"),
    )
    jitted = jax.jit(step)
    for _ in range(same_work.STEPS):
        state = jitted(state, ids, labels)
    expected = same_work.expected_values("sparse_torch", start["rows"], start["linear"], ids)
    table = state.params.table
    np.testing.assert_allclose(table.rows, expected[:, :-1], rtol=0, atol=2e-6)
    np.testing.assert_allclose(table.linear, expected[:, -1], rtol=0, atol=2e-6)
    assert np.abs(np.asarray(table.rows) - start["rows"]).max() > 1e-3


def test_our_embedding_part_takes_the_step_that_is_expected_of_row_wise_adagrad():
    """FBGEMM's, in the rows; its linear weights have a mean over the columns that pad them."""
    state = same_work.first_state(table_optimiser="rowwise_adagrad")
    start = same_work.arrays_of(state)
    ids, labels = batch()
    train = TrainConfig(row_decay="none", table_update="sparse", table_optimiser="rowwise_adagrad")
    model = same_work._model()
    step = jax.jit(functools.partial(step_comparison.embedding_step, model=model, train=train))
    for _ in range(same_work.STEPS):
        state = step(state, ids, labels)
    expected = same_work.expected_values("fbgemm", start["rows"], start["linear"], ids)
    np.testing.assert_allclose(state.params.table.rows, expected[:, :-1], rtol=0, atol=2e-6)
    assert np.abs(np.asarray(state.params.table.rows) - start["rows"]).max() > 1e-3


def test_row_wise_adagrad_of_a_single_row_by_hand():
    """A row of two columns read twice, and its linear weight, after one step and the next."""
    rows, linear = np.array([[3.0, 4.0]]), np.array([0.5])
    ids = np.zeros((2, 1), int)
    found = same_work.expected_values("fbgemm", rows, linear, ids)
    value, total, weight, of_weight = rows[0].copy(), 0.0, 0.5, 0.0
    for _ in range(same_work.STEPS):
        gradient = 2 * value
        total += (gradient**2).mean()
        value = value - 1e-3 * gradient / np.sqrt(total)
        of_weight += (2 * weight) ** 2 / 4
        weight -= 1e-3 * 2 * weight / np.sqrt(of_weight)
    np.testing.assert_allclose(found, [[*value, weight]], rtol=1e-7)


def followed(loss_error=0.0, value_error=0.0):
    """Stands for the peers: what they should answer, and how wrong it is."""
    ids, labels = batch()
    losses = same_work.our_losses(same_work.first_state(), ids, labels)
    start = same_work.arrays_of(same_work.first_state())

    def follow(peers, side, folder):
        assert np.load(folder / "ids.npy").shape == (same_work.STEPS, *ids.shape)
        saved = np.load(folder / "start.npz")
        assert saved["kernel_2"].shape == (6, 1) and saved["rows"].shape == (ROWS, DIM)
        name = side.removesuffix("_embedding")
        values = same_work.expected_values(name, start["rows"], start["linear"], ids)[ids[:5]]
        wrong = losses.copy()
        wrong[-1] += loss_error  # FBGEMM's last loss is of another rule, and not looked at.
        return {"losses": wrong.tolist(), "values": (values + value_error).tolist()}

    return follow


def test_sides_that_do_the_same_work_have_small_gaps(monkeypatch):
    monkeypatch.setattr(same_work, "_follow", followed())
    peers = Peers("python", None, {})
    gaps = same_work.check(peers, ["torch", "sparse_torch", "fbgemm"])
    assert set(gaps) == {
        "sparse_torch_loss_gap", "sparse_torch_table_gap", "fbgemm_loss_gap", "fbgemm_table_gap",
    }  # fmt: skip
    assert max(gaps.values()) < 1e-6
    without = dataclasses.replace(peers, fbgemm_missing="none for this system")
    assert len(same_work.check(without, ["sparse_torch", "fbgemm"])) == 2
    assert same_work.check(without, ["fbgemm", "dense"]) == {}


@pytest.mark.parametrize(
    ("errors", "name"),
    [({"loss_error": 0.1}, "sparse_torch_loss_gap"), ({"value_error": 0.1}, "_table_gap")],
)
def test_one_that_does_other_work_is_refused(errors, name, monkeypatch):
    monkeypatch.setattr(same_work, "_follow", followed(**errors))
    with pytest.raises(InputError, match=name):
        same_work.check(Peers("python", None, {}), ["sparse_torch", "fbgemm"])


def test_our_losses_fall_on_one_batch():
    losses = same_work.our_losses(same_work.first_state(), *batch())
    assert losses.shape == (same_work.STEPS,) and losses[-1] < losses[0]
