"""Whether every runtime gives a bundle's scores: real rows, each backbone, storage and mode.

    python -m experiments.benchmarks.same_scores --json=FILE [--raw_dir=MOVIELENS] [--runs=FILE]

2,048 rows of the data sets' own files, of which some get values that training never had, and some
none. A bundle of random weights scores them from raw columns; NumPy, onnxruntime, PyTorch, FBGEMM's
tables and those of keras-rs have to give the same. Every pair of backbone and storage and of
backbone and mode is tried, with ``--every`` all three together. What is not installed is left out
and said to be; ``make test-targets`` makes an environment with all of them. With ``--runs`` a
comparison that was stopped goes on with the cases that are missing.
"""

import importlib.util
import pathlib
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

from absl import flags

from experiments.benchmarks import json_file, runs_file
from experiments.benchmarks.backbones import backbones
from experiments.benchmarks.runs_file import Finished, Record
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
_RUNS = flags.DEFINE_string("runs", None, "JSONL file of the finished cases; begun anew without.")

KEY = ("dataset", "model", "storage", "mode")


def main() -> None:
    """Compare, print the worst of each runtime, write the figures."""
    libraries = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if libraries:
        print(f"left out, since not installed: {', '.join(libraries)}")
    names = ["flights"] + ["movielens"] * (_RAW_DIR.value is not None)
    of_a_name = cases(backbones(_MODELS.value), _EVERY.value)
    with tempfile.TemporaryDirectory() as temporary:
        place = pathlib.Path(temporary)

        def missing(finished: Finished) -> Iterator[Record]:
            for name in names:
                wanted = [case for case in of_a_name if (name, *case) not in finished]
                if wanted:
                    yield from _compared(name, wanted, place / name)

        found = runs_file.complete(_RUNS.value or str(place / "cases.jsonl"), KEY, missing, _line)
    figures: dict[str, Any] = json_file.machine() | {"rows": ROWS, "cases": found}
    runtimes = sorted(
        {key for case in found for key, value in case.items() if type(value) is float}
    )
    figures["worst"] = {
        runtime: max(case.get(runtime, 0.0) for case in found) for runtime in runtimes
    }
    print(f"{'runtime':<14}{'worst':>10}{'cases':>8}")
    for runtime, worst in figures["worst"].items():
        of_it = sum(runtime in case for case in found)
        print(f"{runtime:<14}{worst:>10.1e}{of_it:>8}")
    json_file.write(figures)


def _compared(
    name: str, wanted: list[tuple[str, str, str]], place: pathlib.Path
) -> Iterator[Record]:
    """Compare what is wanted of a data set, in folders below a place of its own."""
    rows = rows_of(name, place / "data", _RAW_DIR.value if name == "movielens" else None)
    for number, (model, storage, mode) in enumerate(wanted):
        folder = place / str(number)
        folder.mkdir(parents=True)
        bundle = bundle_of(rows, folder / "bundle", model, storage, mode)
        with warnings.catch_warnings():
            # That many values here are unseen is what is asked for.
            warnings.simplefilter("ignore")
            found = differences(rows, bundle, folder)
        yield {"dataset": name, "model": model, "storage": storage, "mode": mode, **found}


def _line(case: Record) -> str:
    told = "  ".join(f"{key} {value:.1e}" for key, value in case.items() if key not in KEY)
    return f"{' '.join(case[name] for name in KEY)}  {told}"


if __name__ == "__main__":
    cli.run(main)
