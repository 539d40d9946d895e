"""The supernet's training step in PyTorch, in its usual form: Adam over the whole table.

DeepFM with a threshold per field and dimensions drawn per example; L2 is Adam's ``weight_decay``,
which adds it to the gradient, as in the method's reference. To compare the time of a step with.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn


class _LongTailStep(torch.autograd.Function):
    """1 where positive, else 0; its derivative is the long-tail estimator."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        distance = x.abs()
        tail = torch.where(distance <= 1, 0.4, 0.0)
        return gradients[0] * torch.where(distance <= 0.4, 2 - 4 * distance, tail)


def perceptron(width: int, mlp_dims: Sequence[int]) -> nn.Sequential:
    """Linear, BatchNorm, ReLU for each hidden layer, and one linear unit: ``[B, width]`` to
    ``[B, 1]``.
    """
    layers: list[nn.Module] = []
    for units in mlp_dims:
        layers += [nn.Linear(width, units), nn.BatchNorm1d(units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, 1))


def pairs_of(read: torch.Tensor) -> torch.Tensor:
    """FM's interaction, ``[B]`` of ``[B, F, D]``."""
    squared_sum, sum_of_squares = read.sum(dim=1).square(), read.square().sum(dim=1)
    return 0.5 * (squared_sum - sum_of_squares).sum(dim=1)


class DeepFMSupernet(nn.Module):
    """From ids to logits, with rows pruned by thresholds and columns cut to random dimensions."""

    def __init__(self, rows: int, fields: int, dim: int, mlp_dims: Sequence[int]) -> None:
        super().__init__()
        self.dim = dim
        self.embedding = nn.Embedding(rows, dim)
        nn.init.xavier_uniform_(self.embedding.weight)
        self.linear = nn.Embedding(rows, 1)
        nn.init.zeros_(self.linear.weight)
        self.thresholds = nn.Parameter(torch.zeros(fields))
        self.mlp = perceptron(fields * dim, mlp_dims)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits ``[B]`` of ids int ``[B, F]``."""
        rows = self.embedding(ids)
        mask = _LongTailStep.apply(rows.abs().sum(dim=-1) - self.thresholds)
        dims = torch.randint(1, self.dim + 1, ids.shape)
        prefix = torch.arange(self.dim) < dims[..., None]
        read = rows * mask[..., None] * prefix
        linear = self.linear(ids).sum(dim=(1, 2))
        return linear + pairs_of(read) + self.mlp(read.flatten(1))[:, 0]


def make_step(
    rows: int, fields: int, dim: int, mlp_dims: Sequence[int], *,
    lr: float, l2: float, t_lr: float, alpha: float,
) -> Callable[[np.ndarray, np.ndarray], float]:  # fmt: skip
    """A function that trains on ids ``[B, F]`` and labels ``[B]``, and returns the loss."""
    torch.manual_seed(0)
    model = DeepFMSupernet(rows, fields, dim, mlp_dims)
    others = [p for name, p in model.named_parameters() if name != "thresholds"]
    adam = torch.optim.Adam(others, lr=lr, weight_decay=l2)
    sgd = torch.optim.SGD([model.thresholds], lr=t_lr)

    def step(ids: np.ndarray, labels: np.ndarray) -> float:
        logits = model(torch.from_numpy(ids))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(labels))
        loss = loss + alpha * torch.exp(-model.thresholds).sum()
        adam.zero_grad()
        sgd.zero_grad()
        loss.backward()
        adam.step()
        sgd.step()
        return loss.item()

    return step
