import jax
import numpy as np
import pytest

from optembed_jax.errors import BudgetError
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import DEFAULT_ROW_KEEP, ModelConfig
from optembed_jax.models.parameter_count import count_parameters, rows_in_budget
from optembed_jax.models.params import init_params

ROWS = np.array([1, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0], bool)  # 2 of 5, 4 of 4, 0 of 3 rows
DIMS = np.array([3, 1, 2])


def count(fields, rows=None, dims=None, **config):
    model = ModelConfig(latent_dim=4, mlp_dims=(5,), **config)
    params, _ = init_params(jax.random.key(0), model, fields)
    return count_parameters(model, params, fields, rows, dims)


def test_the_full_table(fields):
    full = count(fields, model="deepfm", mode="none")
    assert full.table == 12 * 4
    assert full.linear == 12
    assert full.oov == 0
    # Dense 12 -> 5, BatchNorm's scale and bias, Dense 5 -> 1.
    assert full.network == (12 * 5 + 5) + (5 + 5) + (5 + 1)
    assert full.total == 48 + 12 + 81


@pytest.mark.parametrize(
    ("model", "network"),
    [
        # Query, key and value of 2 heads and the residual, of 4 inputs and twice of 64; the logit.
        ("autoint", (4 + 64 + 64) * (6 * 32 + 64) + (12 * 5 + 5 + 10) + (3 * 64 + 5 + 1)),
        ("dlrm", (3 * 5 + 5 + 10) + (5 + 1)),
        ("finalmlp", 2 * (12 + 12 * 5 + 5 + 10) + 5 * 5 + (10 + 1)),
    ],
)
def test_networks_are_counted_whole(fields, model, network):
    full = count(fields, model=model, mode="none")
    assert (full.network, full.linear, full.total) == (network, 0, 48 + network)


def test_rows_and_columns_kept(fields):
    kept = count(fields, ROWS, DIMS, model="deepfm", mode_oov="oov")
    assert kept.table == 2 * 3 + 4 * 1 + 0 * 2
    assert kept.oov == 3 + 1 + 2


@pytest.mark.parametrize(("mode_linear", "linear"), [("keep", 12), ("prune", 6)])
def test_linear_weights_are_counted_as_they_are_kept(fields, mode_linear, linear):
    assert count(fields, ROWS, DIMS, model="fm", mode_linear=mode_linear).linear == linear


def test_nothing_kept(fields):
    empty = count(fields, np.zeros(12, bool), DIMS, model="fnn")
    assert (empty.table, empty.linear, empty.oov) == (0, 0, 0)
    assert empty.total == empty.network > 0


def budget(fields, **options):
    return rows_in_budget(ModelConfig(latent_dim=4, mode_threshold="budget", **options), fields)


@pytest.mark.parametrize("rows", [20, 9151, 1_000_003])
@pytest.mark.parametrize("keep", [0.5, 0.2, 0.1, 0.05, 1.0])
def test_a_share_is_kept_to_one_row(rows, keep):
    assert abs(budget(Fields(("a", "b"), (rows - 7, 7)), row_keep=keep) - keep * rows) <= 0.5


def test_bytes_pay_for_whole_rows_and_for_the_vectors_of_pruned_ids(fields):
    assert budget(fields, max_table_bytes=5 * 16) == 5
    assert budget(fields, max_table_bytes=6 * 16 - 1) == 5
    assert budget(fields, max_table_bytes=5 * 16, mode_oov="oov") == 2
    assert budget(fields, max_table_bytes=1 << 40) == 12
    # Of two budgets, the smaller one; of none, the default.
    assert budget(fields, max_table_bytes=5 * 16, row_keep=0.25) == 3
    assert budget(fields, max_table_bytes=5 * 16, row_keep=0.75) == 5
    assert budget(fields) == round(DEFAULT_ROW_KEEP * 12)


def test_without_a_budget_no_row_is_counted_out(fields):
    assert rows_in_budget(ModelConfig(), fields) == 12
    assert budget(fields, mode="embed") == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row_keep": 0.01}, r"row_keep=0.01 leaves none of the 12 rows; raise it to 0.083"),
        (
            {"max_table_bytes": 15},
            r"15 bytes \(3 parameters\) pays for no row: .* 16 bytes \(4 par",
        ),
        # Three fields' vectors, and a row.
        ({"max_table_bytes": 63, "mode_oov": "oov"}, r"the smallest table takes 64 bytes \(16 par"),
    ],
)
def test_a_budget_for_less_than_a_row_is_refused(fields, options, message):
    with pytest.raises(BudgetError, match=message):
        budget(fields, **options)
