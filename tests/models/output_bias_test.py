import jax
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.models import MODEL_NAMES
from optembed_jax.models.forward import Selection, forward, init_params
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.output_bias import log_odds, predicting
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
    np.testing.assert_allclose(1 / (1 + np.exp(-np.asarray(logits, np.float64))), rate, rtol=1e-5)


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
