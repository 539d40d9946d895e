"""From ids to logits: one model for every phase. What differs is the :class:`Selection` it reads.

===========  =======================================  ====================================
phase        rows                                     columns
===========  =======================================  ====================================
baseline     all                                      all
supernet     by the learned thresholds, trained too   drawn per example and field
search       the supernet's mask, frozen              the candidate's, one per field
retraining   the supernet's mask, frozen              the winner's, one per field
===========  =======================================  ====================================
"""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax import compact, threshold
from optembed_jax.batch_axis import BatchAxis
from optembed_jax.compact import CompactIndex
from optembed_jax.embedding import Table, init_table, linear_term, select
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models import MODEL_NAMES, MODELS_WITH_LINEAR_TERM, make_backbone
from optembed_jax.models.layers import Embedded
from optembed_jax.row_score import ROW_SCORES
from optembed_jax.row_view import RowView, Seen

MODES = ("all", "feature", "embed", "none")

DEFAULT_ROW_KEEP, DEFAULT_ROW_SCORE = 0.2, "taylor"
"""Of a budget that does not say; how they were chosen is in docs/row_pruning.md."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shape and the meaning of a model; hashable, static under jit.

    Attributes:
      model: backbone, one of ``models.MODEL_NAMES``.
      latent_dim: ``D``, at least 1.
      mlp_dims: hidden units of the perceptron.
      dropout: of the perceptron, in [0, 1).
      cross_layers: of DCN and DCN-V2; None takes each one's own default.
      mode: what is pruned: ``all`` rows and dimensions (OptEmbed), ``feature`` rows only
        (OptEmbed-E), ``embed`` dimensions only (OptEmbed-D), ``none`` nothing (the base model).
      mode_threshold: a threshold is learned per ``field`` or per ``feature`` (the paper), or a
        ``budget`` sets one for all rows.
      mode_oov: a pruned id reads a ``zero`` vector, or its field's learned one (``oov``).
      mode_linear: ``keep`` the linear weights of pruned rows (the paper), or ``prune`` them too.
      norm: order of the row norm, 1 or 2.
      row_keep: of a budget: share of the rows to keep, in (0, 1]. None is ``DEFAULT_ROW_KEEP``, or
        all that ``max_table_bytes`` pays for.
      max_table_bytes: of a budget: bytes of float32 rows and OOV vectors at ``D`` columns.
      row_score: of a budget: what rows are chosen by, one of ``row_score.ROW_SCORES``. None is
        ``DEFAULT_ROW_SCORE``.

    Raises:
      InputError: a value outside its range.
    """

    model: str = "deepfm"
    latent_dim: int = 16
    mlp_dims: tuple[int, ...] = (1024, 512, 256)
    dropout: float = 0.0
    cross_layers: int | None = None
    mode: str = "all"
    mode_threshold: str = "field"
    mode_oov: str = "zero"
    mode_linear: str = "keep"
    norm: int = 1
    row_keep: float | None = None
    max_table_bytes: int | None = None
    row_score: str | None = None

    def __post_init__(self) -> None:
        _one_of("model", self.model, MODEL_NAMES)
        _one_of("mode", self.mode, MODES)
        _one_of("mode_threshold", self.mode_threshold, ("field", "feature", "budget"))
        _one_of("mode_oov", self.mode_oov, ("zero", "oov"))
        _one_of("mode_linear", self.mode_linear, ("keep", "prune"))
        _one_of("norm", self.norm, (1, 2))
        if self.latent_dim < 1:
            raise InputError(f"latent_dim must be at least 1, not {self.latent_dim}")
        if any(width < 1 for width in self.mlp_dims):
            raise InputError(f"every width in mlp_dims must be at least 1, not {self.mlp_dims}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be in [0, 1), not {self.dropout}")
        if self.cross_layers is not None and self.cross_layers < 1:
            raise InputError(f"cross_layers must be at least 1, not {self.cross_layers}")
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
        return self.model in MODELS_WITH_LINEAR_TERM


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(map(str, allowed))}, not {value!r}")


@flax.struct.dataclass
class Params:
    """All that is trained, in the three groups that have an optimiser each.

    Attributes:
      table: the embedding ``Table`` with its linear weights and OOV vectors, or, of a compact
        model, a ``CompactTable``; within a sparse step, the rows as its ids see them, ``Seen``.
      thresholds: float32 ``[F]`` or ``[V]``; None where no rows are pruned.
      network: the backbone's parameters.
    """

    table: Any
    thresholds: jax.Array | None
    network: Any


@flax.struct.dataclass
class Selection:
    """What part of the table a forward pass reads; the default is all of it.

    Attributes:
      rows: bool ``[V]``, rows kept by a frozen mask; None keeps all, or leaves it to thresholds.
      dims: int32 ``[F]`` or ``[B, F]``, columns kept; None keeps all.
      learned: take the rows from the thresholds, differentiably.
    """

    rows: jax.Array | None = None
    dims: jax.Array | None = None
    learned: bool = flax.struct.field(pytree_node=False, default=False)


Reading = Selection | CompactIndex
"""How ids read the table: the part of a full one, or the index of a compact one."""


