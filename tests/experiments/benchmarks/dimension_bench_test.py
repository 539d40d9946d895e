"""Dimensions are compared in models that are trained as the commands train them."""

import numpy as np
import pytest
from absl import flags as absl_flags

from experiments.benchmarks import dimension_bench, row_pruning_bench
from experiments.benchmarks.arrays import Problem
from experiments.benchmarks.dimension_bench import Bench
from experiments.run import flags
from optembed_jax.fields import Fields


@pytest.fixture
def settings():
    """What the commands' flags say when none is given."""
    if not absl_flags.FLAGS.is_parsed():
        absl_flags.FLAGS(["test"])
    return flags.settings()


def clicks(rows):
    """Two fields, of which only the first tells who clicks."""
    ids = np.random.default_rng(0).integers(0, 4, (rows, 2)).astype(np.int32)
    labels = (ids[:, 0] == 0).astype(np.float32)
    return ids + np.array([0, 4], np.int32), labels


@pytest.fixture(scope="module")
def bench():
    arrays = {"train": clicks(2048), "validation": clicks(512), "test": clicks(512)}
    counts = np.bincount(arrays["train"][0].ravel(), minlength=8)
    return Bench(Problem("d", Fields(("a", "b"), (4, 4)), arrays, counts), "fnn", 0)


def test_a_training_is_that_of_the_commands(settings):
    assert settings.train == dimension_bench.TRAIN
    assert settings.init_output == "click_rate"
    assert (settings.epochs, settings.patience) == (
        row_pruning_bench.EPOCHS,
        row_pruning_bench.PATIENCE,
    )
    assert settings.early_stop_errors == row_pruning_bench.STOPPING.errors


def test_the_output_begins_at_the_click_rate(bench, monkeypatch):
    begun = {}

    def fit(state, *args, **kwargs):
        begun["bias"] = float(state.params.network["logit"]["Dense_0"]["bias"][0])
        raise InterruptedError

    monkeypatch.setattr(row_pruning_bench, "fit", fit)
    with pytest.raises(InterruptedError):
        dimension_bench.retrained(bench, np.array([16, 16], np.int32))
    rate = bench.problem.arrays["train"][1].mean()
    assert begun["bias"] == pytest.approx(np.log(rate / (1 - rate)), rel=1e-4)
