"""The flagfiles: what they set, and that each format runs with them."""

import functools
import json
import pathlib

import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments.run import flags, runs

CONFIGS = pathlib.Path("experiments/configs")
MODELS = ("deepfm", "dcn", "fnn", "ipnn")
DATASETS = {"criteo": "criteo_display", "avazu": "avazu", "kdd12": "kdd12"}

# By backbone and data set: lr, l2, t_lr, alpha, as exponents and digits of the authors' table.
RATES = {
    "lr": {"deepfm": "3e-5 3e-4 3e-5", "dcn": "3e-4 1e-4 1e-5"},
    "l2": {"deepfm": "1e-3 1e-5 1e-5", "dcn": "1e-5 3e-5 1e-6"},
    "t_lr": {"deepfm": "1e-4 1e-4 1e-4", "dcn": "1e-4 1e-4 1e-4", "ipnn": "3e-5 1e-4 1e-4"},
    "alpha": {"deepfm": "1e-4 1e-6 1e-5", "dcn": "1e-5 1e-4 1e-5", "ipnn": "1e-6 1e-4 1e-5"},
}


def parsed(name):
    """The settings that a flagfile gives."""
    with flagsaver.flagsaver():
        absl_flags.FLAGS.unparse_flags()
        absl_flags.FLAGS(["test", f"--flagfile={CONFIGS / name}.flags"])
        return flags.settings()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("place", range(3), ids=DATASETS)
def test_the_published_rates(model, place):
    short = list(DATASETS)[place]
    settings = parsed(f"{short}_{model}")
    assert (settings.dataset, settings.model.model) == (DATASETS[short], model)
    for name, by_model in RATES.items():
        # FNN has DCN's rates in all, IPNN in all but its thresholds'.
        expected = by_model.get(model, by_model["dcn"]).split()[place]
        assert getattr(settings.train, name) == float(expected), name
    assert settings.train.row_decay == "l2_coupled" and settings.model.mode_threshold == "field"
    assert (settings.model.latent_dim, settings.model.mlp_dims) == (64, (1024, 512, 256))
    assert settings.search.generations == 30 and settings.search.top_k == 15
    assert settings.data.weight == ("none" if short == "kdd12" else None)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("short", DATASETS)
def test_a_budget_beside_each(short, model):
    settings = parsed(f"{short}_{model}_budget")
    assert (settings.dataset, settings.model.model) == (DATASETS[short], model)
    assert settings.model.mode_threshold == "budget" and settings.model.row_keep == 0.2
    assert settings.train.row_decay == "group_lasso" and settings.model.mode_oov == "shared"


def test_each_says_its_own_command():
    found = sorted(CONFIGS.glob("*_*.flags"))
    assert len(found) == 24
    for file in found:
        text = file.read_text("utf-8")
        assert f"--flagfile={file} " in text, file
        assert "# Measured here: not run, the data set is no part of this project." in text, file
        assert ("10.1145/3511808.3557411" in text) != file.stem.endswith("_budget"), file


def write_rows(folder, short):
    """A small file of the format, its values drawn here."""
    rng = np.random.default_rng(0)
    values = rng.zipf(1.5, (400, 40)) % 50
    lines = {
        "criteo": [[v[0] % 2, *v[1:14], *(f"{n:08x}" for n in v[14:])] for v in values],
        "avazu": [[n, v[0] % 2, f"141021{v[1] % 24:02d}", *v[2:23]] for n, v in enumerate(values)],
        "kdd12": [[v[0] % 2, 1 + v[1], *v[2:12]] for v in values],
    }[short]
    comma = "," if short == "avazu" else "\t"
    head = ["id", "click", "hour", "C1", "banner_pos", "site_id", "site_domain", "site_category"]
    head += ["app_id", "app_domain", "app_category", "device_id", "device_ip", "device_model"]
    head += ["device_type", "device_conn_type", *(f"C{n}" for n in range(14, 22))]
    if short == "avazu":
        lines = [head, *lines]
    name = {"criteo": "train.txt", "avazu": "train.csv", "kdd12": "training.txt"}[short]
    text = "".join(comma.join(map(str, line)) + "\n" for line in lines)
    (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def rows_of(tmp_path_factory):
    """The folder with a small file of a format, where its data are prepared once."""

    @functools.cache
    def made(short):
        folder = tmp_path_factory.mktemp(short)
        write_rows(folder, short)
        return folder

    return made


@pytest.mark.parametrize("config", sorted(file.stem for file in CONFIGS.glob("*_*.flags")))
def test_runs_on_its_format(command, rows_of, tmp_path, config):
    folder = rows_of(config.partition("_")[0])
    less = {"mlp_dims": "8", "latent_dim": 4, "batch_size": 64, "epochs": 1, "generations": 1}
    if config.endswith("budget"):
        less["finalists"] = False
    places = {"raw_dir": folder, "data_dir": folder / "data", "workdir": tmp_path / "run"}
    file = f"--flagfile={CONFIGS / config}.flags"
    assert command(runs.pipeline_main, file, **less, **places) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text("utf-8"))
    assert 0 <= summary["retrain"]["test_auc"] <= 1
