"""Training steps with a peer's table: the embedding part alone, and DeepFM's whole step."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from experiments.benchmarks.sparse_peers.tables import PeerTable
from experiments.benchmarks.torch_supernet import pairs_of, perceptron

Step = Callable[[np.ndarray, np.ndarray], float]
"""Trains on ids int32 ``[B, F]`` and labels float32 ``[B]``; returns the loss."""


def embedding_step(table: PeerTable) -> Step:
    """A step of the table alone: the loss is half the square of what is read.

    Its gradient is what is read, which is handed back without a loss being reckoned.
    """

    def step(ids: np.ndarray, labels: np.ndarray) -> float:
        del labels
        read = table.read(torch.from_numpy(ids))
        torch.autograd.backward(read, tuple(part.detach() for part in read))
        table.step()
        return 0.0

    return step


def deepfm_step(table: PeerTable, network: nn.Sequential, lr: float, l2: float) -> Step:
    """DeepFM's step: Adam at the network, with L2 in the gradient of its kernels."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": kernels, "weight_decay": l2}, {"params": others}]
    adam = torch.optim.Adam(groups, lr=lr, fused=True)

    def step(ids: np.ndarray, labels: np.ndarray) -> float:
        rows, linear = table.read(torch.from_numpy(ids))
        logits = linear + pairs_of(rows) + network(rows.flatten(1))[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(labels))
        adam.zero_grad()
        loss.backward()
        adam.step()
        table.step()
        return loss.item()

    return step


def network_of(
    width: int, mlp_dims: Sequence[int], start: Mapping[str, np.ndarray] | None
) -> nn.Sequential:
    """A perceptron from ``[B, width]`` to ``[B, 1]``.

    Args:
      width: of what is read.
      mlp_dims: units of the hidden layers.
      start: kernels ``kernel_0``, ... ``[in, out]`` to begin with; None draws them.
    """
    network = perceptron(width, mlp_dims)
    if start is not None:
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            for number, layer in enumerate(linear):
                layer.weight.copy_(torch.from_numpy(start[f"kernel_{number}"].T))
                layer.bias.zero_()
    return network
