"""A model of whose table single numbers are kept: trained full behind a mask, stored without it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Selection
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.kept_table import Cut
from optembed_jax.table.compact import CompactIndex
from optembed_jax.table.elements import ELEMENTS, pack_mask, unpack_mask
from optembed_jax.table.memory import rows_of_table
from optembed_jax.table.view import Seen


@flax.struct.dataclass
class KeptElements(Selection):
    """What ids read of a full table behind a mask; every device has all of the mask.

    Attributes:
      elements: bool ``[V, D]``, numbers that are kept.
    """

    elements: jax.Array = flax.struct.field(default=None)

    def joined(self, seen: Sequence[Seen], ids: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """What the backbone reads, of what the ids see."""
        rows, linear = super().joined(seen, ids)
        kept = jnp.asarray(self.elements).at[ids].get(mode="fill", fill_value=False)
        return rows * kept, linear


@dataclasses.dataclass(frozen=True, eq=False)
class ElementTable:
    """A :class:`kept_table.KeptTable` of single numbers; each field has one value in a cell.

    Attributes:
      elements: bool ``[V, D]``, numbers that are kept.
      num_fields: ``F``.
    """

    elements: np.ndarray
    num_fields: int

    storage = ELEMENTS
    """Zeros take a bit."""

    shares_rows = False

    @property
    def rows(self) -> np.ndarray:
        """Rows with a number, bool ``[V]``; the others read zeros."""
        return np.asarray(self.elements.any(axis=1))

    @property
    def dims(self) -> np.ndarray:
        """``D`` of each field, int32 ``[F]``: which columns are kept differs between rows."""
        return np.full(self.num_fields, self.elements.shape[1], np.int32)

    def numbers(self, fields: Fields) -> int:
        """Kept numbers."""
        del fields
        return int(self.elements.sum())

    def linear_weights(self, model: ModelConfig, fields: Fields) -> int:
        """All: a value without a number in its row keeps its weight."""
        del model
        return fields.num_features

    def rows_per_field(self, fields: Fields) -> np.ndarray:
        """Rows with a number."""
        return fields.rows_per_field(self.rows)

    def numbers_per_field(self, fields: Fields) -> np.ndarray:
        """Kept numbers of its rows."""
        of_rows = self.elements.sum(axis=1)
        return np.bincount(fields.field_of_row, of_rows, fields.num_fields).astype(np.int64)

    @property
    def stored_rows(self) -> int:
        """Rows with a number."""
        return int(self.rows.sum())

    def arrays(self) -> dict[str, np.ndarray]:
        """The mask in bits."""
        dim = np.array(self.elements.shape[1], np.int64)
        return {"elements": pack_mask(self.elements), "dim": dim}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], fields: Fields) -> "ElementTable":
        """The inverse of :meth:`arrays`."""
        return cls(unpack_mask(arrays["elements"], int(arrays["dim"])), fields.num_fields)

    def cut(self, model: ModelConfig, full: Params, fields: Fields) -> Cut:
        """The full table, zeros where nothing is kept: they stay, and are not read."""

        def masked(params: Params) -> Params:
            rows = np.asarray(params.table.rows) * self.elements
            table = dataclasses.replace(params.table, rows=rows)
            return dataclasses.replace(params, table=table)

        def settled(params: Params, settle: Callable[[Any], Any]) -> Params:
            table = settle(params.table)
            if table is params.table:
                return params
            return masked(dataclasses.replace(params, table=table))

        return Cut(
            masked(full),
            self.read_by(model, fields),
            rows_of_table(fields, model.latent_dim),
            lambda params: params,
            settled,
        )

    def saved_as(self, full: Any) -> Any:
        """As it is, full."""
        return full

    def read_by(self, model: ModelConfig, fields: Fields) -> KeptElements:
        """All rows, behind the mask."""
        del model, fields
        return KeptElements(elements=jax.device_put(self.elements))

    def compact(
        self, model: ModelConfig, params: Params, fields: Fields
    ) -> tuple[Params, CompactIndex]:
        """All rows, with their zeros; what is stored of them is up to :attr:`storage`."""
        return compact(model, params, fields)
