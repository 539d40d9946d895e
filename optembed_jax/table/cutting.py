"""How a full table is cut: which rows and columns are kept, and what becomes of the rest."""

import dataclasses

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.table.stand_in import check_kept


@dataclasses.dataclass(frozen=True, eq=False)
class Cutting:
    """A frozen row mask and frozen dimensions, and what they mean for what they leave.

    Attributes:
      rows: bool ``[V]``, rows kept; None keeps all.
      dims: int ``[F]``, columns kept, each in 0..``D``; None keeps all.
      prunes_linear: whether linear weights of pruned rows go too.
      shares_stand_in: whether pruned values read their field's OOV row, which has to be kept.
      pooling: of fields with several values.
    """

    rows: np.ndarray | None = None
    dims: np.ndarray | None = None
    prunes_linear: bool = dataclasses.field(kw_only=True)
    shares_stand_in: bool = dataclasses.field(default=False, kw_only=True)
    pooling: str = dataclasses.field(default="mean", kw_only=True)

    def kept(self, shape: tuple[int, ...], fields: Fields) -> tuple[np.ndarray, np.ndarray]:
        """The row mask bool ``[V]`` and the dims int ``[F]`` of a table of this shape.

        Raises:
          InputError: they do not fit the table, or a row is not kept that has to be.
        """
        count, width = shape
        if count != fields.num_features:
            raise InputError(f"the table has {count} rows, the fields {fields.num_features}")
        mask = np.ones(count, bool) if self.rows is None else np.asarray(self.rows) != 0
        widths = np.full(fields.num_fields, width) if self.dims is None else np.asarray(self.dims)
        if mask.shape != (count,):
            raise InputError(f"the row mask has shape {mask.shape}, the table {count} rows")
        if widths.shape != (fields.num_fields,):
            raise InputError(
                f"dims have shape {widths.shape}, there are {fields.num_fields} fields"
            )
        if widths.min() < 0 or widths.max() > width:
            raise InputError(f"dims must be in 0..{width}, not {widths.min()}..{widths.max()}")
        if self.shares_stand_in:
            check_kept(mask, fields)
        return mask, widths
