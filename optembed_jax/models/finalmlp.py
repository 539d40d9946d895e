"""FinalMLP: two perceptrons on gated embeddings, fused bilinearly (Mao et al., AAAI 2023)."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models.layers import MLP, Embedded, Logit, flatten_fields

STREAMS = ("stream_0", "stream_1")


class FinalMLP(nn.Module):
    """``logit(first, second) + first' W second`` of what two perceptrons give.

    Each reads the embeddings times a gate of its own, ``2 sigmoid(.)``, which is 1 at first
    (equation 5). The gates' context is a learned one, the paper's choice where no field is named
    for it: what a network makes of a constant is a constant, so it is learned itself, a number for
    each column, and goes into the first kernel once it is served (:func:`gate_of`).

    With ``heads`` the fusion is the sum of bilinear forms of the chunks that both outputs are cut
    into (equation 9): the blocks of ``W``, which is zero beside them.

    Departs from the paper: both perceptrons have the same widths; the fusion starts at zero, so
    that a fresh model predicts the click rate (``output_bias``), and every block has its place in
    one square kernel, which is stored and served as that of one head is.

    Attributes:
      mlp_dims: hidden units of each of the two perceptrons, at least one layer.
      dropout, batch_axis: as in :class:`layers.MLP`.
      heads: of the fusion, a divisor of the last width.
    """

    mlp_dims: Sequence[int]
    dropout: float = 0.0
    batch_axis: BatchAxis | None = None
    heads: int = 1

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
        x = flatten_fields(embedded)
        first, second = (
            _Stream(self.mlp_dims, self.dropout, self.batch_axis, name=name)(
                x, train=train, weights=weights
            )
            for name in STREAMS
        )
        fused = _Fusion(self.heads, name="fusion")(first)
        logits: jax.Array = Logit(name="logit")(jnp.concatenate([first, second], axis=-1))
        products = fused.astype(jnp.float32) * second.astype(jnp.float32)
        return logits + jnp.sum(products, axis=-1)


class _Stream(nn.Module):
    """A gate and a perceptron."""

    widths: Sequence[int]
    dropout: float
    batch_axis: BatchAxis | None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, weights: jax.Array | None) -> jax.Array:
        gate = self.param("gate", nn.initializers.zeros, (x.shape[-1],))
        mlp = MLP(self.widths, self.dropout, self.batch_axis, name="mlp")
        hidden: jax.Array = mlp(
            x * gate_of({"gate": gate}).astype(x.dtype), train=train, weights=weights
        )
        return hidden


class _Fusion(nn.Module):
    """A square kernel of which the blocks of the heads are there."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.zeros, (width, width))
        if self.heads > 1:
            head = np.arange(width) // (width // self.heads)
            kernel = jnp.where(head[:, None] == head, kernel, 0.0)
        return x @ kernel.astype(x.dtype)


def gate_of(stream: Mapping[str, Any]) -> jax.Array:
    """What a stream's perceptron reads of each column, float ``[K]`` in (0, 2)."""
    return 2.0 * jax.nn.sigmoid(stream["gate"])
