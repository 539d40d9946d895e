"""What the first layer of each backbone is in the search, and what becomes of what it gives.

The units of a first layer are whatever is linear in the input: the perceptron's first hidden
layer (both of FinalMLP's), the number that a DCN layer needs of it, the first cross layer of
DCN-V2. They are computed for all candidates by :mod:`first_layer`; the functions here go from there
to a logit. AutoInt's attention is no such unit: it is computed for each candidate.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax.errors import InputError
from optembed_jax.fitness import folded_mlp
from optembed_jax.fitness.folded_mlp import UnitAffine, matmul_columns
from optembed_jax.models import autoint
from optembed_jax.models.backbone_name import is_own
from optembed_jax.models.dcn import idle_constants
from optembed_jax.models.finalmlp import STREAMS, gate_of

Network = Mapping[str, Any]
Affines = tuple[UnitAffine, ...]


@flax.struct.dataclass
class FirstLayer:
    """What there is of a batch of ``B`` rows for one candidate, once the first layer is computed.

    Attributes:
      network: of the supernet.
      affines: ``[H]``, of the perceptrons' layers.
      columns: float ``[F * D, B]``, what the table gave.
      kept: 0/1 ``[F * D]``, which of them the candidate keeps.
      pre: float ``[H, B]``, the units of the first layer.
    """

    network: Network
    affines: Affines
    columns: jax.Array
    kept: jax.Array
    pre: jax.Array


@dataclasses.dataclass(frozen=True)
class Form:
    """How a backbone's first layer is made and what becomes of it.

    Attributes:
      kernel: of the network, float ``[J, H]``: the units of the first layer, of the perceptron
        and of whatever else is linear in the input.
      logit: of what there is then, ``[B]``.
      columns: whether the columns are inputs.
      products: whether inner products are inputs, behind the columns.
      branches: whether ``logit`` chooses between programs by the candidate.
    """

    kernel: Callable[[Network], jax.Array]
    logit: Callable[[FirstLayer], jax.Array]
    columns: bool = True
    products: bool = False
    branches: bool = False


def perceptrons(tree: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The parts of a network, or of its batch statistics, that have an ``mlp`` with hidden layers.

    The affines of a candidate are those of the first one's layers, then those of the next one's.
    """
    if "mlp" in tree:
        return (tree,)
    return tuple(tree[name] for name in STREAMS if name in tree)


def read_by(part: Mapping[str, Any], inputs: jax.Array) -> jax.Array:
    """What a part's perceptron reads of inputs ``[K, ...]``: through its gate, where it has one."""
    if "gate" not in part:
        return inputs
    return inputs * gate_of(part)[:, None]


def _perceptron_kernel(network: Network, hidden_start: int = 0) -> jax.Array:
    """The first hidden layer's kernel, or, without one, what the logit reads of the input."""
    layers = folded_mlp.kernels(network.get("mlp", {}))
    return layers[0] if layers else _logit_kernel(network)[hidden_start:, None]


def _perceptron_logit(
    network: Network,
    affines: Affines,
    first: jax.Array,
    hidden_start: int = 0,
) -> jax.Array:
    """The perceptron's share of the logit; one without hidden layers has it already."""
    if not affines:
        return first[0]
    upper = folded_mlp.kernels(network["mlp"])[1:]
    return _logit_kernel(network)[hidden_start:] @ folded_mlp.hidden(upper, affines, first)


def _logit_kernel(network: Network) -> jax.Array:
    kernel: jax.Array = network["logit"]["Dense_0"]["kernel"]
    return kernel[:, 0]


def _logit_bias(network: Network) -> jax.Array:
    bias: jax.Array = network["logit"]["Dense_0"]["bias"]
    return bias[0]


def _plain_logit(one: FirstLayer) -> jax.Array:
    logits = _perceptron_logit(one.network, one.affines, one.pre)
    return logits + _logit_bias(one.network)


def _dcn_kernel(network: Network) -> jax.Array:
    """The perceptron's units, the cross layers' numbers, and what the logit reads of ``x0``."""
    crosses = network["cross_weight"].T  # [K, layers]
    direct = _logit_kernel(network)[: len(crosses), None]
    return jnp.concatenate([_perceptron_kernel(network, len(crosses)), crosses, direct], axis=1)


def _dcn_logit(one: FirstLayer) -> jax.Array:
    """After ``l`` layers ``x = alpha * x0 + (the biases so far)``: all examples share the rest.

    A pruned column is zero in ``x0`` but carries biases, so they are summed over all columns.
    """
    network, pre = one.network, one.pre
    weights, width = network["cross_weight"], network["cross_weight"].shape[1]
    logit_kernel = _logit_kernel(network)
    constants = {
        "weight": weights,
        "bias": network["cross_bias"],
        "kernel": logit_kernel[:width, None],
    }
    offsets, shift = idle_constants(constants)
    first, numbers, direct = jnp.split(pre, [len(pre) - len(weights) - 1, len(pre) - 1])
    alpha = jnp.ones_like(direct[0])
    for number, offset in zip(numbers, offsets, strict=True):
        alpha = alpha * (1.0 + number) + offset
    crossed = alpha * direct[0] + shift
    beside = _perceptron_logit(network, one.affines, first, width)
    return crossed + beside + _logit_bias(network)


