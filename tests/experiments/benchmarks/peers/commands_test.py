import json

import pytest
from absl.testing import flagsaver

from experiments.benchmarks.peers import commands
from experiments.benchmarks.peers.grid import LADDERS, Place, Run, Rung
from experiments.benchmarks.peers.handover import Handed
from experiments.run import flags


@pytest.fixture
def handed(tmp_path):
    return Handed("flights", {"dataset": "flights", "data_dir": str(tmp_path)}, tmp_path, (3, 4), 9)


def test_our_flags_are_the_commands_defaults_but_for_sizes_and_strength(handed):
    run = Run(Place("flights", "dcnv2", "ours"), LADDERS["ours"][3], 7)
    with flagsaver.flagsaver():
        flags.flags.FLAGS.unparse_flags()
        flags.flags.FLAGS(["main"])
        default = flags.settings()
        flags.flags.FLAGS(["main", *commands.our_flags(run, handed)])
        settings = flags.settings()
    assert (settings.model.model, settings.model.mode, settings.seed) == ("dcnv2", "none", 7)
    assert (settings.model.latent_dim, settings.model.mlp_dims) == (16, (128, 64))
    assert settings.model.cross_layers == commands.CROSS_LAYERS
    for name, value in run.rung.settings:
        assert getattr(settings.train, name) == value
    assert (settings.epochs, settings.patience) == (default.epochs, default.patience)
    assert settings.data == default.data and settings.batch_size == commands.BATCH_SIZE


@pytest.mark.parametrize(("rung", "optimiser"), [(0, "rowwise_adam"), (-1, "adam")])
def test_our_rows_are_trained_by_the_commands_own_optimiser(handed, rung, optimiser):
    run = Run(Place("flights", "deepfm", "ours"), LADDERS["ours"][rung], 0)
    with flagsaver.flagsaver():
        flags.flags.FLAGS.unparse_flags()
        flags.flags.FLAGS(["main", *commands.our_flags(run, handed)])
        assert flags.settings().train.table_optimiser == optimiser


def test_a_peer_is_told_everything_as_plain_json(handed):
    run = Run(Place("flights", "deepfm", "fuxictr"), Rung.of(strength=0.1), 2)
    command = commands.peer_training(run, handed, "python")
    job = json.loads(command.line[-1])
    assert job["strength"] == 0.1 and job["seed"] == 2 and job["sizes"] == [3, 4]
    assert job["threads"] == 1 and job["task"] == "train" and job["hidden"] == [128, 64]
    assert command.read('{"val_auc": 0.5}\n') == {"val_auc": 0.5}


def test_the_outcome_of_our_command_is_read_of_its_summary(handed, tmp_path):
    run = Run(Place("flights", "deepfm", "ours"), LADDERS["ours"][0], 0)
    command = commands.our_training(run, handed, tmp_path)
    figures = {name: number for number, name in enumerate(commands._OUTCOME)}
    summary = {
        "baseline": {**figures, "seconds": 1.234, "rows_kept": 5},
        "versions": {"optembed-jax": "1", "jax": "2", "flax": "3"},
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    versions = {"optembed-jax": "1", "jax": "2"}
    assert command.read("") == {**figures, "seconds": 1.23, "versions": versions}
    assert f"--workdir={tmp_path}" in command.line
