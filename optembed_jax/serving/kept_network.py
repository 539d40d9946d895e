"""What a cut table leaves of each backbone's network: parameters that only ever met zeros are gone.

A backbone of the library that is not named here has no compact form, and says so. One's own reads
its input at full width (``models.own_backbone``), and keeps all it has.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from optembed_jax.errors import InputError
from optembed_jax.models.autoint import IDLE, width_of
from optembed_jax.models.backbone_name import is_own
from optembed_jax.models.finalmlp import STREAMS
from optembed_jax.models.model_config import ModelConfig


def columns_kept(dims: Sequence[int], latent_dim: int, order: Sequence[int]) -> np.ndarray:
    """The flat columns ``[F * D]`` that are left, int ``[sum(dims)]``, field after field."""
    parts = [field * latent_dim + np.arange(dims[field]) for field in order]
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)


def shrink(config: ModelConfig, network: Any, dims: Sequence[int], order: Sequence[int]) -> Any:
    """The backbone's parameters without what only ever met zeros, fields in another order.

    On the host: each cut has shapes of its own, for each of which JAX would compile programs.

    Args:
      config: the model.
      network: parameters of its backbone.
      dims: columns of each field that are kept, ``F``.
      order: the fields that have any, in the order in which the backbone will read them.

    Raises:
      InputError: nobody has written what is left of this backbone.
    """
    if is_own(config.model):
        return network
    if config.model not in _SHRINK:
        raise InputError(
            f"model {config.model!r} has no compact form: serving/kept_network.py has to say what "
            "a cut leaves of its network"
        )
    return _SHRINK[config.model](config, jax.tree.map(np.asarray, network), dims, order)


def write_back(full: Any, small: Any, cut: Any) -> Any:
    """Write each array of the compact network to the positions that it was cut from.

    Args:
      full: the network that was cut.
      small: what was left of it, trained.
      cut: what :func:`shrink` leaves of the positions of the full network's numbers.
    """
    idle_of = {
        "cross_weight": (("idle", "weight"),),
        "cross_bias": (("idle", "bias"),),
        "logit/Dense_0/kernel": (("idle", "kernel"), (IDLE, "kernel")),
    }
    flat, small, cut = (traverse_util.flatten_dict(tree) for tree in (full, small, cut))
    restored = {}
    for path, leaf in flat.items():
        whole = np.array(leaf)
        for source in (path, *idle_of.get("/".join(path), ())):
            if source in small:
                whole.reshape(-1)[np.asarray(cut[source]).reshape(-1)] = np.asarray(
                    small[source]
                ).reshape(-1)
        restored[path] = jax.device_put(whole)
    return traverse_util.unflatten_dict(restored)


def _unchanged(config: ModelConfig, network: Any, dims: Sequence[int], order: Sequence[int]) -> Any:
    """FM has no kernel."""
    del config, dims, order
    return network


def _of_columns(
    config: ModelConfig, network: Any, dims: Sequence[int], order: Sequence[int]
) -> Any:
    columns = columns_kept(dims, config.latent_dim, order)
    return _shrink_perceptron(network, columns, bool(config.mlp_dims))


def _of_columns_and_products(
    config: ModelConfig, network: Any, dims: Sequence[int], order: Sequence[int]
) -> Any:
    columns = columns_kept(dims, config.latent_dim, order)
    products = len(dims) * config.latent_dim + _pairs_kept(len(dims), order)
    inputs = np.concatenate([columns, products])
    return _shrink_perceptron(network, inputs, bool(config.mlp_dims))


def _of_products(
    config: ModelConfig, network: Any, dims: Sequence[int], order: Sequence[int]
) -> Any:
    return _shrink_perceptron(network, _pairs_kept(len(dims), order), bool(config.mlp_dims))


def _beside_cross_layers(config: ModelConfig, network: Any, columns: np.ndarray, flat: int) -> Any:
    """The perceptron, and the logit that reads it and what comes out of the cross layers."""
    hidden = columns if not config.mlp_dims else np.arange(config.mlp_dims[-1])
    shrunk = _take_kernel(network, "logit", np.concatenate([columns, flat + hidden]))
    return _shrink_perceptron(shrunk, columns, True) if config.mlp_dims else shrunk


def _of_dcn(config: ModelConfig, network: Any, dims: Sequence[int], order: Sequence[int]) -> Any:
    """Pruned columns meet the biases of the cross layers: what they need is kept aside."""
    columns, flat = columns_kept(dims, config.latent_dim, order), len(dims) * config.latent_dim
    shrunk = _beside_cross_layers(config, network, columns, flat)
    for name in ("cross_weight", "cross_bias"):
        shrunk[name] = network[name][:, columns]
    idle = np.setdiff1d(np.arange(flat), columns)
    if len(idle):
        shrunk["idle"] = {
            "weight": network["cross_weight"][:, idle],
            "bias": network["cross_bias"][:, idle],
            "kernel": network["logit"]["Dense_0"]["kernel"][idle],
        }
    return shrunk


def _of_dcnv2(config: ModelConfig, network: Any, dims: Sequence[int], order: Sequence[int]) -> Any:
    columns, flat = columns_kept(dims, config.latent_dim, order), len(dims) * config.latent_dim
    shrunk = _beside_cross_layers(config, network, columns, flat)
    return _shrink_matrices(shrunk, columns)


def _of_autoint(
    config: ModelConfig, network: Any, dims: Sequence[int], order: Sequence[int]
) -> Any:
    """Fields without columns are still asked: what the logit reads of them is kept aside."""
    width, hidden = width_of(network), config.mlp_dims[-1] if config.mlp_dims else 0
    read = columns_kept((width,) * len(dims), width, order)
    shrunk = _take_kernel(
        network, "logit", np.concatenate([read, len(dims) * width + np.arange(hidden)])
    )
    if config.mlp_dims:
        shrunk = _shrink_perceptron(shrunk, columns_kept(dims, config.latent_dim, order), True)
    widest = max((dims[field] for field in order), default=0)
    shrunk["attention_0"] = {
        name: {"kernel": layer["kernel"][:widest]} for name, layer in network["attention_0"].items()
    }
    idle = np.setdiff1d(np.arange(len(dims) * width), read)
    if len(idle):
        shrunk[IDLE] = {"kernel": network["logit"]["Dense_0"]["kernel"][idle]}
    return shrunk


def _of_finalmlp(
    config: ModelConfig, network: Any, dims: Sequence[int], order: Sequence[int]
) -> Any:
    columns = columns_kept(dims, config.latent_dim, order)
    streams = {
        name: {
            **_shrink_perceptron(network[name], columns, True),
            "gate": network[name]["gate"][columns],
        }
        for name in STREAMS
    }
    return {**network, **streams}


_SHRINK: Mapping[str, Callable[..., Any]] = {
    "fm": _unchanged,
    "fnn": _of_columns,
    "deepfm": _of_columns,
    "ipnn": _of_columns_and_products,
    "dcn": _of_dcn,
    "dcnv2": _of_dcnv2,
    "autoint": _of_autoint,
    "dlrm": _of_products,
    "finalmlp": _of_finalmlp,
}


def _shrink_perceptron(network: Mapping[str, Any], inputs: np.ndarray, hidden: bool) -> Any:
    """Keep some inputs of the first layer, which without hidden layers is the logit."""
    if not hidden:
        return _take_kernel(network, "logit", inputs)
    return {**network, "mlp": _take_kernel(network["mlp"], "Dense_0", inputs, nested=False)}


def _take_kernel(
    network: Mapping[str, Any], name: str, inputs: np.ndarray, nested: bool = True
) -> dict[str, Any]:
    layer = network[name]["Dense_0"] if nested else network[name]
    layer = {**layer, "kernel": layer["kernel"][inputs]}
    return {**network, name: {"Dense_0": layer} if nested else layer}


def _shrink_matrices(network: Mapping[str, Any], columns: np.ndarray) -> dict[str, Any]:
    """DCN-V2's cross layers: a pruned column stays zero through all of them."""
    cross = {
        name: {"kernel": layer["kernel"][np.ix_(columns, columns)], "bias": layer["bias"][columns]}
        for name, layer in network.items()
        if name.startswith("cross_")
    }
    return {**network, **cross}


def _pairs_kept(fields: int, order: Sequence[int]) -> np.ndarray:
    """Numbers of the pairs ``f < g`` of the fields that are left, in row-major order of these."""
    number = np.zeros((fields, fields), np.int64)
    first, second = np.triu_indices(fields, k=1)
    number[first, second] = number[second, first] = np.arange(len(first))
    left = np.asarray(order, np.int64)
    first, second = np.triu_indices(len(left), k=1)
    return number[left[first], left[second]]
