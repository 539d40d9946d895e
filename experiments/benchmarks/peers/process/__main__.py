"""One training of a peer, or one to be timed: a job in JSON, answered in JSON lines.

    PYTHON DIRECTORY_OF_THIS_FILE JOB

``JOB`` is a JSON object: ``task`` (``train``, ``time`` or ``check``), ``side``, ``model``,
``arrays`` (a folder with ``SPLIT_ids.npy``, int32 ``[N, F]``, ids that begin at 0 in each field,
and ``SPLIT_labels.npy``, float32 ``[N]``), ``sizes`` (rows of each field), ``dim``, ``hidden``,
``cross_layers``, ``lr``, ``batch_size``, ``strength``, ``max_epochs``, ``seed``, ``threads`` (None
leaves them as they are).

``train`` answers with a line: what the run came to. ``time`` says ``{"ready": true}``, and answers
each line of its standard input with ``{"rows": N}`` after another epoch of training on ``N`` rows;
an empty line ends it. ``check`` takes only ``sides``, imports them and answers with their versions.
What the libraries print goes to standard error.
"""

import importlib
import importlib.metadata
import json
import os
import sys
import time
from typing import Any, TextIO

import numpy as np
from splits import read_splits

PACKAGES = {"fuxictr": "fuxictr", "deepctr": "deepctr-torch", "lightgbm": "lightgbm"}
"""What each side is, by its name on the package index."""


def answers() -> TextIO:
    """Standard output for answers alone: what libraries print there goes to standard error."""
    kept = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return kept


def record_of(job: dict[str, Any], trained: Any, test: Any, seconds: float) -> dict[str, Any]:
    """What a finished training came to on the test split."""
    from sklearn.metrics import log_loss, roc_auc_score

    probabilities = np.asarray(trained.predict(test.ids), np.float64)
    return {
        "val_auc": float(trained.val_auc),
        "test_auc": float(roc_auc_score(test.labels, probabilities)),
        "test_logloss": float(log_loss(test.labels, probabilities)),
        "test_calibration": float(probabilities.mean() / test.labels.mean()),
        "best_epoch": int(trained.best_epoch),
        "epochs": int(trained.epochs),
        "seconds": round(seconds, 2),
        "versions": versions(job["side"]),
    }


def versions(side: str) -> dict[str, str]:
    """Of what trains, as the packages say themselves."""
    names = [PACKAGES[side], "numpy", *([] if side == "lightgbm" else ["torch"])]
    return {name: importlib.metadata.version(name) for name in names}


def main() -> None:
    """Do what the job says."""
    out, job = answers(), json.loads(sys.argv[1])

    def answer(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=out, flush=True)

    if job["task"] == "check":
        for side in job["sides"]:
            importlib.import_module(f"{side}_side")
        answer({name: version for side in job["sides"] for name, version in versions(side).items()})
        return
    if job["side"] != "lightgbm":
        import torch

        if job["threads"]:
            torch.set_num_threads(job["threads"])
    side = importlib.import_module(f"{job['side']}_side")
    splits = read_splits(job["arrays"])
    if job["task"] == "train":
        started = time.monotonic()
        trained = side.train(job, splits["train"], splits["validation"])
        answer(record_of(job, trained, splits["test"], time.monotonic() - started))
        return
    epoch = side.epoch_to_time(job, splits["train"])
    answer({"ready": True})
    for line in sys.stdin:
        if not line.strip():
            break
        answer({"rows": epoch()})


if __name__ == "__main__":
    main()
