"""Embedding tables whose steps touch only the rows that are read: PyTorch's, and FBGEMM's.

Each is used as its makers mean it to be on a CPU, in the form that was fastest here.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn


class PeerTable(Protocol):
    """Rows and linear weights of all fields."""

    def read(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``[B, F, D]``, and the linear term ``[B]``, of ids int32 ``[B, F]``."""

    def step(self) -> None:
        """Take the step, once gradients have come back, and forget them."""

    def start(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Begin with ``rows`` ``[V, D]`` and ``linear`` ``[V]``."""

    def values(self, ids: torch.Tensor) -> torch.Tensor:
        """What is stored: rows of ids ``[N, F]`` with their linear weights, ``[N, F, D + 1]``."""


class SparseAdamTable:
    """``Embedding(sparse=True)`` under SparseAdam: Adam at the rows that are read."""

    def __init__(self, sizes: Sequence[int], dim: int, lr: float) -> None:
        rows = sum(sizes)
        self.embedding = nn.Embedding(rows, dim, sparse=True)
        nn.init.xavier_uniform_(self.embedding.weight)
        self.linear = nn.Embedding(rows, 1, sparse=True)
        nn.init.zeros_(self.linear.weight)
        self._adam = torch.optim.SparseAdam([self.embedding.weight, self.linear.weight], lr=lr)

    def read(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As of :class:`PeerTable`."""
        return self.embedding(ids), self.linear(ids).sum(dim=(1, 2))

    def step(self) -> None:
        """As of :class:`PeerTable`."""
        self._adam.step()
        self._adam.zero_grad()

    def start(self, arrays: Mapping[str, np.ndarray]) -> None:
        """As of :class:`PeerTable`."""
        with torch.no_grad():
            self.embedding.weight.copy_(torch.from_numpy(arrays["rows"]))
            self.linear.weight.copy_(torch.from_numpy(arrays["linear"])[:, None])

    def values(self, ids: torch.Tensor) -> torch.Tensor:
        """As of :class:`PeerTable`."""
        with torch.no_grad():
            return torch.cat([self.embedding(ids), self.linear(ids)], dim=-1)


class FbgemmTable:
    """FBGEMM's table-batched embedding bags on the CPU, under exact row-wise Adagrad.

    Each example has a bag of one id in each field. The step is taken within the backward pass. A
    table's width must be a multiple of four, so linear weights are in the first of four columns.
    All fields lie in one table, by the ids of the data set.
    """

    WIDTH = 4
    """Of the linear weights."""

    def __init__(self, sizes: Sequence[int], dim: int, lr: float) -> None:
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import (
            EmbeddingLocation,
            PoolingMode,
        )
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            SplitTableBatchedEmbeddingBagsCodegen,
        )

        def table(width: int) -> nn.Module:
            bags = SplitTableBatchedEmbeddingBagsCodegen(
                [(sum(sizes), width, EmbeddingLocation.HOST, ComputeDevice.CPU)],
                feature_table_map=[0] * len(sizes),
                optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
                learning_rate=lr,
                eps=self.EPSILON,
                pooling_mode=PoolingMode.SUM,
            )
            weights: nn.Module = bags
            return weights

        self._fields, self._dim = len(sizes), dim
        self.embedding, self.linear = table(dim), table(self.WIDTH)
        nn.init.xavier_uniform_(_weights(self.embedding))
        nn.init.zeros_(_weights(self.linear))

    EPSILON = 1e-8

    def read(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As of :class:`PeerTable`."""
        flat = ids.t().reshape(-1).long()  # Field by field.
        bags = torch.arange(flat.numel() + 1)
        rows = self.embedding(flat, bags).view(-1, self._fields, self._dim)
        linear = self.linear(flat, bags)[:, :: self.WIDTH]
        return rows, linear.sum(dim=1)

    def step(self) -> None:
        """As of :class:`PeerTable`; it was taken with the gradients."""

    def start(self, arrays: Mapping[str, np.ndarray]) -> None:
        """As of :class:`PeerTable`."""
        with torch.no_grad():
            _weights(self.embedding).copy_(torch.from_numpy(arrays["rows"]))
            _weights(self.linear)[:, 0] = torch.from_numpy(arrays["linear"])

    def values(self, ids: torch.Tensor) -> torch.Tensor:
        """As of :class:`PeerTable`."""
        places = ids.long()
        rows, linear = _weights(self.embedding)[places], _weights(self.linear)[places]
        return torch.cat([rows, linear[..., :1]], dim=-1)


def _weights(table: nn.Module) -> torch.Tensor:
    """A view of a table of FBGEMM, ``[V, width]``."""
    (weights,) = table.split_embedding_weights()
    found: torch.Tensor = weights.detach()
    return found


TABLES: Mapping[str, type[SparseAdamTable] | type[FbgemmTable]] = {
    "sparse_torch": SparseAdamTable,
    "fbgemm": FbgemmTable,
}
