"""Mains started as commands, and a small supernet that tests of the search begin with."""

import importlib.metadata
import json
import shutil
import signal
import sys

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver
from small_run import SEARCHED

from experiments.run import cli, runs

SMALL = {
    "dataset": "synthetic",
    "synthetic_rows": 3000,
    "synthetic_field_size": 30,
    "synthetic_signal_fields": 3,
    "synthetic_noise_fields": 1,
    "model": "fnn",
    "latent_dim": 8,
    "mlp_dims": "8",
    "batch_size": 256,
    "epochs": 2,
    "row_keep": 0.5,
    "mode_oov": "zero",
    "row_score": "frequency",
    "generations": 4,
    "mutation_num": 4,
    "crossover_num": 4,
    "top_k": 4,
}


@pytest.fixture(scope="session")
def command():
    """Runs a main as a command line would, and returns its exit status."""

    def command(main, *arguments, goes_on=True, **flags):
        given = [*arguments, *(f"--{name}={value}" for name, value in flags.items())]
        with pytest.MonkeyPatch.context() as patch, flagsaver.flagsaver():
            patch.setattr(sys, "argv", ["main", *given])
            absl_flags.FLAGS.unparse_flags()
            before = signal.getsignal(signal.SIGTERM)
            with pytest.raises(SystemExit) as exit_info:
                cli.run(main, goes_on)
            signal.signal(signal.SIGTERM, before)  # This process does not end with the command.
        return exit_info.value.code or 0

    return command


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """Where the session's runs keep their prepared data."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="session")
def small_run(command, small_data, tmp_path_factory):
    """The folder of a finished run of all phases, to be read; who writes into it copies it."""
    workdir = tmp_path_factory.mktemp("small") / "run"
    assert command(runs.pipeline_main, data_dir=small_data, workdir=workdir, **SEARCHED) == 0
    return workdir


@pytest.fixture
def not_installed(monkeypatch):
    """The package is on the path of a clone, and no installer knows of it."""
    version = importlib.metadata.version

    def version_of(name):
        if name == "optembed-jax":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", version_of)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Where the module's runs keep their prepared data."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module")
def start(command, data_dir):
    """Runs a phase with small settings, as :func:`command` does."""

    def start(phase, workdir, **flags):
        given = {"data_dir": data_dir, "workdir": workdir, **SMALL, **flags}
        return command(runs.phase_main(phase), **given)

    return start


@pytest.fixture(scope="module")
def supernet(start, tmp_path_factory):
    """A run with only a supernet."""
    workdir = tmp_path_factory.mktemp("run")
    assert start("supernet", workdir) == 0
    return workdir


@pytest.fixture
def workdir(supernet, tmp_path):
    """A copy of it, to go on with."""
    shutil.copytree(supernet, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def result():
    """Reads what a finished phase recorded, without the seconds: ``result(workdir, phase)``."""

    def read(workdir, phase):
        found = json.loads((workdir / phase / "result.json").read_text())
        found.pop("seconds")
        return found

    return read
