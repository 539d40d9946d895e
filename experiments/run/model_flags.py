"""Flags of the model, and of what is kept of it: one for each attribute of ``ModelConfig``."""

from typing import Any

from absl import flags

from optembed_jax.models.backbone_name import imported
from optembed_jax.models.model_config import DEFAULT_ROW_KEEP, DEFAULT_ROW_SCORE, ModelConfig
from optembed_jax.rivals.registry import METHODS, OPTEMBED, rival_of

# The library's defaults are the paper's; the commands' are what docs/row_pruning.md and
# docs/regulariser.md found best, and where it ties (docs/serving.md) what makes the smaller bundle.
_MODEL = ModelConfig(mode_threshold="budget", mode_oov="shared", mode_linear="prune")

MODEL = flags.DEFINE_string(
    "model",
    _MODEL.model,
    "fm, fnn, deepfm, ipnn, dcn, dcnv2, autoint, dlrm or finalmlp; or a Flax module of your own, "
    "package.module:ClassName, which is imported and run: name only code that you trust.",
)
flags.DEFINE_integer("latent_dim", _MODEL.latent_dim, "D, the largest embedding dimension.")
flags.DEFINE_list(
    "mlp_dims", [str(width) for width in _MODEL.mlp_dims], "Hidden units of the perceptron."
)
flags.DEFINE_float("dropout", _MODEL.dropout, "Dropout of the perceptron, in [0, 1).")
flags.DEFINE_integer(
    "cross_layers",
    _MODEL.cross_layers,
    "Cross layers of dcn (default 6) and dcnv2 (default 3), interacting layers of autoint (3).",
)
flags.DEFINE_integer(
    "attention_heads", _MODEL.attention_heads, "Heads of each of autoint's interacting layers."
)
flags.DEFINE_integer("attention_units", _MODEL.attention_units, "Units of each of these heads.")
flags.DEFINE_integer(
    "fusion_heads",
    _MODEL.fusion_heads,
    "Heads of finalmlp's bilinear fusion, a divisor of the last of --mlp_dims.",
)
flags.DEFINE_string(
    "mode",
    _MODEL.mode,
    "What is pruned: all (rows and dimensions), feature (rows), embed (dimensions), none.",
)
METHOD = flags.DEFINE_string(
    "method",
    OPTEMBED,
    f"Who chooses what is kept: {', '.join(METHODS)}. All but the first are rivals to compare "
    "with, which have the modes they have; all else of the run is the same.",
)
flags.DEFINE_string(
    "mode_threshold",
    _MODEL.mode_threshold,
    "Rows are kept by a budget (--row_keep), or by a threshold that is learned for each field or "
    "feature (the paper).",
)
flags.DEFINE_string(
    "mode_oov",
    _MODEL.mode_oov,
    "Pruned ids read zero, a learned oov vector, or shared: the OOV row, as unseen values do.",
)
flags.DEFINE_string(
    "mode_linear", _MODEL.mode_linear, "keep or prune the linear weights of pruned rows."
)
flags.DEFINE_string(
    "pooling", _MODEL.pooling, "mean or sum: what a field reads of the values of a cell in --multi."
)
flags.DEFINE_string(
    "compute_dtype",
    _MODEL.compute_dtype,
    "float32, or bfloat16: of the network's activations and products in training. Parameters, "
    "moments, statistics, loss and metrics stay in float32; search and serving compute in float32.",
)
flags.DEFINE_integer("norm", _MODEL.norm, "Order of the row norm, 1 or 2.")
flags.DEFINE_float(
    "row_keep",
    _MODEL.row_keep,
    "Of a budget: share of the rows to keep, in (0, 1], exactly; those of the best --row_score. "
    f"None: {DEFAULT_ROW_KEEP}, or in mode feature what --max_table_bytes pays for; where a search "
    "keeps to a budget it chooses (--keep_rates).",
)
flags.DEFINE_string(
    "row_score",
    _MODEL.row_score,
    "What --row_keep chooses by, and --max_table_bytes in mode feature: norm, mean_norm (over the "
    f"last epoch), taylor, frequency or frequency_per_field. None: {DEFAULT_ROW_SCORE}.",
)


def backbone() -> Any:
    """The name of a backbone of the library, or the module that ``--model`` says to import."""
    return imported(MODEL.value) if ":" in MODEL.value else MODEL.value


def mode() -> str:
    """What is pruned: ``--mode``, which a rival says itself."""
    rival, flag = rival_of(METHOD.value), flags.FLAGS["mode"]
    # One that differs and was given is told of by the settings.
    return str(flag.value) if rival is None or flag.present else rival.mode
