"""Whether every runtime gives a bundle's scores: real rows, each backbone, storage and mode.

    python -m experiments.benchmarks.same_scores --json=FILE [--raw_dir=MOVIELENS]

2,048 rows of the data sets' own files, of which some get values that training never had, and some
none. A bundle of random weights scores them from raw columns; NumPy, onnxruntime, PyTorch, FBGEMM's
tables and those of keras-rs have to give the same. Every pair of backbone and storage and of
backbone and mode is tried, with ``--every`` all three together. What is not installed is left out
and said to be; ``make test-targets`` makes an environment with all of them.
"""

import importlib.util
import pathlib
import tempfile
import warnings
from typing import Any

from absl import flags

from experiments.benchmarks import json_file
from experiments.benchmarks.backbones import backbones
from experiments.benchmarks.same_scores.runtimes import (
    LIBRARIES,
    ROWS,
    bundle_of,
    cases,
    differences,
    rows_of,
)
from experiments.run import cli

_RAW_DIR = flags.DEFINE_string("raw_dir", None, "Folder of MovieLens; left out without it.")
_MODELS = flags.DEFINE_list("models", ["all"], "Backbones.")
_EVERY = flags.DEFINE_bool(
    "every", False, "Each backbone, storage and mode together, not in pairs."
)


def main() -> None:
    """Compare, print the worst of each runtime, write the figures."""
    wanted = cases(backbones(_MODELS.value), _EVERY.value)
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        print(f"left out, since not installed: {', '.join(missing)}")
    figures: dict[str, Any] = json_file.machine() | {"rows": ROWS, "cases": []}
    names = ["flights"] + ["movielens"] * (_RAW_DIR.value is not None)
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            place = pathlib.Path(temporary)
            raw_dir = _RAW_DIR.value if name == "movielens" else None
            rows = rows_of(name, place / "data", raw_dir)
            for number, (model, storage, mode) in enumerate(wanted):
                folder = place / name / str(number)
                folder.mkdir(parents=True)
                bundle = bundle_of(rows, folder / "bundle", model, storage, mode)
                with warnings.catch_warnings():
                    # That many values here are unseen is what is asked for.
                    warnings.simplefilter("ignore")
                    found = differences(rows, bundle, folder)
                about = {"dataset": name, "model": model, "storage": storage, "mode": mode}
                figures["cases"].append(about | found)
                told = "  ".join(f"{key} {value:.1e}" for key, value in found.items())
                print(f"{number + 1}/{len(wanted)}  {' '.join(about.values())}  {told}", flush=True)
    runtimes = sorted({k for case in figures["cases"] for k, v in case.items() if type(v) is float})
    figures["worst"] = {
        runtime: max(case.get(runtime, 0.0) for case in figures["cases"]) for runtime in runtimes
    }
    print(f"{'runtime':<14}{'worst':>10}{'cases':>8}")
    for runtime, worst in figures["worst"].items():
        of_it = sum(runtime in case for case in figures["cases"])
        print(f"{runtime:<14}{worst:>10.1e}{of_it:>8}")
    json_file.write(figures)


if __name__ == "__main__":
    cli.run(main)
