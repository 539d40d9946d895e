"""Candidates sharded over devices: each is scored by one of them, with its own copy of what it
reads.

The devices of a process work at the same time, and the processes tell each other what they found.
A candidate's logits are made from those of the one before it, and beside others they are rounded
otherwise: the fitness is that of one device but for rounding.

What a device needs of the table is the rows that the validation split reads, and no more.
"""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from optembed_jax.fitness.validation_fitness import ValidationFitness
from optembed_jax.models.params import Params
from optembed_jax.search.successive_halving import Fitness


def over_devices(
    make: Callable[[jax.Device], ValidationFitness], devices: Sequence[jax.Device]
) -> ValidationFitness:
    """A fitness that shards its candidates to devices, in consecutive shares.

    Args:
      make: the fitness on one device; what it reads has to be there.
      devices: of this process; every process has as many.

    Returns:
      The fitness, equal in all processes, which have to ask it about the same candidates.
    """
    of_each = [make(device) for device in devices]

    def sharded(part: Sequence[Fitness]) -> Fitness:
        return functools.partial(_sharded, tuple(part), tuple(devices))

    ablations = [f.without_linear for f in of_each if f.without_linear is not None]
    return ValidationFitness(
        tuple(map(sharded, zip(*(fitness.parts for fitness in of_each), strict=True))),
        of_each[0].part_rows,
        (lambda field: sharded([without(field) for without in ablations])) if ablations else None,
    )


def _sharded(
    of_each: Sequence[Fitness], devices: Sequence[jax.Device], dims: np.ndarray
) -> np.ndarray:
    """Fitness float64 ``[C]`` of candidates int32 ``[C, F]``."""
    processes, number = jax.process_count(), jax.process_index()
    shares = np.array_split(dims, processes * len(devices))
    own = shares[number * len(devices) : (number + 1) * len(devices)]

    def on(fitness: Fitness, device: jax.Device, share: np.ndarray) -> np.ndarray:
        with jax.default_device(device):
            return fitness(share)

    with concurrent.futures.ThreadPoolExecutor(len(devices)) as threads:
        found = np.concatenate(list(threads.map(on, of_each, devices, own)))
    if processes == 1:
        return found
    counts = [
        sum(len(share) for share in shares[first : first + len(devices)])
        for first in range(0, len(shares), len(devices))
    ]
    # Bytes, so that no float64 is made a float32.
    padded = np.pad(found, (0, max(counts) - len(found)))
    told = np.asarray(multihost_utils.process_allgather(padded.view(np.uint8)))
    every = np.ascontiguousarray(told.reshape(processes, -1)).view(np.float64)
    return np.concatenate([row[:count] for row, count in zip(every, counts, strict=True)])


def rows_read(
    params: Params, rows: np.ndarray | None, ids: np.ndarray, num_slots: int | None = None
) -> tuple[Params, np.ndarray | None, np.ndarray]:
    """The part of a frozen table that some ids read, and the ids in it.

    Args:
      params: with a table of ``V`` rows, on the host.
      rows: bool ``[V]``, the frozen row mask, or None.
      ids: int32 ``[N, F]``, of bags ``[N, S]``, which read ``U`` different rows; ``V``, which
        reads none, stays ``V``.
      num_slots: ``S`` where weights of values stand behind the ids, which stay as they are.

    Returns:
      Parameters with a table of ``U`` rows and no thresholds, the mask bool ``[U]`` or None, and
      ids int32 ``[N, F]``; they give what the arguments give.
    """
    table, whole = params.table, ids
    ids = ids[:, :num_slots]
    is_read = np.zeros(len(table.rows) + 1, bool)
    is_read[ids] = True
    is_read[-1] = False
    read = np.flatnonzero(is_read)
    place_of = np.cumsum(is_read, dtype=np.int32) - 1
    place_of[-1] = len(table.rows)
    small = dataclasses.replace(
        table,
        rows=np.asarray(table.rows)[read],
        linear=None if table.linear is None else np.asarray(table.linear)[read],
    )
    return (
        dataclasses.replace(params, table=small, thresholds=None),
        None if rows is None else rows[read],
        np.concatenate([place_of[ids], whole[:, ids.shape[1] :]], axis=1),
    )
