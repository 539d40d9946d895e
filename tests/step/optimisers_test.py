import jax
import jax.numpy as jnp
import optax
import pytest

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.step.optimisers import TrainConfig
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
    lazy = table_state(FIELDS, row_decay="rent")
    assert isinstance(lazy, RowState) and not lazy.is_sparse


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
                is_by_rows = decay in ("rent", "none") or state.is_sparse
                assert isinstance(state, RowState) == is_by_rows
                assert max(len(leaf) for leaf in jax.tree.leaves(state) if leaf.ndim) == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row_decay": "l1"}, "row_decay must be one of l2_coupled, decoupled, rent, none"),
        ({"table_update": "fast"}, "table_update must be one of auto, sparse, dense"),
        ({"rent": -1.0}, "rent must be at least 0"),
        ({"row_decay": "decoupled", "lr": 1.0, "l2": 0.1}, r"lr \* l2 below 0.09"),
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


def test_zero_is_a_setting_except_for_the_learning_rate():
    TrainConfig(l2=0, t_lr=0, alpha=0)
    with pytest.raises(InputError, match="lr must be above 0"):
        TrainConfig(lr=0)
