"""Parts of the comparison of ways to prune rows that could be wrong without anybody noticing."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import row_pruning_bench, row_pruning_methods, runs_file
from experiments.benchmarks.arrays import Problem
from experiments.benchmarks.quotient_remainder import full_table, make_hashes
from experiments.benchmarks.row_pruning_bench import Bench
from experiments.benchmarks.row_pruning_data import seen_rows
from experiments.benchmarks.row_pruning_methods import (
    taylor_under_group_lasso,
)
from experiments.benchmarks.row_pruning_report import (
    DEFAULT,
    SHORT_LISTS,
    summarise,
    tables,
    with_short_lists,
)
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_step import Phase
from optembed_jax.table.decay import ROW_DECAYS


def test_a_quotient_and_a_remainder_tell_all_values_apart():
    hashes = make_hashes(Fields(("small", "large"), (3, 1000)), 0.2)
    pairs = set(zip(hashes.quotient.tolist(), hashes.remainder.tolist(), strict=True))
    assert len(pairs) == 1003
    assert 0.19 * 1003 < hashes.stored <= round(0.2 * 1003)
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(hashes.stored, 4)), jnp.float32)
    whole = np.asarray(full_table(hashes, Table(rows=rows)).rows)
    np.testing.assert_array_equal(whole[:3], rows[:3])  # A field that is not hashed.
    value = 777
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


def test_a_short_list_keeps_by_validation_and_needs_both():
    retrained, as_it_was = SHORT_LISTS[DEFAULT]
    records = [
        record(retrained, 0.7, 0) | {"test_auc": 0.5},
        record(as_it_was, 0.6, 0),
        record(retrained, 0.7, 1),
        record(as_it_was, 0.8, 1) | {"test_auc": 0.4},
        record(retrained, 0.7, 2),
    ]
    added = with_short_lists(records)[len(records) :]
    found = {r["seed"]: (r["method"], r["val_auc"], r["test_auc"]) for r in added}
    assert found == {0: (DEFAULT, 0.7, 0.5), 1: (DEFAULT, 0.8, 0.4)}


def test_a_frequency_rule_with_a_short_list_is_another_opponent():
    own, theirs = SHORT_LISTS.values()
    aucs = {own[0]: 0.65, own[1]: 0.6, theirs[0]: 0.6, theirs[1]: 0.7}
    summary = summarise([record(method, auc, 0) for method, auc in aucs.items()])
    (plain,), (listed,) = summary["against_frequency"], summary["against_frequency_with_list"]
    assert plain["rule"] == "frequency, oov" and plain["holds"]
    assert listed["rule"] == "frequency, short list" and not listed["holds"]


def test_what_is_not_retrained_is_scored_as_it_was_cut():
    rng = np.random.default_rng(0)
    fields = Fields(("a", "b"), (12, 8))

    def split(rows):
        ids = np.stack([rng.integers(0, 12, rows), rng.integers(12, 20, rows)], axis=1)
        return ids.astype(np.int32), (rng.random(rows) < (ids[:, 0] % 2) * 0.6 + 0.2).astype("f4")

    arrays = {name: split(rows) for name, rows in (("train", 2048), ("validation", 512))}
    arrays["test"] = arrays["validation"]
    counts = np.bincount(arrays["train"][0].ravel(), minlength=20)
    bench = Bench(Problem("d", fields, arrays, counts), "fnn", 0)
    asked = ("taylor, group lasso, not retrained", "frequency, not retrained")
    records = list(taylor_under_group_lasso(bench, lambda method, keep: method in asked))
    assert [(r["method"], r["keep"]) for r in records] == [
        (method, keep) for method in asked for keep in (0.5, 0.2, 0.1, 0.05)
    ]
    for kept in records:
        assert kept["rows_kept"] == round(kept["keep"] * 20)
        assert kept["val_auc"] == kept["test_auc"]  # Not that of the uncut one.
    by_frequency = [r for r in records if r["method"] == asked[1]]
    best = np.sort(counts)[::-1]
    for kept in by_frequency:
        bands = kept["kept_by_frequency"]
        assert sum(bands) == kept["rows_kept"] and bands[-1] == (best >= 100)[: sum(bands)].sum()


def test_what_two_methods_have_in_common_is_trained_once(monkeypatch, tmp_path):
    def method(bench, wanted):
        for label in ("unpruned", "own"):
            if wanted(label, 1.0):
                yield {"dataset": "d", "model": "fnn", "seed": 0, "method": label, "keep": 1.0}

    monkeypatch.setattr(row_pruning_methods, "METHODS", (method, method))
    problems = {"d": Problem("d", Fields(("a",), (2,)), {}, np.zeros(2))}
    own = {"dataset": "d", "model": "fnn", "seed": 0, "method": "own", "keep": 1.0}
    (tmp_path / "runs").write_text(json.dumps(own) + "\n")

    def missing(finished):
        chosen = re.compile("")
        return row_pruning_methods.missing_runs(problems, ["fnn"], range(1), chosen, finished)

    path, key = str(tmp_path / "runs"), row_pruning_methods.KEY
    found = runs_file.complete(path, key, missing, lambda record: record["method"])
    assert [record["method"] for record in found] == ["own", "unpruned"]


@pytest.mark.parametrize("decay", ROW_DECAYS)
def test_every_decay_can_be_trained(decay, monkeypatch):
    monkeypatch.setattr(row_pruning_bench, "EPOCHS", 1)
    rng, fields = np.random.default_rng(0), Fields(("a", "b"), (3, 4))
    ids = (rng.integers(0, 3, (row_pruning_bench.BATCH_SIZE, 2)) + [0, 3]).astype(np.int32)
    split = ids, (rng.random(len(ids)) < 0.5).astype(np.float32)
    problem = Problem("d", fields, dict.fromkeys(("train", "validation", "test"), split), None)
    bench = Bench(problem, "fnn", 0)
    fitted = row_pruning_bench.train_once(
        bench, Phase.BASELINE, bench.model(), TrainConfig(row_decay=decay)
    )
    assert len(fitted.epochs) == 1 and 0 <= fitted.best.val_auc <= 1
