"""The perceptron in evaluation: BatchNorm folded into a scale and a shift of each unit.

A layer is ``relu((x @ kernel) * scale + shift)``, with ``scale = gamma / sqrt(var + epsilon)`` and
``shift = (bias - mean) * scale + beta``. Activations are transposed, ``[units, B]``, so that a unit
is a contiguous row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax.models.whole_batch import EPSILON


@flax.struct.dataclass
class UnitAffine:
    """What follows a layer's kernel before the ReLU, each float ``[H]`` or stacked ``[..., H]``."""

    scale: jax.Array
    shift: jax.Array


def kernels(mlp: Mapping[str, Any]) -> tuple[jax.Array, ...]:
    """Kernels float ``[K, H]`` of the hidden layers, the first one first.

    Args:
      mlp: the parameters of :class:`models.layers.MLP`; empty without hidden layers.
    """
    return tuple(mlp[f"Dense_{n}"]["kernel"] for n in range(_num_layers(mlp)))


def fold(mlp: Mapping[str, Any], batch_stats: Mapping[str, Any]) -> tuple[UnitAffine, ...]:
    """The affine of each hidden layer.

    Args:
      mlp: the parameters of :class:`models.layers.MLP`.
      batch_stats: its batch statistics.
    """
    return tuple(
        _fold(mlp, n, batch_stats[f"BatchNorm_{n}"]["mean"], batch_stats[f"BatchNorm_{n}"]["var"])
        for n in range(_num_layers(mlp))
    )


def recalibrate(
    mlp: Mapping[str, Any], x: jax.Array, weights: jax.Array | None = None
) -> tuple[UnitAffine, ...]:
    """As :func:`fold`, with the statistics of a layer's units taken over the given rows.

    Args:
      mlp: the parameters of :class:`models.layers.MLP`.
      x: float ``[K, N]``, the perceptron's input, transposed.
      weights: float ``[N]``, by which the statistics count the rows; None counts all alike.
    """
    affines = []
    for n, kernel in enumerate(kernels(mlp)):
        pre = matmul_columns(kernel, x)
        bias = mlp[f"Dense_{n}"]["bias"]
        if weights is None:
            mean, var = pre.mean(axis=1), pre.var(axis=1)
        else:
            mean = jnp.average(pre, axis=1, weights=weights)
            var = jnp.average(jnp.square(pre - mean[:, None]), axis=1, weights=weights)
        affine = _fold(mlp, n, mean + bias, var)
        affines.append(affine)
        x = activate(affine, pre)
    return tuple(affines)


def activate(affine: UnitAffine, pre: jax.Array) -> jax.Array:
    """``relu(pre * scale + shift)`` of ``pre`` float ``[H, B]``."""
    return jax.nn.relu(pre * affine.scale[:, None] + affine.shift[:, None])


def hidden(
    upper_kernels: Sequence[jax.Array], affines: Sequence[UnitAffine], pre: jax.Array
) -> jax.Array:
    """From the first layer's products to the last layer's activations.

    Args:
      upper_kernels: of all layers but the first.
      affines: of all layers, at least one.
      pre: float ``[H, B]``, what the first kernel gives.

    Returns:
      float ``[H of the last layer, B]``.
    """
    x = activate(affines[0], pre)
    for kernel, affine in zip(upper_kernels, affines[1:], strict=True):
        x = activate(affine, matmul_columns(kernel, x))
    return x


def matmul_columns(kernel: jax.Array, x: jax.Array) -> jax.Array:
    """``kernel.T @ x``: ``[K, H]`` and ``[K, B]`` to ``[H, B]``."""
    return jax.lax.dot_general(kernel, x, (((0,), (0,)), ((), ())))


def _fold(mlp: Mapping[str, Any], n: int, mean: jax.Array, var: jax.Array) -> UnitAffine:
    norm = mlp[f"BatchNorm_{n}"]
    scale = norm["scale"] / jnp.sqrt(var + EPSILON)
    return UnitAffine(scale, (mlp[f"Dense_{n}"]["bias"] - mean) * scale + norm["bias"])


def _num_layers(mlp: Mapping[str, Any]) -> int:
    return sum(name.startswith("Dense_") for name in mlp)
