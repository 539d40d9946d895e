"""Models: from ids to logits, one model for every phase.

Offers the backbones, a file each; the forward pass, its settings, what it keeps.
May import: ``errors``, ``fields``, ``metrics``, ``method``, ``exchange``, ``table``.
"""

from collections.abc import Sequence

import flax.linen as nn

from optembed_jax.errors import InputError
from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models.autoint import AutoInt
from optembed_jax.models.dcn import DCN
from optembed_jax.models.dcnv2 import DCNV2
from optembed_jax.models.deepfm import DeepFM
from optembed_jax.models.dlrm import DLRM
from optembed_jax.models.finalmlp import FinalMLP
from optembed_jax.models.fm import FM
from optembed_jax.models.fnn import FNN
from optembed_jax.models.ipnn import IPNN

MODEL_NAMES = ("fm", "fnn", "deepfm", "ipnn", "dcn", "dcnv2", "autoint", "dlrm", "finalmlp")
MODELS_WITH_LINEAR_TERM = frozenset({"fm", "deepfm"})
MODELS_OF_PRODUCTS = frozenset({"fm", "dlrm"})
"""Those that read products of two fields and nothing else of the rows: they have no gradient in a
column where all fields have zeros."""

_PERCEPTRONS: dict[str, type[nn.Module]] = {
    "fnn": FNN,
    "deepfm": DeepFM,
    "ipnn": IPNN,
    "dcn": DCN,
    "dcnv2": DCNV2,
    "autoint": AutoInt,
    "dlrm": DLRM,
    "finalmlp": FinalMLP,
}


def make_backbone(
    name: str,
    *,
    mlp_dims: Sequence[int],
    dropout: float = 0.0,
    cross_layers: int | None = None,
    attention_heads: int = 2,
    attention_units: int = 32,
    fusion_heads: int = 1,
    batch_axis: BatchAxis | None = None,
) -> nn.Module:
    """The backbone of a given name.

    Args:
      name: one of ``MODEL_NAMES``.
      mlp_dims: hidden units of the perceptron; FM has none.
      dropout: of the perceptron.
      cross_layers: of DCN, DCN-V2 and AutoInt; None takes each one's own default (6, 3 and 3).
      attention_heads: of AutoInt's layers.
      attention_units: of each of these heads.
      fusion_heads: of FinalMLP's fusion.
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
    if name in ("dcn", "dcnv2", "autoint") and cross_layers is not None:
        options["cross_layers"] = cross_layers
    if name == "autoint":
        options |= {"heads": attention_heads, "units": attention_units}
    if name == "finalmlp":
        options["heads"] = fusion_heads
    return _PERCEPTRONS[name](**options)


__all__ = [
    "DCN",
    "DCNV2",
    "DLRM",
    "FM",
    "FNN",
    "IPNN",
    "MODELS_OF_PRODUCTS",
    "MODELS_WITH_LINEAR_TERM",
    "MODEL_NAMES",
    "AutoInt",
    "DeepFM",
    "FinalMLP",
    "make_backbone",
]
