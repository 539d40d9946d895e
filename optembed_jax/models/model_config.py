"""What a model is: its backbone, its size, and what of its table is pruned and how."""

import dataclasses
from typing import Any

from optembed_jax.errors import InputError
from optembed_jax.fields import check_integer
from optembed_jax.method.bag import POOLINGS
from optembed_jax.models import MODEL_NAMES, MODELS_OF_PRODUCTS, MODELS_WITH_LINEAR_TERM
from optembed_jax.models.backbone_name import (
    backbone_name,
    check_own,
    check_takes_dtype,
    is_own,
    reads_linear,
    reads_products,
)
from optembed_jax.table.score import ROW_SCORES

MODES = ("all", "feature", "embed", "none")

COMPUTE_DTYPES = ("float32", "bfloat16")

_UNITS = ("attention_heads", "attention_units", "fusion_heads")

DEFAULT_ROW_KEEP, DEFAULT_ROW_SCORE = 0.2, "taylor"
"""Of a budget that does not say; how they were chosen is in docs/row_pruning.md."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shape and the meaning of a model; hashable, static under jit.

    Attributes:
      model: backbone, one of ``models.MODEL_NAMES``, or one's own Flax module, see
        ``models.own_backbone``.
      latent_dim: ``D``, at least 1.
      mlp_dims: hidden units of the perceptron; FinalMLP, which has two such, needs a layer.
      dropout: of the perceptron, in [0, 1).
      cross_layers: of DCN, DCN-V2 and AutoInt; None takes each one's own default.
      attention_heads: of each of AutoInt's layers, at least 1.
      attention_units: of each of these heads, at least 1.
      fusion_heads: of FinalMLP's fusion, a divisor of the last width of ``mlp_dims``.
      mode: what is pruned: ``all`` rows and dimensions (OptEmbed), ``feature`` rows only
        (OptEmbed-E), ``embed`` dimensions only (OptEmbed-D), ``none`` nothing (the base model).
      mode_threshold: a threshold is learned per ``field`` or per ``feature`` (the paper), or a
        ``budget`` sets one for all rows.
      mode_oov: a pruned id reads a ``zero`` vector or its field's learned one (``oov``), both the
        paper's; or ``shared``, what its field's OOV row has for all that has no row of its own.
      mode_linear: ``keep`` the linear weights of pruned rows (the paper), or ``prune`` them too.
      norm: order of the row norm, 1 or 2.
      row_keep: of a budget: share of the rows to keep, in (0, 1]. None is ``DEFAULT_ROW_KEEP``, or
        all that ``max_table_bytes`` pays for.
      max_table_bytes: of a budget: bytes of float32 rows and OOV vectors at ``D`` columns.
      row_score: of a budget: what rows are chosen by, one of ``score.ROW_SCORES``. None is
        ``DEFAULT_ROW_SCORE``.
      pooling: what a field reads of a cell of several values, of their rows and linear weights: the
        ``mean`` or the ``sum`` (``method.bag``).
      compute_dtype: ``float32`` or ``bfloat16``: of the backbone's activations, and of its kernels
        where they are used. Parameters, moments, statistics of batches, logits and losses are
        float32 either way, and what is searched and served is computed in float32 (``in_float32``).

    Raises:
      InputError: a value outside its range.
    """

    model: Any = "deepfm"
    latent_dim: int = 16
    mlp_dims: tuple[int, ...] = (1024, 512, 256)
    dropout: float = 0.0
    cross_layers: int | None = None
    attention_heads: int = 2
    attention_units: int = 32
    fusion_heads: int = 1
    mode: str = "all"
    mode_threshold: str = "field"
    mode_oov: str = "zero"
    mode_linear: str = "keep"
    norm: int = 1
    row_keep: float | None = None
    max_table_bytes: int | None = None
    row_score: str | None = None
    pooling: str = "mean"
    compute_dtype: str = "float32"

    def __post_init__(self) -> None:
        if is_own(self.model):
            check_own(self.model)
        elif self.model not in MODEL_NAMES:
            raise InputError(
                f"model must be one of {', '.join(MODEL_NAMES)}, or a Flax module, not "
                f"{self.model!r}"
            )
        _one_of("mode", self.mode, MODES)
        _one_of("mode_threshold", self.mode_threshold, ("field", "feature", "budget"))
        _one_of("mode_oov", self.mode_oov, ("zero", "oov", "shared"))
        _one_of("mode_linear", self.mode_linear, ("keep", "prune"))
        _one_of("norm", self.norm, (1, 2))
        _one_of("pooling", self.pooling, POOLINGS)
        _one_of("compute_dtype", self.compute_dtype, COMPUTE_DTYPES)
        if self.has_own_backbone and self.compute_dtype != "float32":
            check_takes_dtype(self.model, self.compute_dtype)
        for name in ("latent_dim", "cross_layers", *_UNITS, "max_table_bytes"):
            if (value := getattr(self, name)) is not None:
                check_integer(name, value)
        for width in self.mlp_dims:
            check_integer("every width in mlp_dims", width)
        if self.latent_dim < 1:
            raise InputError(f"latent_dim must be at least 1, not {self.latent_dim}")
        if any(width < 1 for width in self.mlp_dims):
            raise InputError(f"every width in mlp_dims must be at least 1, not {self.mlp_dims}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be in [0, 1), not {self.dropout}")
        if self.cross_layers is not None and self.cross_layers < 1:
            raise InputError(f"cross_layers must be at least 1, not {self.cross_layers}")
        for name in _UNITS:
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.model == "finalmlp" and not self.mlp_dims:
            raise InputError("finalmlp needs hidden layers; give mlp_dims at least one width")
        if self.model == "finalmlp" and self.mlp_dims[-1] % self.fusion_heads:
            raise InputError(
                f"fusion_heads={self.fusion_heads} cut finalmlp's last layer into equal chunks, "
                f"and mlp_dims ends in {self.mlp_dims[-1]}; give a divisor of it"
            )
        self._check_budget()

    def _check_budget(self) -> None:
        given = [
            f"{name}={getattr(self, name)}"
            for name in ("row_keep", "max_table_bytes", "row_score")
            if getattr(self, name) is not None
        ]
        if self.row_keep is not None and not 0 < self.row_keep <= 1:
            raise InputError(f"row_keep must be in (0, 1], not {self.row_keep}")
        if self.max_table_bytes is not None and self.max_table_bytes < 1:
            raise InputError(f"max_table_bytes must be at least 1, not {self.max_table_bytes}")
        if self.row_score is not None:
            _one_of("row_score", self.row_score, ROW_SCORES)
        if given and not self.prunes_rows:
            raise InputError(
                f"{given[0]} is for pruning rows, which mode {self.mode!r} does not; "
                "use mode all or feature"
            )
        if given and not self.has_row_budget:
            raise InputError(
                f"{given[0]} is of a budget, but mode_threshold={self.mode_threshold} learns which "
                "rows to keep; use mode_threshold=budget"
            )

    @property
    def prunes_rows(self) -> bool:
        """Whether rows are pruned, by learned thresholds or to a budget."""
        return self.mode in ("all", "feature")

    @property
    def has_row_budget(self) -> bool:
        """Whether a budget says how many rows are kept."""
        return self.prunes_rows and self.mode_threshold == "budget"

    @property
    def budget_score(self) -> str:
        """What a budget chooses rows by."""
        return DEFAULT_ROW_SCORE if self.row_score is None else self.row_score

    @property
    def shares_stand_in(self) -> bool:
        """Whether pruned values read the OOV row of their field, as unseen ones do."""
        return self.prunes_rows and self.mode_oov == "shared"

    @property
    def learns_thresholds(self) -> bool:
        """Whether the rows are chosen by learned thresholds."""
        return self.prunes_rows and not self.has_row_budget

    @property
    def searches_dims(self) -> bool:
        """Whether dimensions are sampled and searched."""
        return self.mode in ("all", "embed")

    @property
    def has_linear_term(self) -> bool:
        """Whether each feature carries a first-order weight."""
        if self.has_own_backbone:
            return reads_linear(self.model)
        return self.model in MODELS_WITH_LINEAR_TERM

    @property
    def reads_products(self) -> bool:
        """Whether the backbone reads products of two fields, and nothing else of the rows."""
        if self.has_own_backbone:
            return reads_products(self.model)
        return self.model in MODELS_OF_PRODUCTS

    @property
    def has_own_backbone(self) -> bool:
        """Whether the backbone is not one of the library's."""
        return is_own(self.model)

    @property
    def model_name(self) -> str:
        """The backbone in one word."""
        return backbone_name(self.model)

    @property
    def in_float32(self) -> "ModelConfig":
        """The same model, computed in float32, as it is searched and served."""
        return dataclasses.replace(self, compute_dtype="float32")

    def as_record(self) -> dict[str, Any]:
        """All attributes by name, as a file can have them: the backbone by its name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**values, "model": self.model_name}


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(map(str, allowed))}, not {value!r}")
