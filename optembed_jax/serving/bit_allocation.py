"""How many bits each part of a model gets: the least harm for each byte that is saved.

Each part (the rows of a field, the linear weights, a kernel) is tried in each storage alone, and
what that does to the logits is measured: their mean squared change over some rows. Small changes by
different parts nearly add up, so the best allocation for any size is on a path: all parts begin in
their finest storage, and step by step the one gives up bytes that loses least for each of them
(the edges of each part's lower convex hull, in the order of their slopes; Shoham and Gersho, 1988).
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.serving import network_storage
from optembed_jax.serving.compact_model import with_norms
from optembed_jax.serving.stored_model import Storage, StoredModel, served_network, store
from optembed_jax.table.compact import CompactIndex, CompactTable, restore_linear
from optembed_jax.table.packing import INT_STORAGES
from optembed_jax.table.quantize import restore_rows

ROW_STORAGES = ("float16", *INT_STORAGES)
LINEAR = ("float16", "int8")
KERNELS = ("float16", "int8", "int6", "int4")


@dataclasses.dataclass(frozen=True)
class Option:
    """A storage of one part.

    Attributes:
      storage: its name.
      size: bytes.
      harm: mean squared change of the logits.
    """

    storage: str
    size: int
    harm: float


def path(parts: Mapping[str, Sequence[Option]]) -> Iterator[dict[str, str]]:
    """The storages of all parts by name, from the least harm to the least bytes.

    Args:
      parts: the options of each.
    """
    edges: list[tuple[float, int, str, str]] = []
    chosen = {}
    for name, options in parts.items():
        hull = _hull(options)
        chosen[name] = hull[0].storage
        for before, after in itertools.pairwise(hull):
            slope = (after.harm - before.harm) / (before.size - after.size)
            edges.append((slope, len(edges), name, after.storage))
    yield dict(chosen)
    for _, _, name, storage in sorted(edges):
        chosen[name] = storage
        yield dict(chosen)


def _hull(options: Sequence[Option]) -> list[Option]:
    """The lower convex hull, the largest first: harm rises ever faster as bytes fall."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda o: (o.size, o.harm)):
        if hull and option.harm >= hull[-1].harm:
            continue  # Larger, and no better.
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull[::-1]


def _slope(small: Option, large: Option) -> float:
    """What a byte more is worth between the two."""
    return (small.harm - large.harm) / (large.size - small.size)


def storages(choice: Mapping[str, str], num_fields: int) -> Storage:
    """What :func:`path` chose, as a storage; of a field without columns float32."""
    return Storage(
        rows=tuple(choice.get(f"rows/{field}", "float32") for field in range(num_fields)),
        linear=choice.get("linear", "float32"),
        kernels={
            name.removeprefix("kernel/"): storage
            for name, storage in choice.items()
            if name.startswith("kernel/")
        },
    )


def measured(
    config: ModelConfig,
    params: Params,
    batch_stats: Any,
    index: CompactIndex,
    ids: np.ndarray,
    weights: np.ndarray | None = None,
) -> dict[str, list[Option]]:
    """The options of each part of a compact model.

    Args:
      config: the model.
      params: compact, in float32.
      batch_stats: its running batch statistics.
      index: of the compact table.
      ids: int32 ``[N, F]``, rows over which the logits are compared.
      weights: float ``[N]``, how much each counts; None counts all alike.

    Returns:
      Of ``rows/f`` of each field with columns, ``linear``, and ``kernel/...`` of the network.
    """
    network = served_network(params, batch_stats)
    logits_of = _logits_of(config, index, ids)
    exact = logits_of(params.table, network)

    def harm(table: CompactTable, net: Mapping[str, np.ndarray]) -> float:
        return float(np.average(np.square(logits_of(table, net) - exact), weights=weights))

    def of(storage: Storage) -> StoredModel:
        return store(params, batch_stats, index, storage)

    plain, found = ("float32",) * len(index.dims), {}
    everything = {
        kind: of(Storage(rows=(kind,) * len(index.dims))).table.rows for kind in ROW_STORAGES
    }
    for place, field in enumerate(index.fields_with_columns):
        options = []
        for kind, stored_rows in everything.items():
            rows = list(params.table.rows)
            rows[place] = restore_rows(stored_rows[place])
            table = dataclasses.replace(params.table, rows=tuple(rows))
            options.append(Option(kind, int(stored_rows[place].nbytes), harm(table, network)))
        found[f"rows/{field}"] = options
    if params.table.linear is not None:
        found["linear"] = []
        for kind in LINEAR:
            stored = of(Storage(plain, linear=kind)).table
            arrays = (stored.linear, stored.linear_scale)
            size = sum(array.nbytes for array in arrays if array is not None)
            table = dataclasses.replace(params.table, linear=restore_linear(stored, index))
            found["linear"].append(Option(kind, int(size), harm(table, network)))
    for name in network_storage.kernels_of(network):
        found[f"kernel/{name}"] = []
        for kind in KERNELS:
            model = of(Storage(plain, kernels={name: kind}))
            size = sum(
                model.network[n].nbytes
                for n in (name, name + network_storage.SCALE)
                if n in model.network
            )
            option = Option(kind, size, harm(params.table, model.restored_network()))
            found[f"kernel/{name}"].append(option)
    return found


def _logits_of(
    config: ModelConfig, index: CompactIndex, ids: np.ndarray
) -> Callable[[CompactTable, Mapping[str, np.ndarray]], np.ndarray]:
    """Logits float32 ``[N]`` of a table and a network in float32: one program for all of them."""

    @jax.jit
    def logits(table: CompactTable, network: Any) -> jax.Array:
        whole, batch_stats = with_norms(network)
        params = Params(table=table, thresholds=None, network=whole)
        return forward(config, params, batch_stats, jnp.asarray(ids), index)[0]

    def of(table: CompactTable, network: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(logits(table, traverse_util.unflatten_dict(dict(network), sep="/")))

    return of
