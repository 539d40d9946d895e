"""How a full table is cut: which rows and columns are kept, and what becomes of the rest."""

import dataclasses

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields, dims_array, mask_array
from optembed_jax.method.bag import POOLINGS
from optembed_jax.method.embedding import Table
from optembed_jax.table.stand_in import check_kept


@dataclasses.dataclass(frozen=True, eq=False)
class Cutting:
    """A frozen row mask and frozen dimensions, and what they mean for what they leave.

    Attributes:
      rows: bool ``[V]``, rows kept; None keeps all.
      dims: int ``[F]``, columns kept, each in 0..``D``; None keeps all.
      prunes_linear: whether linear weights of pruned rows go too.
      shares_stand_in: whether pruned values read their field's OOV row, which has to be kept.
      pooling: of fields with several values, one of ``method.bag.POOLINGS``.

    Raises:
      InputError: another pooling.
    """

    rows: np.ndarray | None = None
    dims: np.ndarray | None = None
    prunes_linear: bool = dataclasses.field(kw_only=True)
    shares_stand_in: bool = dataclasses.field(default=False, kw_only=True)
    pooling: str = dataclasses.field(default="mean", kw_only=True)

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise InputError(f"pooling must be one of {', '.join(POOLINGS)}, not {self.pooling!r}")

    def kept(self, table: Table, fields: Fields) -> tuple[np.ndarray, np.ndarray]:
        """The row mask bool ``[V]`` and the dims int ``[F]`` of a table.

        Raises:
          InputError: they do not fit the table, a part of it the others or the fields, or a row is
            not kept that has to be.
        """
        shape = np.shape(table.rows)
        if len(shape) != 2:
            raise InputError(f"the table has rows of shape {list(shape)}, and not [V, D]")
        count, width = shape
        if count != fields.num_features:
            raise InputError(f"the table has {count} rows, the fields {fields.num_features}")
        beside = (
            ("linear weights", table.linear, (count,)),
            ("OOV vectors", table.oov, (fields.num_fields, width)),
        )
        for what, part, wanted in beside:
            if part is not None and np.shape(part) != wanted:
                raise InputError(
                    f"the table has {what} of shape {list(np.shape(part))}, and {list(wanted)} is "
                    "wanted"
                )
        mask = np.ones(count, bool) if self.rows is None else mask_array(self.rows, count)
        widths = np.full(fields.num_fields, width)
        if self.dims is not None:
            widths = dims_array(self.dims, fields.num_fields, width)
        if widths.ndim != 1:
            raise InputError(
                f"dims have shape {list(widths.shape)}: one of each field is wanted, "
                f"[{fields.num_fields}]"
            )
        if self.shares_stand_in:
            check_kept(mask, fields)
        return mask, widths
