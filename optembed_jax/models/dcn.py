"""DCN: cross layers beside a perceptron (Wang et al., ADKDD 2017)."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models.layers import MLP, Embedded, Logit, flatten_fields, xavier_uniform


class DCN(nn.Module):
    """Cross layers ``x' = x0 (x . w) + b + x`` beside a perceptron.

    A column that was pruned is zero in ``x0`` but not in ``x``, where the biases add up. What it
    contributes is the same for every example, so a compact model carries it as parameters without
    a batch dimension: ``idle`` while it is trained, ``cross_offset`` once :func:`fold_idle` has
    summed it up.

    Attributes:
      cross_layers: how many; the paper's experiments here use 6.
      mlp_dims, dropout, batch_axis: as in :class:`layers.MLP`.
    """

    mlp_dims: Sequence[int]
    cross_layers: int = 6
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
        x0 = flatten_fields(embedded)
        width = (self.cross_layers, x0.shape[-1])
        kernels = self.param("cross_weight", xavier_uniform, width)
        biases = self.param("cross_bias", nn.initializers.zeros, width)
        offsets, shift = self._constants()
        x = x0
        for kernel, bias, offset in zip(kernels, biases, offsets, strict=True):
            along = jnp.dot(x, kernel.astype(x.dtype), preferred_element_type=jnp.float32)
            crossed = x0.astype(jnp.float32) * (along + offset)[:, None] + bias
            x = (crossed + x.astype(jnp.float32)).astype(x0.dtype)
        mlp = MLP(self.mlp_dims, self.dropout, self.batch_axis, name="mlp")
        hidden = mlp(x0, train=train, weights=weights)
        return Logit(name="logit")(jnp.concatenate([x, hidden], axis=-1)) + shift

    def _constants(self) -> tuple[jax.Array, jax.Array]:
        idle: Any = self.get_variable("params", "idle")
        if idle is not None:
            return idle_constants(idle)
        offsets: Any = self.get_variable("params", "cross_offset")
        none = jnp.zeros((self.cross_layers,), jnp.float32)
        return none if offsets is None else offsets, jnp.zeros((), jnp.float32)


def idle_constants(idle: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """What ``M`` pruned columns add to each layer's ``x . w``, and to the logit.

    Args:
      idle: the parameters of those columns: ``weight`` and ``bias`` float ``[layers, M]`` of the
        cross layers, ``kernel`` float ``[M, 1]`` of the logit.

    Returns:
      float ``[layers]`` and a float scalar.
    """
    # Layer l sees the biases of the layers before it.
    sums = jnp.cumsum(idle["bias"], axis=0)
    before = jnp.pad(sums[:-1], ((1, 0), (0, 0)))
    offsets = jnp.sum(before * idle["weight"], axis=1)
    return offsets, jnp.sum(sums[-1] * idle["kernel"][:, 0])


def fold_idle(network: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a compact DCN for serving: ``idle`` becomes ``cross_offset`` and a bias."""
    folded = {name: value for name, value in network.items() if name != "idle"}
    if "idle" in network:
        folded["cross_offset"], shift = jax.jit(idle_constants)(network["idle"])
        logit = network["logit"]["Dense_0"]
        folded["logit"] = {"Dense_0": {**logit, "bias": logit["bias"] + shift}}
    return folded
