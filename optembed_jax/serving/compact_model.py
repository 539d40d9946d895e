"""The compact model: the compact table, and the backbone without what read the rest.

It is a model like any other. Stored, it has an array for each field (:func:`compact`); trained,
fields of like width share one (:func:`keep`), and the training step and the loop take its
:class:`StackReading` where the full model has its ``Selection``. Training it equals training with
masks, on arrays as small as the artifact.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.models.autoint import fold_idle_fields
from optembed_jax.models.dcn import fold_idle
from optembed_jax.models.finalmlp import STREAMS, gate_of
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.own_backbone import OWN
from optembed_jax.models.params import Params, check_network
from optembed_jax.models.selection import check_table
from optembed_jax.models.whole_batch import EPSILON
from optembed_jax.serving.kept_network import shrink, write_back
from optembed_jax.table.compact import CompactIndex, compact_table
from optembed_jax.table.cutting import Cutting
from optembed_jax.table.stack_cut import keep_in_stacks, put_back
from optembed_jax.table.stacks import StackReading

STATISTICS = "statistics"
"""Beside the parameters of a served backbone of one's own."""


def compact(
    config: ModelConfig,
    params: Params,
    fields: Fields,
    rows: np.ndarray | None = None,
    dims: np.ndarray | None = None,
) -> tuple[Params, CompactIndex]:
    """Cut a model to a frozen row mask and frozen dimensions. Batch statistics stay as they are.

    The logits are those of the masked model up to rounding, in training and in evaluation. Kernel
    rows that only ever met zeros are gone; those of DCN's pruned columns, which meet constants, and
    of AutoInt's pruned fields are kept aside (:class:`models.DCN`, :class:`models.AutoInt`). A
    backbone of one's own keeps its full width, and reads zeros for what is gone. Thresholds are
    gone: the mask is frozen.

    Args:
      config: the model.
      params: its parameters, trained or initial.
      fields: the data set's fields.
      rows: bool ``[V]``, rows kept; None keeps all.
      dims: int ``[F]``, columns kept, each in 0..``D``; None keeps all.

    Returns:
      The parameters, with a :class:`CompactTable` and the smaller network, and the index.

    Raises:
      InputError: a table, a network, a mask or dims that do not fit, or parameters that are compact
        already.
    """
    if not isinstance(params.table, Table):
        raise InputError("the parameters are compact already")
    check_table(config, params.table, fields)
    check_network(config, params, fields)
    table, index = compact_table(params.table, fields, _cutting(config, rows, dims))
    network = shrink(config, params.network, index.dims, index.fields_with_columns)
    return Params(table=table, thresholds=None, network=network), index


def _cutting(config: ModelConfig, rows: np.ndarray | None, dims: np.ndarray | None) -> Cutting:
    """How the table of a model is cut, in both compact forms."""
    return Cutting(
        rows,
        dims,
        prunes_linear=config.mode_linear == "prune",
        shares_stand_in=config.shares_stand_in and rows is not None,
        pooling=config.pooling,
    )


def keep(
    config: ModelConfig,
    params: Params,
    fields: Fields,
    rows: np.ndarray | None = None,
    dims: np.ndarray | None = None,
) -> tuple[Params, StackReading]:
    """Cut a model as :func:`compact` does, to be trained: its table is ``Stacks``, on the host.

    Args:
      config: the model.
      params: its parameters, of a full table.
      fields: the data set's fields.
      rows: bool ``[V]``, rows kept; None keeps all.
      dims: int ``[F]``, columns kept, each in 0..``D``; None keeps all.

    Returns:
      The parameters, and how ids read them.

    Raises:
      InputError: a table, a network, a mask or dims that do not fit.
    """
    check_table(config, params.table, fields)
    check_network(config, params, fields)
    table, reading = keep_in_stacks(params.table, fields, _cutting(config, rows, dims))
    network = shrink(config, params.network, reading.dims, reading.order)
    return Params(table=table, thresholds=None, network=network), reading


def expand(
    config: ModelConfig, small: Params, reading: StackReading, fields: Fields, full: Params
) -> Params:
    """Put parameters that were trained compact back into full ones: the inverse of :func:`keep`.

    The masked model with the result gives the compact model's logits, so that what was trained
    compact can be kept and compared in the full form.

    Args:
      config: the model.
      small: as :func:`keep` made them, and trained.
      reading: theirs.
      fields: the data set's fields.
      full: where they go, such as the parameters that were cut; what was pruned keeps its values
        from here.
    """
    network = expand_network(config, small.network, reading, full.network)
    table = put_back(small.table, reading, fields, full.table)
    return Params(table=table, thresholds=full.thresholds, network=network)


