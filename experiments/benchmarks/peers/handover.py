"""Data sets as both sides get them: prepared by us, and as plain arrays for the peers."""

import dataclasses
import pathlib

import numpy as np

from optembed_jax import data
from optembed_jax.data.options import DataOptions
from optembed_jax.data.prepared import PreparedData

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Handed:
    """A data set that is ready for all sides.

    Attributes:
      name: of the data set.
      flags: by which our commands find it.
      arrays: the folder of its arrays, as ``process/__main__.py`` describes it.
      sizes: rows of each field.
      rows: training rows.
    """

    name: str
    flags: dict[str, str]
    arrays: pathlib.Path
    sizes: tuple[int, ...]
    rows: int


def hand_over(
    name: str, data_dir: pathlib.Path, raw_dir: str | None, folder: pathlib.Path
) -> Handed:
    """Prepare a data set as our commands do by default, and write its arrays.

    Args:
      name: ``flights`` or ``movielens``.
      data_dir: where prepared data sets are kept.
      raw_dir: of MovieLens; other data sets need none.
      folder: for the arrays; a folder of the data set's name is made in it.

    Raises:
      InputError: the data set cannot be prepared.
    """
    raw_dir = raw_dir if name == "movielens" else None
    # Others' models are given fields of one value each.
    multi = () if name == "movielens" else None
    prepared = data.prepare(name, DataOptions(raw_dir=raw_dir, multi=multi), data_dir)
    arrays = folder / name
    write_arrays(prepared, arrays)
    flags = {"dataset": name, "data_dir": str(data_dir)}
    if raw_dir is not None:
        flags["raw_dir"] = raw_dir
        flags["multi"] = ""
    return Handed(name, flags, arrays, prepared.fields.sizes, prepared.num_rows["train"])


def write_arrays(prepared: PreparedData, folder: pathlib.Path) -> None:
    """``SPLIT_ids.npy``, int32 ``[N, F]`` from 0 in each field, and ``SPLIT_labels.npy``."""
    folder.mkdir(parents=True)
    first = np.asarray(prepared.fields.offsets, np.int64)
    for split in SPLITS:
        ids, labels = prepared.arrays(split)
        np.save(folder / f"{split}_ids.npy", (ids - first).astype(np.int32), allow_pickle=False)
        np.save(folder / f"{split}_labels.npy", labels.astype(np.float32), allow_pickle=False)
