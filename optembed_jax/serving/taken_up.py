"""A bundle as the beginning of a training: at full width again, with a network that can be trained.

What is served is less than what was trained: rows and columns are cut, normalisations and gates are
in the kernels, what pruned columns of DCN and pruned fields of AutoInt came to is summed up. Before
its first step the model that is made here gives the logits that the bundle gives. What it has
beside them is not what was trained before:

* Kernels that read pruned columns are fresh: they read zeros, and must not be zeros themselves, or
  neither would ever move. Backbones without such kernels need more: ``carry.with_columns_begun``.
* A normalisation goes by what the units are on rows of the new log (:func:`measured`). Its kernel
  is brought to the size that a fresh one has, unit by unit, as steps of one size move a kernel by
  what they are of it.
* Gates are 1; cross layers of DCN have of all biases of pruned columns that come to the same the
  least ones; fields of AutoInt without columns share alike what is read of all of them.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import traverse_util

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.bag import bags_of
from optembed_jax.method.embedding import Table
from optembed_jax.models.autoint import IDLE
from optembed_jax.models.finalmlp import STREAMS
from optembed_jax.models.forward import embed
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.network import backbone
from optembed_jax.models.own_backbone import OWN
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Selection
from optembed_jax.models.whole_batch import EPSILON, BatchNorm
from optembed_jax.serving.bundle_content import Content, network_of
from optembed_jax.serving.bundle_manifest import why_no_plain_tables
from optembed_jax.serving.compact_model import with_norms
from optembed_jax.serving.forward_module import fields_of
from optembed_jax.serving.kept_network import shrink, write_back
from optembed_jax.serving.stored_rows import numbers, stored_rows


def check_whole_rows(path: pathlib.Path, content: Content) -> None:
    """Refuse a bundle of which no table of rows can be made.

    Raises:
      InputError: values share rows, or rows are stored as single numbers.
    """
    reason = why_no_plain_tables(content.manifest)
    if reason is not None:
        raise InputError(f"{path}: {reason}, and a training begins with whole rows, one a value")


def full_table(content: Content, latent_dim: int) -> Table:
    """What each id of a bundle reads, as a table of full width, on the host.

    Columns behind a field's dimension are zeros. OOV vectors are what unseen values read.

    Args:
      content: of the bundle, of whole rows (:func:`check_whole_rows`).
      latent_dim: ``D``.
    """
    stored, described = stored_rows(content), content.manifest["fields"]
    fields = fields_of(described)
    rows: Any = np.zeros((fields.num_features, latent_dim), np.float32)
    linear: Any = _linear(content)
    for number, field in enumerate(described):
        block = slice(fields.offsets[number], fields.offsets[number] + field["ids"])
        if field["dim"]:
            own = numbers(stored, number)
            rows[block, : field["dim"]] = own[_places(content, number)]
    return Table(rows, linear, rows[fields.oov_ids])


def _places(content: Content, number: int) -> np.ndarray:
    """The row of each of a field's ids."""
    ids = content.manifest["fields"][number]["ids"]
    return content.tensors.get(f"remap/{number}", np.arange(ids))


def _linear(content: Content) -> np.ndarray | None:
    """The linear weight of each id, float32 ``[V]``."""
    if "linear" not in content.tensors:
        return None
    described, stored = content.manifest["fields"], content.tensors["linear"]
    is_by_id = content.manifest["linear_by_id"]
    sizes = [field["ids" if is_by_id else "rows"] for field in described]
    if content.types["linear"] == "BF16":
        stored = stored.view(ml_dtypes.bfloat16)
    weights = stored.astype(np.float32)
    if "linear_scale" in content.tensors:
        weights *= np.repeat(content.tensors["linear_scale"].astype(np.float32), sizes)
    parts = np.split(weights, np.cumsum(sizes)[:-1])
    if not is_by_id:
        parts = [part[_places(content, number)] for number, part in enumerate(parts)]
    return np.concatenate(parts)


def has_own_row(content: Content) -> np.ndarray:
    """Which ids of a bundle have a row that no other id reads, or are their field's first: ``[V]``.

    The others are values that were pruned, in a bundle that holds all of them.
    """
    found = []
    for number in range(len(content.manifest["fields"])):
        places = _places(content, number)
        alone = np.bincount(places)[places] == 1
        alone[0] = True
        found.append(alone)
    return np.concatenate(found)


