"""Backbones: from embeddings ``[B, F, D]`` (and a linear term ``[B]``) to logits ``[B]``.

One definition serves all phases: what is pruned is decided before the backbone, by what it is fed.
"""

from collections.abc import Sequence

import flax.linen as nn

from optembed_jax.errors import InputError
from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models.dcn import DCN
from optembed_jax.models.dcnv2 import DCNV2
from optembed_jax.models.deepfm import DeepFM
from optembed_jax.models.fm import FM
from optembed_jax.models.fnn import FNN
from optembed_jax.models.ipnn import IPNN

MODEL_NAMES = ("fm", "fnn", "deepfm", "ipnn", "dcn", "dcnv2")
MODELS_WITH_LINEAR_TERM = frozenset({"fm", "deepfm"})

_PERCEPTRONS: dict[str, type[nn.Module]] = {
    "fnn": FNN,
    "deepfm": DeepFM,
    "ipnn": IPNN,
    "dcn": DCN,
    "dcnv2": DCNV2,
}


def make_backbone(
    name: str,
    *,
    mlp_dims: Sequence[int],
    dropout: float = 0.0,
    cross_layers: int | None = None,
    batch_axis: BatchAxis | None = None,
) -> nn.Module:
    """The backbone of a given name.

    Args:
      name: one of ``MODEL_NAMES``.
      mlp_dims: hidden units of the perceptron; FM has none.
      dropout: of the perceptron.
      cross_layers: of DCN and DCN-V2; None takes each one's own default (6 and 3).
      batch_axis: that the batch is split over, or None.

    Raises:
      InputError: no such model.
    """
    if name not in MODEL_NAMES:
        raise InputError(f"no model {name!r}; there are {', '.join(MODEL_NAMES)}")
    if name == "fm":
        return FM()
    options: dict[str, object] = {
        "mlp_dims": tuple(mlp_dims),
        "dropout": dropout,
        "batch_axis": batch_axis,
    }
    if name in ("dcn", "dcnv2") and cross_layers is not None:
        options["cross_layers"] = cross_layers
    return _PERCEPTRONS[name](**options)


__all__ = [
    "DCN",
    "DCNV2",
    "FM",
    "FNN",
    "IPNN",
    "MODELS_WITH_LINEAR_TERM",
    "MODEL_NAMES",
    "DeepFM",
    "make_backbone",
]
