"""Data sets whole in memory, or on disk as arrays that several processes map.

Nothing of ``optembed_jax.data`` is imported, so that what was prepared elsewhere can be trained on
where nothing can be prepared.
"""

import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields

SPLITS = ("train", "validation", "test")

_FIELDS = "fields.json"


class Batch(NamedTuple):
    """Some rows of a split: ids int32 ``[B, F]``, labels and weights float32 ``[B]``."""

    ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Rows in memory: shuffled full batches with a seed, else in order and the last one padded.

    Attributes:
      ids: int32 ``[N, F]``.
      labels: float32 ``[N]``.
      batch_size: rows of a batch.
      seed: of the shuffling; None does not shuffle.
    """

    ids: np.ndarray
    labels: np.ndarray
    batch_size: int
    seed: int | None = None
    is_weighted: ClassVar[bool] = False

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""
        rows = len(self.ids)
        return -(-rows // self.batch_size) if self.seed is None else rows // self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch number ``start``."""
        order = np.arange(len(self.ids))
        if self.seed is not None:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        for number in range(start, self.num_batches):
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            weights = np.ones(self.batch_size, np.float32)
            weights[len(rows) :] = 0
            rows = np.resize(rows, self.batch_size)
            yield Batch(self.ids[rows], self.labels[rows], weights)


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A data set to compare on.

    Attributes:
      name: of the data set.
      fields: the ``F`` fields of its ``V`` rows.
      arrays: ids int32 ``[N, F]`` and labels float32 ``[N]`` of each split.
      counts: int64 ``[V]``, occurrences of each row in the training split.
    """

    name: str
    fields: Fields
    arrays: Mapping[str, tuple[np.ndarray, np.ndarray]]
    counts: np.ndarray


def problem_of(
    name: str, fields: Fields, arrays: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Problem:
    """A problem with these arrays, and its counts."""
    counts = np.bincount(arrays["train"][0].ravel(), minlength=fields.num_features)
    return Problem(name, fields, arrays, counts)


def write(problem: Problem, folder: pathlib.Path) -> None:
    """Write a problem into a folder that is not there yet, whole or not at all.

    It holds ``SPLIT_ids.npy`` and ``SPLIT_labels.npy`` of each split, and ``fields.json``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as made:
        inside = pathlib.Path(made) / folder.name
        inside.mkdir()
        for split, (ids, labels) in problem.arrays.items():
            np.save(inside / f"{split}_ids.npy", ids.astype(np.int32))
            np.save(inside / f"{split}_labels.npy", labels.astype(np.float32))
        fields = {"names": problem.fields.names, "sizes": problem.fields.sizes}
        (inside / _FIELDS).write_text(json.dumps(fields) + "\n", encoding="utf-8")
        os.replace(inside, folder)


def read(folder: pathlib.Path) -> Problem:
    """A problem that was written; its arrays are mapped, not read.

    Raises:
      InputError: the folder does not hold one.
    """
    try:
        fields = json.loads((folder / _FIELDS).read_text(encoding="utf-8"))
        arrays = {
            split: (
                np.load(folder / f"{split}_ids.npy", mmap_mode="r", allow_pickle=False),
                np.load(folder / f"{split}_labels.npy", mmap_mode="r", allow_pickle=False),
            )
            for split in SPLITS
        }
        return problem_of(
            folder.name, Fields(tuple(fields["names"]), tuple(fields["sizes"])), arrays
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder} holds no data set ({error}); delete it, and it is made again"
        ) from error
