import dataclasses

import jax
import jax.numpy as jnp
import optax
import pytest

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.step.optimisers import TrainConfig, make_optimisers
from optembed_jax.step.table_update import init_table_state
from optembed_jax.step.train_state import init_state
from optembed_jax.table.decay import ROW_DECAYS
from optembed_jax.table.stacks import Stacks
from optembed_jax.table.state import RowState

FIELDS = Fields(("user", "item", "hour"), (40, 9, 3))


def test_auto_keeps_small_tables_with_optax_and_large_ones_by_rows():
    model = ModelConfig("fm", 2, (), mode="none")

    def table_state(fields, **options):
        train = TrainConfig(**options)
        shapes = jax.eval_shape(lambda: init_state(jax.random.key(0), model, train, fields))
        return shapes.opt_state[0]

    large = Fields(("a",), (200_000,))
    assert isinstance(table_state(FIELDS).state[1], optax.ScaleByAdamState)
    assert table_state(large).is_sparse
    assert isinstance(table_state(large, table_update="dense").state[1], optax.ScaleByAdamState)
    assert table_state(FIELDS, table_update="sparse").is_sparse
    lazy = table_state(FIELDS, row_decay="group_lasso")
    assert isinstance(lazy, RowState) and not lazy.is_sparse
    # Memory that reads 200,000 rows in no time; and one that went on there.
    quick = {"device": "NVIDIA H200"}
    assert isinstance(table_state(large, **quick).state[1], optax.ScaleByAdamState)
    assert table_state(large, begun_on="cpu", **quick).is_sparse
    assert TrainConfig(begun_on="cpu", **quick).as_record() == TrainConfig().as_record()


def test_each_stack_is_updated_as_suits_its_size():
    sizes = 200_000, 9
    fields = tuple(Fields((name,), (size,)) for name, size in zip("ab", sizes, strict=True))
    stacks = Stacks(tuple(Table(jnp.zeros((size, 2))) for size in sizes), fields)
    for decay in ROW_DECAYS:
        for update, expected in (
            ("auto", [True, False]), ("sparse", [True, True]), ("dense", [False, False])
        ):  # fmt: skip
            train = TrainConfig(row_decay=decay, table_update=update)
            found = init_table_state(train, stacks, FIELDS).stacks
            assert [state.is_sparse for state in found] == expected
            for state, size in zip(found, sizes, strict=True):
                is_by_rows = train.row_rule.lazy_moments or state.is_sparse
                assert isinstance(state, RowState) == is_by_rows
                assert max(len(leaf) for leaf in jax.tree.leaves(state) if leaf.ndim) == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"row_decay": "l1"},
            "row_decay must be one of l2_coupled, l2_visited, decoupled, group_lasso, none",
        ),
        ({"table_update": "fast"}, "table_update must be one of auto, sparse, dense"),
        ({"table_dtype": "float16"}, "table_dtype must be one of float32, bfloat16, not 'float16'"),
        ({"group_lasso": -1.0}, "group_lasso must be at least 0"),
        ({"row_decay": "rent"}, "row_decay=rent is called row_decay=group_lasso now"),
        ({"row_decay": "decoupled", "lr": 1.0, "l2": 0.1}, r"lr \* l2 below 0.09"),
        ({"table_l2": -0.1}, "table_l2 must be at least 0, not -0.1"),
        ({"table_l2": float("nan")}, "table_l2 must be at least 0"),
        (
            {"table_optimiser": "adagrad"},
            "table_optimiser must be one of adam, rowwise_adam, rowwise_adagrad, not 'adagrad'",
        ),
        ({"table_optimiser": "rowwise_adam"}, "row_decay=l2_coupled has no closed form of idle"),
        ({"table_lr": 0.0}, "table_lr must be above 0"),
        ({"table_lr": float("nan")}, "table_lr must be above 0"),
        ({"table_l2": 0.1, "row_decay": "none"}, "row_decay=none lets rows pay nothing"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**options)


@pytest.mark.parametrize("name", ["lr", "l2", "t_lr", "alpha"])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_bad_settings_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name} must be"):
        TrainConfig(**{name: value})


def test_rows_have_an_l2_of_their_own():
    """Without one it is the kernels', as in the paper, but where rows pay the group lasso."""
    for decay in ("l2_coupled", "l2_visited", "decoupled"):
        assert TrainConfig(row_decay=decay, l2=0.01).row_rule.l2 == 0.01
    for decay in ("group_lasso", "none"):
        assert TrainConfig(row_decay=decay, l2=0.01).row_rule.l2 == 0
    for decay in ("l2_coupled", "l2_visited", "decoupled", "group_lasso"):
        assert TrainConfig(row_decay=decay, l2=0.01, table_l2=0.2).row_rule.l2 == 0.2
        assert TrainConfig(row_decay=decay, l2=0.01, table_l2=0.0).row_rule.l2 == 0


@pytest.mark.parametrize("decay", ["l2_coupled", "decoupled"])
def test_optax_decays_kernels_and_rows_by_their_own_weights(decay):
    train = TrainConfig(lr=0.1, l2=0.0, table_l2=0.3, row_decay=decay)
    params = Params(
        table=Table(rows=jnp.ones((3, 2)), linear=None),
        thresholds=None,
        network={"Dense_0": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}},
    )
    nothing = jax.tree.map(jnp.zeros_like, params)
    for config, moved in ((train, (True, False)), (swapped(train), (False, True))):
        optimisers = make_optimisers(config)
        of_table, _ = optimisers.table.update(
            nothing.table, optimisers.table.init(params.table), params.table
        )
        table = optax.apply_updates(params.table, of_table)
        rest, of_rest = (dataclasses.replace(tree, table=None) for tree in (params, nothing))
        after, _ = optimisers.update(of_rest, (None, *optimisers.init(params)), rest)
        assert ((table.rows != 1).all(), (after.network["Dense_0"]["kernel"] != 1).all()) == moved
        assert (after.network["Dense_0"]["bias"] == 1).all()


def swapped(train):
    return dataclasses.replace(train, l2=train.table_l2, table_l2=train.l2)


def test_zero_is_a_setting_except_for_the_learning_rate():
    TrainConfig(l2=0, t_lr=0, alpha=0)
    with pytest.raises(InputError, match="lr must be above 0"):
        TrainConfig(lr=0)
