import dataclasses
from pathlib import Path

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments.run import flags
from optembed_jax.data.options import DataOptions
from optembed_jax.errors import InputError
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.search.loop import SearchConfig
from optembed_jax.step.optimisers import TrainConfig

COMMANDS_DIFFER = {
    "mode_threshold": "budget",
    "mode_oov": "shared",
    "mode_linear": "prune",
    "row_decay": "group_lasso",
    "lr_plateau": "0.1",
    "table_optimiser": None,
    "group_lasso": None,
}


@pytest.fixture(autouse=True)
def parsed():
    if not absl_flags.FLAGS.is_parsed():
        absl_flags.FLAGS(["test"])


@pytest.mark.parametrize("dataclass", [DataOptions, ModelConfig, TrainConfig, SearchConfig])
def test_every_setting_has_a_flag_of_its_name_and_default(dataclass):
    for field in dataclasses.fields(dataclass):
        if not field.metadata.get("is_flag", True):  # Of the device, which changes no result.
            assert field.name not in absl_flags.FLAGS
            continue
        value = absl_flags.FLAGS[field.name].default
        if field.name == "mlp_dims":
            value = tuple(int(width) for width in value)
        if isinstance(field.default, tuple):
            value = tuple(value)
        assert value == COMMANDS_DIFFER.get(field.name, field.default), field.name


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "rowwise_adam"),
        ({"row_decay": "decoupled", "lr_plateau": "none"}, "rowwise_adam"),
        ({"row_decay": "l2_coupled"}, "adam"),
        ({"table_optimiser": "adam"}, "adam"),
        ({"table_optimiser": "rowwise_adagrad"}, "rowwise_adagrad"),
    ],
)
def test_the_tables_optimiser_is_the_smallest_that_learns_as_well(values, expected):
    with flagsaver.flagsaver(**values):
        assert flags.settings().train.table_optimiser == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, 1e-3),
        ({"model": "deepfm"}, 1e-3),
        ({"model": "fm"}, 3e-5),
        ({"model": "fm", "group_lasso": 1e-3}, 1e-3),
        ({"model": "fm", "group_lasso": 0.0}, 0.0),
        ({"model": "fm", "row_decay": "l2_coupled"}, 1e-3),
        ({"model": "outside_backbones:NnxAttention"}, 1e-3),
    ],
)
def test_rows_that_no_perceptron_reads_pay_less(values, expected):
    with flagsaver.flagsaver(**values):
        assert flags.settings().train.group_lasso == expected


def test_what_a_default_was_resolved_to_is_not_given():
    recorded = {"model": "fm", "group_lasso": 3e-5, "row_decay": "group_lasso"}
    assert flags.given({**recorded, "table_optimiser": "rowwise_adam"}) == {"model": "fm"}
    recorded |= {"group_lasso": 1e-3, "table_optimiser": "adam"}
    told = {"model": "fm", "group_lasso": 1e-3, "table_optimiser": "adam"}
    assert flags.given(recorded) == told


def test_no_optimiser_by_row_goes_with_the_coupled_decay():
    coupled = {"row_decay": "l2_coupled", "table_optimiser": "rowwise_adam"}
    with flagsaver.flagsaver(**coupled), pytest.raises(InputError, match="table_optimiser=adam"):
        flags.settings()