def shrink_network(config: ModelConfig, network: Any, reading: StackReading) -> Any:
    """What :func:`keep` leaves of a full network, or of moments in its structure."""
    return shrink(config, network, reading.dims, reading.order)


def expand_network(config: ModelConfig, small: Any, reading: StackReading, full: Any) -> Any:
    """A full network, or moments in its structure, with a compact one's numbers in their places."""
    # Where each number of the compact network came from: the same cut, of positions.
    positions = jax.tree.map(
        lambda leaf: np.arange(leaf.size, dtype=np.int64).reshape(leaf.shape), full
    )
    return write_back(full, small, shrink_network(config, positions, reading))


def fold_for_serving(params: Params, batch_stats: Any) -> Params:
    """Compact parameters with all constants summed up; they can be served, not trained further.

    Batch normalisation by running statistics is a factor and a summand of each unit, a gate a
    factor of each input: they go into the kernel and the bias. Statistics of a backbone of one's
    own stand beside its parameters. On the host, as the cut is.
    """
    if OWN in params.network:
        beside = {STATISTICS: batch_stats} if batch_stats else {}
        return dataclasses.replace(params, network={**params.network, **beside})
    whole, batch_stats = jax.tree.map(np.asarray, (dict(params.network), batch_stats))
    # What is not finite, whoever stores it refuses, by name.
    with np.errstate(all="ignore"):
        network = fold_idle_fields(fold_idle(whole))
        if "mlp" in network:
            network["mlp"] = _folded(network["mlp"], batch_stats["mlp"])
        for name in (name for name in STREAMS if name in network):
            mlp = _folded(network[name]["mlp"], batch_stats[name]["mlp"])
            first = mlp["Dense_0"]["kernel"] * np.asarray(gate_of(network[name]))[:, None]
            mlp["Dense_0"] = {**mlp["Dense_0"], "kernel": first}
            network[name] = {"mlp": mlp}
    return dataclasses.replace(params, network=network)


def _folded(mlp: Mapping[str, Any], batch_stats: Mapping[str, Any]) -> dict[str, Any]:
    """A perceptron whose normalisations are in its kernels and biases."""
    layers = {}
    for name in (n for n in mlp if n.startswith("Dense_")):
        dense, norm = mlp[name], name.replace("Dense", "BatchNorm")
        of_norm, stats = mlp[norm], batch_stats[norm]
        factor = of_norm["scale"] / np.sqrt(stats["var"] + np.float32(EPSILON))
        layers[name] = {
            "kernel": dense["kernel"] * factor,
            "bias": (dense["bias"] - stats["mean"]) * factor + of_norm["bias"],
        }
    return layers


def with_norms(network: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A folded network as the backbone expects it: normalisations and gates that change nothing.

    Returns:
      The network, and batch statistics.
    """
    if OWN in network:
        parameters = {name: value for name, value in network.items() if name != STATISTICS}
        return parameters, network.get(STATISTICS, {})
    whole, statistics = dict(network), {}
    if "mlp" in network:
        whole["mlp"], statistics["mlp"] = _unfolded(network["mlp"])
    for name in (name for name in STREAMS if name in network):
        mlp, of_mlp = _unfolded(network[name]["mlp"])
        gate = jnp.zeros(jnp.shape(mlp["Dense_0"]["kernel"])[:1])
        whole[name], statistics[name] = {"mlp": mlp, "gate": gate}, {"mlp": of_mlp}
    return whole, statistics


def _unfolded(mlp: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    layers, statistics = dict(mlp), {}
    for name, dense in mlp.items():
        units, norm = jnp.shape(dense["bias"]), name.replace("Dense", "BatchNorm")
        layers[norm] = {"scale": jnp.ones(units), "bias": jnp.zeros(units)}
        statistics[norm] = {"mean": jnp.zeros(units), "var": jnp.full(units, 1 - EPSILON)}
    return layers, statistics


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays in a tree, such as the parameters of a network."""
    return sum(int(leaf.nbytes) for leaf in jax.tree.leaves(tree))
