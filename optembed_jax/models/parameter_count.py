"""Parameters that a model keeps, counted honestly: the table, and what travels beside it.

The paper reports table parameters only. Linear weights (which it neither prunes nor counts), OOV
vectors and the network are reported beside the table here, and belong to the total.
"""

import dataclasses

import jax
import numpy as np

from optembed_jax.errors import BudgetError
from optembed_jax.fields import Fields
from optembed_jax.method.dimension import parameters_kept
from optembed_jax.models.model_config import DEFAULT_ROW_KEEP, ModelConfig
from optembed_jax.models.params import Params


@dataclasses.dataclass(frozen=True)
class ParameterCount:
    """Numbers that a model needs to predict.

    Attributes:
      table: ``sum_f rows_f * d_f`` over kept rows and columns.
      linear: first-order weights.
      oov: entries of the vectors that pruned ids read.
      network: the backbone as trained, at its full width.
    """

    table: int
    linear: int
    oov: int
    network: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.table + self.linear + self.oov + self.network


def count_parameters(
    model: ModelConfig,
    params: Params,
    fields: Fields,
    rows: np.ndarray | None = None,
    dims: np.ndarray | None = None,
) -> ParameterCount:
    """Parameters kept under a row mask and dimensions.

    Args:
      model: the model.
      params: its parameters; only their shapes matter.
      fields: the data set's fields.
      rows: bool ``[V]``, rows kept; None keeps all.
      dims: int ``[F]``, columns kept; None keeps all ``D``.
    """
    kept = np.ones(fields.num_features, bool) if rows is None else np.asarray(rows)
    columns = np.full(fields.num_fields, model.latent_dim) if dims is None else np.asarray(dims)
    linear = 0
    if params.table.linear is not None:
        linear = int(kept.sum()) if model.mode_linear == "prune" else fields.num_features
    return ParameterCount(
        table=parameters_kept(fields.rows_per_field(kept), columns),
        linear=linear,
        oov=0 if params.table.oov is None else int(columns.sum()),
        network=sum(leaf.size for leaf in jax.tree.leaves(params.network)),
    )


def rows_in_budget(model: ModelConfig, fields: Fields) -> int:
    """Rows that ``row_keep`` and ``max_table_bytes`` pay for, at ``D`` columns; the smaller number.

    Where pruned values share their field's OOV row, a row for each field is among them.

    Args:
      model: the model; without a budget, all rows are kept.
      fields: the data set's fields.

    Raises:
      BudgetError: it pays for less than one row.
    """
    count = fields.num_features
    if not model.has_row_budget:
        return count
    keep = model.row_keep
    if keep is None and model.max_table_bytes is None:
        keep = DEFAULT_ROW_KEEP
    if keep is not None:
        count = min(count, round(keep * fields.num_features))
    if model.max_table_bytes is not None:
        row_bytes = 4 * model.latent_dim
        oov_bytes = fields.num_fields * row_bytes if model.mode_oov == "oov" else 0
        count = min(count, (model.max_table_bytes - oov_bytes) // row_bytes)
        if model.shares_stand_in and count < fields.num_fields:
            raise BudgetError(
                f"{_limit_told(model.max_table_bytes)} pays for {max(count, 0)} rows of "
                f"{row_bytes} bytes, and each of the {fields.num_fields} fields needs one for "
                f"values without a row: {row_bytes * fields.num_fields:,} bytes "
                f"({model.latent_dim * fields.num_fields:,} parameters); raise it"
            )
        if count < 1:
            raise BudgetError(
                f"{_limit_told(model.max_table_bytes)} pays for no row: the smallest table takes "
                f"{oov_bytes + row_bytes:,} bytes ({(oov_bytes + row_bytes) // 4:,} parameters); "
                "raise it"
            )
    if model.shares_stand_in:
        count = max(count, fields.num_fields)
    if count < 1:
        raise BudgetError(
            f"row_keep={keep} leaves none of the {fields.num_features:,} rows; raise it to "
            f"{1 / fields.num_features:.2g} at least"
        )
    return count


def _limit_told(max_bytes: int) -> str:
    """A limit of the table in both units: it may have been given in either."""
    return f"a table of at most {max_bytes:,} bytes ({max_bytes // 4:,} parameters)"
