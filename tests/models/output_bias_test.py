import dataclasses

import jax
import numpy as np
import pytest
from param_shapes import shapes_of_params
from scipy.special import expit

from optembed_jax.errors import InputError
from optembed_jax.models import MODEL_NAMES
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.output_bias import (
    log_odds,
    of_all_rows,
    predicting,
    shift_to_rate,
    shifted,
)
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@pytest.mark.parametrize("model", MODEL_NAMES)
@pytest.mark.parametrize("rate", [0.5, 0.01, 4e-4, 1 - 1e-6])
@pytest.mark.parametrize("train", [False, True])
def test_a_fresh_model_predicts_the_click_rate(fields, draw_ids, model, rate, train):
    config = ModelConfig(model, 4, (6, 3), mode="none")
    params, stats = init_params(jax.random.key(0), config, fields, rate)
    ids = draw_ids(fields, 40)
    logits, _ = forward(config, params, stats, ids, Selection(), train=train)
    if "fm" in model:
        # What the interaction adds comes from the table, and is small.
        rows = np.asarray(params.table.rows)[ids]
        squares = np.square(rows.sum(axis=1)) - np.square(rows).sum(axis=1)
        logits = logits - 0.5 * squares.sum(axis=1)
    # But for a hundredth of what random weights would add.
    np.testing.assert_allclose(expit(np.asarray(logits, np.float64)), rate, rtol=0.1)


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_nothing_but_the_output_differs_from_random_values(fields, model):
    config = ModelConfig(model, 4, (6, 3), mode="none")
    key = jax.random.key(3)
    (plain, stats), (params, same) = (init_params(key, config, fields, r) for r in (None, 0.1))
    changed = jax.tree_util.tree_map_with_path(
        lambda path, a, b: None if (np.asarray(a) == b).all() else jax.tree_util.keystr(path),
        (plain, stats),
        (params, same),
    )
    names = jax.tree.leaves(changed)
    ends = ("['bias']",) if model == "fm" else ("['bias']", "['kernel']")
    assert len(names) == len(ends) and all(
        name.endswith(end) and (model == "fm" or "['logit']" in name)
        for name, end in zip(sorted(names), ends, strict=True)
    )


def test_a_state_starts_as_its_fresh_parameters_do(fields):
    config = ModelConfig("fnn", 4, (3,), mode="none")
    key = jax.random.key(1)
    state = init_state(key, config, TrainConfig(), fields, click_rate=0.2)
    wanted, _ = init_params(jax.random.split(key)[0], config, fields, 0.2)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_split_of_one_class_has_no_log_odds(rate):
    with pytest.raises(InputError, match="between 0 and 1, both excluded"):
        log_odds(rate)
    with pytest.raises(InputError, match="between 0 and 1, both excluded"):
        predicting({"bias": np.float32(0)}, rate)


def test_log_odds_keep_their_digits_at_both_ends():
    assert log_odds(0.5) == 0
    assert log_odds(1e-12) == pytest.approx(np.log(1e-12), rel=1e-12)
    assert log_odds(0.75) == pytest.approx(np.log(3), rel=1e-12) == -log_odds(0.25)


@pytest.mark.parametrize("model", [name for name in MODEL_NAMES if name != "fm"])
def test_the_last_layer_starts_small_but_not_at_zero(fields, model):
    # At zero no gradient would reach the table in the first step, which has to pay by it.
    config = ModelConfig(model, 4, (6, 3), mode="none")
    (plain, _), (params, _) = (
        init_params(jax.random.key(0), config, fields, rate) for rate in (None, 0.1)
    )
    kernels = [np.asarray(p.network["logit"]["Dense_0"]["kernel"]) for p in (plain, params)]
    np.testing.assert_allclose(kernels[1], 0.01 * kernels[0], rtol=1e-6)
    assert np.abs(kernels[1]).min() > 0


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_a_shift_is_added_to_every_logit(fields, draw_ids, randomise, model):
    config = ModelConfig(model, 4, (6, 3), mode="none")
    params, stats = randomise(shapes_of_params(config, fields), seed=1)
    moved = params.replace(network=shifted(params.network, -1.5))
    before, after = (
        forward(config, p, stats, draw_ids(fields, 20), Selection())[0] for p in (params, moved)
    )
    np.testing.assert_allclose(after, before - 1.5, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rate", [1e-4, 0.02, 0.5, 0.999])
@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0])
def test_the_shift_makes_the_mean_probability_the_rate(rate, spread):
    logits = np.random.default_rng(0).normal(-2, spread, 5000).astype(np.float32)
    shift = shift_to_rate(logits, rate)
    assert expit(logits + shift).mean() == pytest.approx(rate, rel=1e-6)
    assert shift_to_rate(logits + np.float32(shift), rate) == pytest.approx(0, abs=1e-5)


def test_no_shift_makes_a_rate_of_zero():
    with pytest.raises(InputError, match="between 0 and 1"):
        shift_to_rate(np.zeros(3), 0.0)


@pytest.mark.parametrize("model", MODEL_NAMES)
@pytest.mark.parametrize("negative_rate", [1.0, 0.1, 1e-3])
def test_probabilities_of_all_rows_are_those_of_the_sample_by_bayes(
    fields, draw_ids, model, negative_rate
):
    config = ModelConfig(model, 4, (6, 3), mode="none")
    params, stats = init_params(jax.random.key(1), config, fields, 0.3)
    ids = draw_ids(fields, 40)

    def probabilities(network):
        found = dataclasses.replace(params, network=network)
        logits, _ = forward(config, found, stats, ids, Selection(), train=False)
        return expit(np.asarray(logits, np.float64))

    kept = probabilities(params.network)
    # Of n rows, kept * n clicks, and (1 - kept) * n others, each of which stands for 1 / r.
    expected = kept / (kept + (1 - kept) / negative_rate)
    np.testing.assert_allclose(
        probabilities(of_all_rows(params.network, negative_rate)), expected, rtol=1e-5
    )


@pytest.mark.parametrize("negative_rate", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_of_negatives_outside_its_range_is_refused(negative_rate):
    with pytest.raises(InputError, match=r"negative_rate must be in \(0, 1\]"):
        of_all_rows({"bias": np.zeros(1)}, negative_rate)


def test_the_shift_is_of_the_weighted_mean():
    rng = np.random.default_rng(2)
    logits, weights = rng.normal(size=50), rng.integers(1, 4, 50)
    found = shift_to_rate(logits, 0.2, weights)
    assert found == pytest.approx(shift_to_rate(np.repeat(logits, weights), 0.2), abs=1e-9)
    assert abs(found - shift_to_rate(logits, 0.2)) > 1e-4