def test_flags_become_settings():
    with flagsaver.flagsaver(model="fnn", mlp_dims=["32", "16"], lr=0.5, m_prob=0.25, label="y"):
        settings = flags.settings()
    assert settings.model.model == "fnn"
    assert settings.model.mlp_dims == (32, 16)
    assert settings.train.lr == 0.5
    assert settings.search.m_prob == 0.25
    assert settings.data.label == "y"
    assert "~" not in str(settings.data_dir)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, False),  # Without a budget the search is the paper's.
        ({"max_table_parameters": 100}, True),
        ({"max_table_parameters": 100, "finalists": False}, False),
        ({"search": "pareto"}, True),
        ({"search": "random"}, True),
        ({"search": "corner", "max_table_parameters": 100}, False),
        ({"mode": "feature", "row_keep": 0.5}, True),  # The supernet may be better as it is.
        ({"mode": "feature", "row_keep": 0.5, "finalists": False}, False),
        ({"mode": "feature", "mode_threshold": "field"}, False),  # The paper retrains.
        ({"mode": "none"}, False),
    ],
)
def test_there_is_a_short_list_where_what_is_retrained_may_not_be_the_best(values, expected):
    with flagsaver.flagsaver(**values):
        assert flags.settings().has_finalists == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"latent_dim": 0}, "latent_dim must be at least 1"),
        ({"model": "ffm"}, "model must be one of fm, fnn"),
        ({"mlp_dims": ["8", "x"]}, "mlp_dims must be whole numbers"),
        ({"mlp_dims": ["0"]}, "mlp_dims"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"alpha": -1.0}, "alpha must be at least 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"early_stop_by": "loss"}, "early_stop_by must be one of auc, logloss, not 'loss'"),
        ({"early_stop_errors": -1.0}, "early_stop_errors must be at least 0"),
        ({"init_output": "zero"}, "init_output must be one of click_rate, random"),
        ({"seed": -1}, "seed must be in"),
        ({"retrain_from": "scratch"}, "retrain_from must be one of"),
        ({"m_prob": 1.5}, "m_prob must be in"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"row_keep": 0.0}, r"row_keep must be in \(0, 1\]"),
        ({"max_table_bytes": 0}, "max_table_bytes must be at least 1"),
        ({"row_score": "age"}, "row_score must be one of norm, mean_norm"),
        ({"row_keep": 0.5, "mode": "embed"}, "row_keep=0.5 is for pruning rows"),
        ({"row_score": "norm", "mode_threshold": "field"}, "use mode_threshold=budget"),
        ({"retrain_group_lasso": -1.0}, "retrain_group_lasso must be at least 0"),
    ],
)
def test_a_value_out_of_range_names_its_flag(values, message):
    with flagsaver.flagsaver(**values), pytest.raises(InputError, match=message):
        flags.settings()


def test_retraining_may_have_a_group_lasso_of_its_own():
    with flagsaver.flagsaver(group_lasso=0.5):
        assert flags.settings().retrain == flags.settings().train
    with flagsaver.flagsaver(group_lasso=0.5, retrain_group_lasso=0.25):
        settings = flags.settings()
    assert (settings.train.group_lasso, settings.retrain.group_lasso) == (0.5, 0.25)
    assert dataclasses.replace(settings.retrain, group_lasso=0.5) == settings.train


def test_the_workdir_has_to_be_given():
    with flagsaver.flagsaver(workdir=None), pytest.raises(InputError, match="--workdir=DIR"):
        flags.workdir()


CONFIGS = Path(flags.__file__).parents[1] / "configs"


def said_in(path):
    """What a flagfile says, by flag: its own lines and those of the flagfile that it names."""
    said = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("--flagfile="):
            said |= said_in(CONFIGS / line.rpartition("/")[2])
        elif line.startswith("--"):
            name, equals, text = line.removeprefix("--").partition("=")
            said[name if equals else name.removeprefix("no")] = text if equals else "False"
    return said


def attributes(settings):
    """All that settings hold, those of the library among them, by name."""
    held = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        held |= attributes(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return held


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.flags")), ids=lambda path: path.name)
def test_what_a_flagfile_says_is_what_a_run_of_it_is_set_to(path):
    with flagsaver.flagsaver():
        absl_flags.FLAGS.unparse_flags()
        absl_flags.FLAGS(["test", f"--flagfile={path}"])
        held = attributes(flags.settings())
    said = said_in(path)
    assert len(said) >= 4
    for name, text in said.items():
        value = held[name]
        if isinstance(value, tuple):
            assert ",".join(map(str, value)) == text, name
        elif isinstance(value, float):
            assert value == float(text), name
        else:
            assert str(value) == text, name
