"""AutoInt+: self-attention over the fields beside a perceptron (Song et al., CIKM 2019)."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.method.ragged import Ragged
from optembed_jax.models.layers import MLP, Embedded, Logit, flatten_fields, xavier_uniform

Kernels = Mapping[str, jax.Array]
"""Of an interacting layer by name: ``query_0``, ``key_0``, ``value_0`` of head 0, ``residual``."""

IDLE = "idle_fields"
"""Where a compact model has what the logit reads of fields without columns."""


class AutoInt(nn.Module):
    """Interacting layers ``relu(heads side by side + x W_res)``, each head ``softmax(Q K') V``.

    Scores are plain inner products and nothing has a bias, as in the paper (sections 4.3 and 4.4).
    One logit reads what the last layer gives of every field, and the perceptron beside it: that is
    the paper's AutoInt+; without hidden layers it is AutoInt.

    A field that was pruned away is a vector of zeros, and still a field: it asks all others alike,
    is listened to by ``exp(0)``, and is no zero any more behind the first layer. But all of them
    are one vector throughout. So a compact model carries one for all, which counts as often as
    there are fields without columns, and what the logit reads of each of them (``idle_fields``)
    until :func:`fold_idle_fields` has summed it up.

    Attributes:
      cross_layers: interacting layers.
      heads: of each layer.
      units: of each head.
      mlp_dims, dropout, batch_axis: as in :class:`layers.MLP`.
    """

    mlp_dims: Sequence[int]
    cross_layers: int = 3
    heads: int = 2
    units: int = 32
    dropout: float = 0.0
    batch_axis: BatchAxis | None = None

    @nn.compact
    def __call__(
        self,
        embedded: Embedded,
        linear: None = None,
        *,
        train: bool,
        weights: jax.Array | None = None,
    ) -> jax.Array:
        """``embedded`` ``[B, F, D]`` or ragged, to logits ``[B]``."""
        if isinstance(embedded, Ragged):
            x, idle = embedded.padded(), embedded.num_fields - len(embedded.dims)
        else:
            x, idle = embedded, 0
        kept = x.shape[1]
        if idle:
            x = jnp.pad(x, ((0, 0), (0, 1), (0, 0)))
        for layer in range(self.cross_layers):
            made = _Interacting(self.heads, self.units, name=f"attention_{layer}")
            x = interact(made(x.shape[-1]), x, idle)
        read = [x[:, :kept].reshape(x.shape[0], -1)]
        if self.mlp_dims:
            mlp = MLP(self.mlp_dims, self.dropout, self.batch_axis, name="mlp")
            read.append(mlp(flatten_fields(embedded), train=train, weights=weights))
        logits: jax.Array = Logit(name="logit")(jnp.concatenate(read, axis=-1))
        if not idle:
            return logits
        of_idle: Any = self.get_variable("params", IDLE)
        kernel = of_idle["kernel"].reshape(-1, x.shape[-1])
        return logits + x[:, -1].astype(jnp.float32) @ jnp.sum(kernel, axis=0)


class _Interacting(nn.Module):
    """The kernels of a layer, which reads vectors of some width."""

    heads: int
    units: int

    @nn.compact
    def __call__(self, width: int) -> dict[str, jax.Array]:
        names = [f"{part}_{head}" for head in range(self.heads) for part in PARTS]
        found = {name: _Kernel(self.units, name=name)(width) for name in names}
        found["residual"] = _Kernel(self.heads * self.units, name="residual")(width)
        return found


class _Kernel(nn.Module):
    """A kernel without a bias, by itself."""

    outputs: int

    @nn.compact
    def __call__(self, inputs: int) -> jax.Array:
        kernel: jax.Array = self.param("kernel", xavier_uniform, (inputs, self.outputs))
        return kernel


PARTS = ("query", "key", "value")


def kernels_of(network: Mapping[str, Any]) -> list[dict[str, jax.Array]]:
    """The kernels of each interacting layer of a network."""
    layers: list[dict[str, jax.Array]] = []
    while (name := f"attention_{len(layers)}") in network:
        layers.append({part: of["kernel"] for part, of in network[name].items()})
    return layers


def interact(kernels: Kernels, x: jax.Array, idle: int = 0) -> jax.Array:
    """An interacting layer.

    Args:
      kernels: of the layer; its heads are those that are named.
      x: float ``[B, T, K]``, a vector of each field.
      idle: as how many fields the last one counts; 0 where it is one like the others.

    Returns:
      ``[B, T, heads * units]`` in the dtype of ``x``; the softmax is float32 in any case.
    """
    kernels, heads = {name: kernel.astype(x.dtype) for name, kernel in kernels.items()}, []
    for head in itertools.count():
        if f"query_{head}" not in kernels:
            break
        query, key, value = (x @ kernels[f"{part}_{head}"] for part in PARTS)
        scores = jnp.einsum("bfu,bgu->bfg", query, key, preferred_element_type=jnp.float32)
        if idle:
            scores = scores.at[:, :, -1].add(jnp.log(jnp.float32(idle)))
        heads.append(jax.nn.softmax(scores, axis=-1).astype(x.dtype) @ value)
    return jax.nn.relu(jnp.concatenate(heads, axis=-1) + x @ kernels["residual"])


def width_of(network: Mapping[str, Any]) -> int:
    """How wide the vector of a field is behind the last interacting layer."""
    last = kernels_of(network)[-1]["residual"]
    return int(last.shape[1])


def fold_idle_fields(network: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a compact AutoInt for serving: what is read of idle fields is summed up."""
    if IDLE not in network:
        return dict(network)
    kernel = network[IDLE]["kernel"].reshape(-1, width_of(network))
    return {**network, IDLE: {"kernel": kernel.sum(axis=0)[:, None]}}