def full_network(
    key: jax.Array, config: ModelConfig, content: Content
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A bundle's network as the full model has it.

    Args:
      key: PRNG key, of what is fresh.
      config: the model.
      content: of the bundle.

    Returns:
      Parameters and batch statistics; those of a perceptron are yet to be :func:`measured`.
    """
    manifest = content.manifest
    dims = [field["dim"] for field in manifest["fields"]]
    order = [field for field, dim in enumerate(dims) if dim]
    network, statistics = with_norms(
        traverse_util.unflatten_dict(network_of(manifest, content.tensors), sep="/")
    )
    if OWN in network:
        return network, statistics
    embedded = jnp.zeros((2, len(dims), config.latent_dim), jnp.float32)
    linear = jnp.zeros((2,), jnp.float32) if config.has_linear_term else None
    fresh = backbone(config).init(key, embedded, linear, train=False).get("params", {})
    for within in _perceptrons(network):
        mlp = _at(network, within)
        mlp.update(_of_fresh_size(mlp, _at(fresh, within)))
    left = shrink(config, fresh, dims, order)
    if "idle" in left:
        network = _with_idle_columns(network, left["idle"])
    if IDLE in left:
        idle = len(dims) - len(order)
        network[IDLE] = {"kernel": jnp.tile(network[IDLE]["kernel"] / idle, (idle, 1))}
    positions = jax.tree.map(
        lambda leaf: np.arange(leaf.size, dtype=np.int64).reshape(leaf.shape), fresh
    )
    return write_back(fresh, network, shrink(config, positions, dims, order)), statistics


def measured(
    config: ModelConfig,
    params: Params,
    batch_stats: Any,
    fields: Fields,
    ids: np.ndarray,
    weights: np.ndarray,
) -> tuple[Any, Any]:
    """Network and batch statistics whose normalisations go by what units are on some rows.

    In evaluation nothing changes. In training a unit is brought to mean 0 and variance 1 by its
    batch, and scale and shift make of that what it was.

    Args:
      config: the model.
      params: full, on the host.
      batch_stats: its running statistics.
      fields: of the table.
      ids: int32 ``[N, F]`` as the model reads them, of training rows.
      weights: float ``[N]``, how much a row counts.
    """
    within = _perceptrons(params.network)
    if not within:
        return params.network, batch_stats
    slots, beside = np.split(ids, [fields.num_slots], axis=1)
    own = np.unique(slots)
    own = own[own < fields.num_features]  # Above are slots without a value.
    table = Table(
        np.asarray(params.table.rows)[own],
        None if params.table.linear is None else np.asarray(params.table.linear)[own],
    )
    places = np.searchsorted(own, slots).astype(np.int32)
    bags = bags_of(fields, config.pooling)
    selection = Selection(
        bags=None if bags is None else dataclasses.replace(bags, features=len(own))
    )
    config = config.in_float32
    few = dataclasses.replace(params, table=table)

    @jax.jit
    def units(params: Params, ids: jax.Array, batch_stats: Any) -> Any:
        embedded, linear = embed(config, params, ids, selection)
        _, found = backbone(config).apply(
            {"params": params.network, "batch_stats": batch_stats},
            embedded,
            linear,
            train=False,
            capture_intermediates=lambda module, _: isinstance(module, BatchNorm),
            mutable=["intermediates"],
        )
        return found["intermediates"]

    seen = jax.device_get(units(few, np.concatenate([places, beside], axis=1), batch_stats))
    network, statistics = (_copied(tree) for tree in (params.network, batch_stats))
    for path in within:
        for name, told in _at(seen, path).items():
            (values,) = told["__call__"]
            values = values.astype(np.float64)
            norm = _at(network, path)[name]
            mean = np.average(values, axis=0, weights=weights)
            var = np.average(np.square(values - mean), axis=0, weights=weights)
            size = np.asarray(norm["scale"], np.float64)  # Of a norm that changed nothing else.
            of_norm = {"scale": size * np.sqrt(var / size**2 + EPSILON), "bias": mean}
            of_stats = {"mean": mean / size, "var": var / size**2}
            _at(network, path)[name] = _as_float32(of_norm)
            _at(statistics, path)[name] = _as_float32(of_stats)
    return network, statistics


def _perceptrons(network: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Where a network has perceptrons with normalisations."""
    paths = [("mlp",), *((name, "mlp") for name in STREAMS)]
    return [path for path in paths if path[0] in network and path[-1] in _at(network, path[:-1])]


def _at(tree: Any, path: Sequence[str]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _copied(tree: Any) -> Any:
    """The same arrays in dicts of their own."""
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in tree.items()}


def _as_float32(arrays: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    return {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}


def _of_fresh_size(mlp: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """A perceptron whose kernels have the size of fresh ones, and norms that make up for it."""
    layers = {}
    for name in (name for name in mlp if name.startswith("Dense_")):
        dense, norm = mlp[name], name.replace("Dense", "BatchNorm")
        kernel = np.asarray(dense["kernel"], np.float64)
        wanted = np.sqrt(2 / sum(fresh[name]["kernel"].shape))  # Xavier's.
        size = np.sqrt(np.square(kernel).sum(axis=0) / max(len(kernel), 1)) / wanted
        size[size == 0] = 1.0
        layers[name] = _as_float32(
            {"kernel": kernel / size, "bias": np.asarray(dense["bias"], np.float64) / size}
        )
        layers[norm] = {**mlp[norm], "scale": jnp.asarray(size, jnp.float32)}
    return layers


def _with_idle_columns(network: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """A compact DCN with parameters of pruned columns: the inverse of ``dcn.fold_idle``.

    Weights are fresh; of the biases that come to what was summed up, layer by layer the least.
    """
    offsets = np.asarray(network["cross_offset"], np.float64)
    weight, kernel = (np.asarray(fresh[name], np.float64) for name in ("weight", "kernel"))
    biases, total = np.zeros_like(weight), np.zeros(weight.shape[1])
    for layer in range(len(offsets) - 1):
        ahead = weight[layer + 1]
        biases[layer] = (offsets[layer + 1] - total @ ahead) / (ahead @ ahead) * ahead
        total += biases[layer]
    logit = network["logit"]["Dense_0"]
    shift = jnp.asarray(total @ kernel[:, 0], jnp.float32)
    return {
        **{name: value for name, value in network.items() if name != "cross_offset"},
        "logit": {"Dense_0": {**logit, "bias": logit["bias"] - shift}},
        "idle": {**_as_float32({"bias": biases}), "weight": fresh["weight"], "kernel": kernel},
    }
