"""The data sets of the comparison, as arrays that all workers map."""

import pathlib

from experiments.benchmarks import arrays
from experiments.benchmarks.arrays import SPLITS, Problem, problem_of
from optembed_jax.errors import InputError

DATASETS = ("flights", "movielens", "synthetic")


def load(name: str, folder: pathlib.Path, data_dir: pathlib.Path, raw_dir: str | None) -> Problem:
    """A data set as the commands prepare it by default, all its rows.

    Args:
      name: one of ``DATASETS``.
      folder: of the data sets' arrays; what is not there is made.
      data_dir: of prepared data sets.
      raw_dir: of MovieLens.

    Raises:
      InputError: there is no such data set, or its raw files are missing.
    """
    if name not in DATASETS:
        raise InputError(f"--datasets: no {name!r}; there are {', '.join(DATASETS)}")
    if not (folder / name).exists():
        # Only here, so that arrays made elsewhere can be trained on without what prepares them.
        from optembed_jax import data

        is_movielens = name == "movielens"
        options = data.DataOptions(
            raw_dir=raw_dir if is_movielens else None, multi=() if is_movielens else None
        )
        prepared = data.prepare(name, options, data_dir)
        found = {split: prepared.arrays(split) for split in SPLITS}
        arrays.write(problem_of(name, prepared.fields, found), folder / name)
    return arrays.read(folder / name)
