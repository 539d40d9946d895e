"""The backbones in NumPy: the formulas of ``optembed_jax.models`` again, for folded networks.

A backbone that is not named here is refused: ``bundle.Bundle`` serves it.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Read:
    """What a batch reads of a table.

    Attributes:
      flat: float32 ``[N, sum(dims)]``, field by field.
      runs: of each run of neighbours that have ``d`` columns each: how many, and ``d``; fields
        without columns are in none.
      linear: the linear term float32 ``[N]``; None for a backbone without.
      num_fields: ``F``, those without columns too.
    """

    flat: np.ndarray
    runs: Sequence[tuple[int, int]]
    linear: np.ndarray | None
    num_fields: int

    @property
    def count(self) -> int:
        """Examples, ``N``."""
        return len(self.flat)

    @functools.cached_property
    def parts(self) -> list[np.ndarray]:
        """Float32 ``[N, k, d]`` of each run, views of ``flat``."""
        ends = itertools.accumulate(k * d for k, d in self.runs)
        return [
            self.flat[:, end - k * d : end].reshape(self.count, k, d)
            for (k, d), end in zip(self.runs, ends, strict=True)
        ]

    @property
    def padded(self) -> np.ndarray:
        """Float32 ``[N, k, max(dims)]`` of the fields with columns, zeros behind those of each."""
        width = max((part.shape[2] for part in self.parts), default=0)
        padded = [np.pad(p, ((0, 0), (0, 0), (0, width - p.shape[2]))) for p in self.parts]
        return np.concatenate([np.zeros((self.count, 0, width), np.float32), *padded], axis=1)


Backbone = Callable[[Read], np.ndarray]
"""What a batch reads to logits float32 ``[N]``."""


def backbone_of(model: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Backbone:
    """The forward pass behind the lookup.

    Args:
      model: the manifest's.
      tensors: as they are served; those of the network are named ``network/...``.

    Raises:
      InputError: NumPy has no such backbone.
    """
    name = model["model"]
    if ":" in name:
        raise InputError(f"{name} is a backbone of its user's own: bundle.Bundle serves it, in JAX")
    if name not in _BACKBONES:
        raise InputError(f"there is no model {name!r} in NumPy, only {', '.join(_BACKBONES)}")
    return _BACKBONES[name](_Network(tensors, len(model["mlp_dims"])))


@dataclasses.dataclass(frozen=True)
class _Network:
    """A folded network's layers.

    Attributes:
      tensors: by name.
      depth: hidden layers.
    """

    tensors: Mapping[str, np.ndarray]
    depth: int

    def dense(self, x: np.ndarray, name: str) -> np.ndarray:
        kernel, bias = (self.tensors[f"network/{name}/{n}"] for n in ("kernel", "bias"))
        return x @ kernel + bias

    def mlp(self, x: np.ndarray, within: str = "") -> np.ndarray:
        for layer in range(self.depth):
            x = np.maximum(self.dense(x, f"{within}mlp/Dense_{layer}"), 0)
        return x

    def kernel(self, name: str) -> np.ndarray:
        return self.tensors[f"network/{name}/kernel"]

    def logit(self, x: np.ndarray) -> np.ndarray:
        return self.dense(x, "logit/Dense_0")[:, 0]


def _of_fm(network: _Network) -> Backbone:
    def logits(read: Read) -> np.ndarray:
        assert read.linear is not None
        total: np.ndarray = network.tensors["network/bias"] + read.linear + _fm(read)
        return total

    return logits


def _of_fnn(network: _Network) -> Backbone:
    return lambda read: network.logit(network.mlp(read.flat))


def _of_deepfm(network: _Network) -> Backbone:
    def logits(read: Read) -> np.ndarray:
        assert read.linear is not None
        total: np.ndarray = network.logit(network.mlp(read.flat)) + read.linear + _fm(read)
        return total

    return logits


def _of_ipnn(network: _Network) -> Backbone:
    def logits(read: Read) -> np.ndarray:
        return network.logit(network.mlp(np.concatenate([read.flat, _products(read)], axis=1)))

    return logits


def _of_dcn(network: _Network) -> Backbone:
    def logits(read: Read) -> np.ndarray:
        weights, biases = (network.tensors[f"network/cross_{n}"] for n in ("weight", "bias"))
        offsets = network.tensors.get("network/cross_offset", np.zeros(len(weights), np.float32))
        x0 = x = read.flat
        for weight, bias, offset in zip(weights, biases, offsets, strict=True):
            x = x0 * (x @ weight + offset)[:, None] + bias + x
        return network.logit(np.concatenate([x, network.mlp(x0)], axis=1))

    return logits


def _of_dcnv2(network: _Network) -> Backbone:
    def logits(read: Read) -> np.ndarray:
        x0 = x = read.flat
        for layer in itertools.count():
            if f"network/cross_{layer}/kernel" not in network.tensors:
                break
            x = x0 * network.dense(x, f"cross_{layer}") + x
        return network.logit(np.concatenate([x, network.mlp(x0)], axis=1))

    return logits


def _of_autoint(network: _Network) -> Backbone:
    def logits(read: Read) -> np.ndarray:
        x = read.padded
        kept, idle = x.shape[1], read.num_fields - x.shape[1]
        if idle:
            # One for all fields without columns, which are zeros.
            x = np.pad(x, ((0, 0), (0, 1), (0, 0)))
        for layer in itertools.count():
            if f"network/attention_{layer}/residual/kernel" not in network.tensors:
                break
            x = _interact(network, f"attention_{layer}", x, idle)
        flat = x[:, :kept].reshape(read.count, -1)
        if network.depth:
            flat = np.concatenate([flat, network.mlp(read.flat)], axis=1)
        found = network.logit(flat)
        if idle:
            found = found + (x[:, -1] @ network.kernel("idle_fields"))[:, 0]
        return found

    return logits


def _interact(network: _Network, layer: str, x: np.ndarray, idle: int) -> np.ndarray:
    """An interacting layer ``[N, T, K]`` to ``[N, T, H]``; the last of ``T`` counts ``idle`` times,
    unless that is 0.
    """
    heads = []
    for head in itertools.count():
        if f"network/{layer}/query_{head}/kernel" not in network.tensors:
            break
        query, key, value = (
            x @ network.kernel(f"{layer}/{part}_{head}") for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1)
        scores = np.exp(scores - scores.max(axis=2, keepdims=True))
        if idle:
            scores[:, :, -1] *= idle
        heads.append((scores / scores.sum(axis=2, keepdims=True)) @ value)
    mixed = np.concatenate(heads, axis=2) + x @ network.kernel(f"{layer}/residual")
    return np.maximum(mixed, 0)


def _of_dlrm(network: _Network) -> Backbone:
    return lambda read: network.logit(network.mlp(_products(read)))


def _of_finalmlp(network: _Network) -> Backbone:
    def logits(read: Read) -> np.ndarray:
        first, second = (network.mlp(read.flat, f"stream_{n}/") for n in range(2))
        fused = ((first @ network.kernel("fusion")) * second).sum(axis=1)
        total: np.ndarray = network.logit(np.concatenate([first, second], axis=1)) + fused
        return total

    return logits


_BACKBONES: Mapping[str, Callable[[_Network], Backbone]] = {
    "fm": _of_fm,
    "fnn": _of_fnn,
    "deepfm": _of_deepfm,
    "ipnn": _of_ipnn,
    "dcn": _of_dcn,
    "dcnv2": _of_dcnv2,
    "autoint": _of_autoint,
    "dlrm": _of_dlrm,
    "finalmlp": _of_finalmlp,
}


def _fm(read: Read) -> np.ndarray:
    """The FM interaction ``[N]``; fields of dims ``d`` and ``e`` share ``min(d, e)`` columns."""
    width = max((rows.shape[2] for rows in read.parts), default=0)
    total = np.zeros((read.count, width), np.float32)
    for rows in read.parts:
        total[:, : rows.shape[2]] += rows[:, 0] if rows.shape[1] == 1 else rows.sum(axis=1)
    each = np.einsum("nc,nc->n", read.flat, read.flat)  # No array of all squares.
    return 0.5 * (np.square(total).sum(axis=1) - each)


def _products(read: Read) -> np.ndarray:
    """Inner products of all pairs of fields ``[N, P]``, in their order."""
    dense = read.padded
    first, second = np.triu_indices(dense.shape[1], 1)
    products: np.ndarray = (dense @ dense.transpose(0, 2, 1))[:, first, second]
    return products