def init_params(key: jax.Array, config: ModelConfig, fields: Fields) -> tuple[Params, Any]:
    """Fresh parameters and batch statistics. Thresholds start at 0 (section 3.2).

    Args:
      key: PRNG key.
      config: the model.
      fields: the data set's fields.

    Returns:
      ``(params, batch_stats)``; ``batch_stats`` is an empty dict for a backbone without BatchNorm.
    """
    table_key, network_key = jax.random.split(key)
    table = init_table(
        table_key,
        fields,
        config.latent_dim,
        linear=config.has_linear_term,
        oov=config.prunes_rows and config.mode_oov == "oov",
    )
    embedded = jnp.zeros((2, fields.num_fields, config.latent_dim), jnp.float32)
    linear = jnp.zeros((2,), jnp.float32) if config.has_linear_term else None
    variables = backbone(config).init(network_key, embedded, linear, train=False)
    thresholds = None
    if config.learns_thresholds:
        level = config.mode_threshold
        size = fields.num_fields if level == "field" else fields.num_features
        thresholds = jnp.zeros((size,), jnp.float32)
    return (
        Params(table=table, thresholds=thresholds, network=variables.get("params", {})),
        variables.get("batch_stats", {}),
    )


def backbone(config: ModelConfig, batch_axis: BatchAxis | None = None) -> nn.Module:
    """The Linen module of a config; ``batch_axis`` as in :func:`models.make_backbone`."""
    return make_backbone(
        config.model,
        mlp_dims=config.mlp_dims,
        dropout=config.dropout,
        cross_layers=config.cross_layers,
        batch_axis=batch_axis,
    )


def embed(
    config: ModelConfig,
    params: Params,
    ids: jax.Array,
    selection: Reading,
) -> tuple[Embedded, jax.Array | None]:
    """What the backbone reads: ``E[ids] * m[ids] * prefix(d)``, and the linear term.

    Args:
      config: the model.
      params: its parameters.
      ids: int32 ``[B, F]``, rows of the table.
      selection: the part of the table to read, or the index of a compact one; of rows as ids see
        them (``Seen``), all.

    Returns:
      ``embedded`` float32 ``[B, F, D]``, of a compact table ragged, and the linear term float32
      ``[B]``, or None.
    """
    if isinstance(selection, CompactIndex):
        return compact.lookup(params.table, selection, ids)
    if isinstance(params.table, Seen):
        seen = params.table
        linear = None if seen.linear is None else jnp.sum(seen.linear, axis=-1)
        return seen.rows, linear
    table: Table = params.table
    rows, mask = table.rows[ids], None
    is_judged_once = selection.learned and table.rows.shape[0] < ids.size
    if selection.learned:
        of_mask = (_learned(config, params), ids, config.mode_threshold, config.norm)
        if is_judged_once:
            # Before it is read, so that gradients are summed by row before they come to its mask.
            once = threshold.mask_once(table.rows, *of_mask)
            rows, mask = (table.rows * once[:, None])[ids], once[ids]
        else:
            mask = threshold.row_mask(rows, *of_mask)
    elif selection.rows is not None:
        mask = selection.rows[ids].astype(rows.dtype)
    linear = None
    if table.linear is not None:
        linear = linear_term(table.linear, ids, mask if config.mode_linear == "prune" else None)
    return select(rows, mask, selection.dims, table.oov, is_masked=is_judged_once), linear


def _learned(config: ModelConfig, params: Params) -> jax.Array:
    """The thresholds by which rows are learned."""
    if params.thresholds is None:
        raise ValueError(f"mode {config.mode!r} has no thresholds to learn rows from")
    return params.thresholds


def view_of(config: ModelConfig, params: Params, selection: Selection) -> RowView:
    """How a model sees the rows of its table, but for the columns.

    Args:
      config: the model.
      params: its parameters, the table whole.
      selection: the part of the table to read.
    """
    return RowView(
        thresholds=_learned(config, params) if selection.learned else None,
        mask=selection.rows,
        oov=params.table.oov,
        level=config.mode_threshold,
        order=config.norm,
        prunes_linear=config.mode_linear == "prune",
    )


def forward(
    config: ModelConfig,
    params: Params,
    batch_stats: Any,
    ids: jax.Array,
    selection: Reading,
    *,
    train: bool = False,
    dropout_key: jax.Array | None = None,
    batch_axis: BatchAxis | None = None,
) -> tuple[jax.Array, Any]:
    """Logits of a batch.

    Args:
      config: the model.
      params: its parameters.
      batch_stats: its running batch statistics.
      ids: int32 ``[B, F]``.
      selection: the part of the table to read, or the index of a compact one.
      train: use and update batch statistics, apply dropout.
      dropout_key: PRNG key, needed in training with dropout.
      batch_axis: that the batch is split over, or None.

    Returns:
      Logits float32 ``[B]`` and the batch statistics, updated when training.
    """
    embedded, linear = embed(config, params, ids, selection)
    variables = {"params": params.network, "batch_stats": batch_stats}
    module = backbone(config, batch_axis)
    if not train:
        logits: Any = module.apply(variables, embedded, linear, train=False)
        return logits, batch_stats
    rngs = None if dropout_key is None else {"dropout": dropout_key}
    logits, updated = module.apply(
        variables, embedded, linear, train=True, rngs=rngs, mutable=["batch_stats"]
    )
    return logits, updated.get("batch_stats", batch_stats)
