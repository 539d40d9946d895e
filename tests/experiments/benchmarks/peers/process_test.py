"""The peers themselves, on a few rows; skipped where they are not installed."""

import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

from experiments.benchmarks.peer_environment import python_of
from experiments.benchmarks.peers.environment import ENVIRONMENT
from optembed_jax.errors import InputError

DEFAULT = pathlib.Path("~/.cache/optembed_jax/peers").expanduser()
SIZES = (6, 40)


@pytest.fixture(scope="module")
def python():
    given = os.environ.get("OPTEMBED_PEERS_PYTHON", str(python_of(DEFAULT)))
    try:
        ENVIRONMENT.check(given, {"sides": ["fuxictr", "deepctr", "lightgbm"]})
    except InputError as error:
        pytest.skip(f"the peers are not installed, set OPTEMBED_PEERS_PYTHON: {error}")
    return given


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Clicks that depend on the first field alone."""
    folder, rng = tmp_path_factory.mktemp("arrays"), np.random.default_rng(0)
    for split, rows in (("train", 4000), ("validation", 800), ("test", 800)):
        ids = np.stack([rng.integers(0, size, rows) for size in SIZES], axis=1).astype(np.int32)
        chance = 0.1 + 0.16 * ids[:, 0]
        np.save(folder / f"{split}_ids.npy", ids)
        np.save(folder / f"{split}_labels.npy", (rng.random(rows) < chance).astype(np.float32))
    return folder


def start(python, arrays, side, model, task):
    job = {
        "task": task, "side": side, "model": model, "arrays": str(arrays), "sizes": SIZES, "dim": 4,
        "hidden": [8, 4], "cross_layers": 2, "lr": 1e-2, "batch_size": 256, "max_epochs": 12,
        "strength": 7 if side == "lightgbm" else 1e-3, "seed": 0, "threads": 1,
    }  # fmt: skip
    return subprocess.Popen(
        [python, *ENVIRONMENT.program, json.dumps(job)], env=ENVIRONMENT.surroundings(1),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


SIDES = [("fuxictr", "deepfm"), ("fuxictr", "dcnv2"), ("deepctr", "deepfm"), ("deepctr", "dcnv2")]


@pytest.mark.parametrize("side, model", [*SIDES, ("lightgbm", "lightgbm")])
def test_each_peer_learns_what_there_is_to_learn(python, arrays, side, model):
    out, _ = start(python, arrays, side, model, "train").communicate()
    record = json.loads(out)
    labels = np.load(arrays / "test_labels.npy")
    scores = np.load(arrays / "test_ids.npy")[:, 0]
    above = scores[labels == 1][:, None] - scores[labels == 0]
    best = ((above > 0) + 0.5 * (above == 0)).mean()
    assert record["test_auc"] > best - 0.03
    assert 0.7 < record["test_calibration"] < 1.4 and 1 <= record["best_epoch"] <= record["epochs"]


# Each library and each network; both of both have learned above.
@pytest.mark.parametrize("side, model", [SIDES[0], SIDES[3]])
def test_each_network_can_be_timed(python, arrays, side, model):
    process = start(python, arrays, side, model, "time")
    out, _ = process.communicate("go on\ngo on\n\n")
    answers = [json.loads(line) for line in out.splitlines()]
    assert answers == [{"ready": True}, {"rows": 4000}, {"rows": 4000}]
