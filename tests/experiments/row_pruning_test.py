"""Parts of the comparison of ways to prune rows that could be wrong without anybody noticing."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.quotient_remainder import full_table, make_hashes, rows_of_field
from experiments.benchmarks.row_pruning_data import Split, seen_rows
from experiments.benchmarks.row_pruning_report import DEFAULT, summarise, tables
from optembed_jax.embedding import Table
from optembed_jax.fields import Fields


def test_a_quotient_and_a_remainder_tell_all_values_apart():
    hashes = make_hashes(Fields(("small", "large"), (3, 1000)), 0.2)
    pairs = set(zip(hashes.quotient.tolist(), hashes.remainder.tolist(), strict=True))
    assert len(pairs) == 1003
    assert 0.19 * 1003 < hashes.stored <= round(0.2 * 1003)
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(hashes.stored, 4)), jnp.float32)
    whole = np.asarray(full_table(hashes, Table(rows=rows)).rows)
    np.testing.assert_array_equal(whole[:3], rows[:3])  # A field that is not hashed.
    value = 777
    quotients, remainders = rows_of_field(1000, 0)
    assert quotients * remainders >= 1000 and quotients + remainders == 64
    place = int(hashes.quotient[3 + value]), int(hashes.remainder[3 + value])
    np.testing.assert_allclose(whole[3 + value], rows[place[0]] * rows[place[1]], rtol=1e-6)


def test_a_budget_too_small_for_hashing_stores_the_least_that_it_can():
    assert make_hashes(Fields(("a", "b"), (1000, 1000)), 0.01).stored == 2 * 64


def test_rows_that_no_training_row_reads_are_left_out():
    fields = Fields(("a", "b"), (4, 3))
    smaller, row_of = seen_rows(fields, np.asarray([[1, 4], [3, 6]], np.int32))
    assert smaller.sizes == (3, 2)
    # 0 and 4 are the OOV rows, which unseen 2 and 5 now read.
    np.testing.assert_array_equal(row_of, [0, 1, 0, 2, 3, 3, 4])


def test_a_split_in_memory_gives_every_row_once():
    ids, labels = np.arange(10, dtype=np.int32)[:, None], np.ones(10, np.float32)
    shuffled = Split(ids, labels, 4, seed=0)
    seen = np.concatenate([batch.ids for batch in shuffled.epoch(1)])
    assert len(seen) == 8 == len(np.unique(seen))
    padded = list(dataclasses.replace(shuffled, seed=None).epoch(0))
    assert [int(batch.weights.sum()) for batch in padded] == [4, 4, 2]
    real = np.concatenate([batch.ids[batch.weights > 0] for batch in padded])
    np.testing.assert_array_equal(real, ids)


def record(method, auc, seed):
    return {
        "dataset": "d",
        "model": "fnn",
        "method": method,
        "keep": 0.2,
        "seed": seed,
        "table_parameters": 20,
        "full_parameters": 100,
        "test_auc": auc,
        "test_logloss": 0.5,
        "val_auc": auc,
        "kept_by_frequency": [0, 1, 2, 3, 4],
    }


@pytest.mark.parametrize(("default", "holds"), [(0.69, True), (0.67, False)])
def test_the_verdict_is_against_the_better_rule_and_allows_its_spread(default, holds):
    aucs = {"frequency": 0.6, "frequency, oov": 0.7, DEFAULT: default}
    records = [
        record(method, auc + step, seed)
        for method, auc in aucs.items()
        for seed, step in enumerate((-0.02, 0.0, 0.02))
    ]
    summary = summarise(records)
    (verdict,) = summary["against_frequency"]
    assert verdict["rule"] == "frequency, oov" and verdict["holds"] is holds
    assert verdict["difference"] == pytest.approx(default - 0.7)
    assert verdict["spread"] == pytest.approx(0.02)
    assert f"| {DEFAULT} |  | {default:.4f} ± 0.0200 |  |  |" in tables(summary)