def _dcnv2_kernel(network: Network) -> jax.Array:
    """The perceptron's units and those of the first cross layer."""
    cross = network["cross_0"]["kernel"]
    return jnp.concatenate([_perceptron_kernel(network, len(cross)), cross], axis=1)


def _dcnv2_logit(one: FirstLayer) -> jax.Array:
    """The later cross layers on the kept columns alone: what is zero in ``x0`` stays zero."""
    network, columns, kept, pre = one.network, one.columns, one.kept, one.pre
    width = len(columns)
    first, mixed = jnp.split(pre, [len(pre) - width])
    kept_first = jnp.argsort(-kept, stable=True)
    layers = [
        network[f"cross_{n}"] for n in range(sum(name.startswith("cross_") for name in network))
    ]
    readout = _logit_kernel(network)

    def crossed(size: int) -> Callable[[], jax.Array]:
        def on_kept() -> jax.Array:
            own = kept_first[:size]
            x0 = columns[own] * kept[own, None]
            x = x0 * (mixed[own] + layers[0]["bias"][own, None]) + x0
            for layer in layers[1:]:
                kernel = layer["kernel"][own][:, own]
                x = x0 * (matmul_columns(kernel, x) + layer["bias"][own, None]) + x
            return readout[own] @ x

        return on_kept

    sizes = sorted({-(-width * eighths // 8) for eighths in range(1, 9)})
    place = jnp.searchsorted(jnp.asarray(sizes, jnp.float32), kept.sum())
    of_cross = jax.lax.switch(place, [crossed(size) for size in sizes])
    beside = _perceptron_logit(network, one.affines, first, width)
    return of_cross + beside + _logit_bias(network)


def _beside_attention_kernel(network: Network) -> jax.Array:
    """The perceptron's units; none where there is no perceptron."""
    layers = folded_mlp.kernels(network.get("mlp", {}))
    inputs = len(network["attention_0"]["residual"]["kernel"])
    return layers[0] if layers else jnp.zeros((_fields_of(network) * inputs, 0), jnp.float32)


def _autoint_logit(one: FirstLayer) -> jax.Array:
    """The interacting layers read all fields, those of no columns as zeros."""
    network, columns = one.network, one.columns
    dim = len(network["attention_0"]["residual"]["kernel"])
    x = (columns * one.kept[:, None]).T.reshape(columns.shape[1], -1, dim)
    for kernels in autoint.kernels_of(network):
        x = autoint.interact(kernels, x)
    attended = x.reshape(x.shape[0], -1)
    readout, width = _logit_kernel(network), attended.shape[1]
    logits = attended @ readout[:width] + _logit_bias(network)
    if not one.affines:
        return logits
    return logits + _perceptron_logit(network, one.affines, one.pre, width)


def _fields_of(network: Network) -> int:
    """Of an AutoInt without a perceptron: how many the logit reads."""
    return len(_logit_kernel(network)) // autoint.width_of(network)


def _finalmlp_kernel(network: Network) -> jax.Array:
    """The first layers of both perceptrons, by their gates."""
    first = (read_by(network[s], folded_mlp.kernels(network[s]["mlp"])[0]) for s in STREAMS)
    return jnp.concatenate(list(first), axis=1)


def _finalmlp_logit(one: FirstLayer) -> jax.Array:
    network, hidden, depth = one.network, [], len(one.affines) // 2
    for number, name in enumerate(STREAMS):
        upper = folded_mlp.kernels(network[name]["mlp"])[1:]
        own = one.affines[number * depth : (number + 1) * depth]
        hidden.append(folded_mlp.hidden(upper, own, jnp.split(one.pre, 2)[number]))
    first, second = hidden
    fused = jnp.sum(matmul_columns(network["fusion"]["kernel"], first) * second, axis=0)
    return _logit_kernel(network) @ jnp.concatenate(hidden) + fused + _logit_bias(network)


def form_of(model: Any) -> Form | None:
    """The form of a backbone; None of one without a first layer (FM), or with an unknown one.

    Raises:
      InputError: nobody has written it.
    """
    if is_own(model):
        return None
    if model not in _FORMS:
        raise InputError(
            f"model {model!r} cannot be searched: fitness/candidate_forms.py has to say what its "
            "first layer is"
        )
    return _FORMS[model]


_FORMS: Mapping[str, Form | None] = {
    "fm": None,
    "fnn": Form(_perceptron_kernel, _plain_logit),
    "deepfm": Form(_perceptron_kernel, _plain_logit),
    "ipnn": Form(_perceptron_kernel, _plain_logit, products=True),
    "dcn": Form(_dcn_kernel, _dcn_logit),
    "dcnv2": Form(_dcnv2_kernel, _dcnv2_logit, branches=True),
    "autoint": Form(_beside_attention_kernel, _autoint_logit),
    "dlrm": Form(_perceptron_kernel, _plain_logit, columns=False, products=True),
    "finalmlp": Form(_finalmlp_kernel, _finalmlp_logit),
}
