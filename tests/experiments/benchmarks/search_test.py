"""The benchmark of the search at a size at which everything can be checked."""

import numpy as np
import pytest

from experiments.benchmarks import search, search_supernets
from experiments.benchmarks.search_supernets import Size, drawn_supernet
from optembed_jax import metrics
from optembed_jax.models.forward import forward
from optembed_jax.models.selection import Selection

TINY = Size(400, 256, 8, (6,), training_steps=2)


def test_both_sides_give_the_auc_of_a_plain_forward_pass():
    net = drawn_supernet(TINY, "fnn")
    dims = search.generation(TINY.space(None), 0)[:2]
    expected = [
        metrics.auc(
            net.labels,
            np.asarray(
                forward(net.model, net.params, net.batch_stats, net.ids, Selection(dims=own))[0]
            ),
        )
        for own in dims
    ]
    np.testing.assert_allclose(search.one_by_one(net)(dims), expected, atol=1e-6)
    np.testing.assert_allclose(search.ours(net)(dims), expected, atol=1e-6)


def test_a_candidate_is_measured_and_both_sides_agree():
    found = search.measure_candidate(TINY, "fm", number=1, repeats=1)
    assert found["largest_auc_difference"] < 1e-6
    ratio = found["jit_seconds"] / found["our_seconds"]
    assert found["candidate_speedup"] == pytest.approx(ratio, rel=0.2)


def test_a_later_generation_is_more_alike():
    space = Size(400, 256, 16, (6,)).space(None)
    first, later = (search.generation(space, number) for number in (0, 15))
    assert first.shape == later.shape == (20, 39)
    assert later.std(axis=0).mean() < 0.7 * first.std(axis=0).mean()


def test_a_loss_is_what_the_full_search_found_more(monkeypatch):
    few = search.SearchConfig(generations=1, mutation_num=2, crossover_num=2, search_patience=0)
    monkeypatch.setattr(search, "SearchConfig", lambda **_: few)
    found = search.measure_loss(TINY, seed=1)
    assert found["loss"] == found["full_auc"] - found["our_auc"]
    assert found["full_evaluations"] == found["our_evaluations"] == found["ours_on_all_rows"] == 8


def test_planted_clicks_are_drawn_anew_and_the_same_for_a_seed():
    net = drawn_supernet(TINY, "fm")
    fields = search_supernets.fields_of(TINY.table_rows)
    labels = [search_supernets.planted_clicks(fields, net.ids, 0, draw) for draw in (0, 0, 1)]
    np.testing.assert_array_equal(labels[0], labels[1])
    assert 0.1 < labels[0].mean() < 0.6 and (labels[0] != labels[2]).any()
