"""What is kept of a full model, in whatever form: how that is trained again, saved and served.

:class:`RowsAndDims` keeps some rows and, of each field, the first columns: the form of OptEmbed.
Other forms are beside it, a file each.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from optembed_jax.fields import Fields
from optembed_jax.method.bag import bags_of
from optembed_jax.method.dimension import parameters_kept
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Embeds, Reading, Selection
from optembed_jax.serving.compact_model import (
    compact,
    expand,
    expand_network,
    keep,
    shrink_network,
)
from optembed_jax.table.memory import StackRows, rows_of_stacks


@dataclasses.dataclass(frozen=True)
class Cut:
    """A full model cut to what is kept, to be trained.

    Attributes:
      params: on the host.
      reading: how ids read them.
      places: which rows of the table as it is saved each stack has.
      saved: the parameters as they are saved, of those that were trained.
      settled: trained parameters as they are once a table, as it is saved, has gone through
        a function, such as one that gives stand-ins to what has no row.
      shrunk: of the full network, or moments in its structure, what is trained.
      widened: the inverse: ``(small, full=)`` gives the full one with the small one in its place.
    """

    params: Params
    reading: Reading
    places: tuple[StackRows, ...]
    saved: Callable[[Params], Params]
    settled: Callable[[Params, Callable[[Any], Any]], Params]
    shrunk: Callable[[Any], Any] = lambda network: network
    widened: Callable[..., Any] = lambda small, full: small


class KeptTable(Protocol):
    """What is kept of a table, and in which form."""

    @property
    def rows(self) -> np.ndarray:
        """Values that read something of their own, bool ``[V]``."""

    @property
    def dims(self) -> np.ndarray:
        """Columns that the values of each field read, int32 ``[F]``."""

    @property
    def storage(self) -> str:
        """Of rows in a bundle, where nothing else is asked for."""

    def numbers(self, fields: Fields) -> int:
        """Numbers of the table that are kept, linear weights apart."""

    def linear_weights(self, model: ModelConfig, fields: Fields) -> int:
        """First-order weights that are kept, of a model that has any."""

    def rows_per_field(self, fields: Fields) -> np.ndarray:
        """Rows that are stored for each field, int ``[F]``; what fields share counts for each."""

    def numbers_per_field(self, fields: Fields) -> np.ndarray:
        """Numbers that are stored for each field, int64 ``[F]``; in all :meth:`numbers`, but where
        fields share rows.
        """

    @property
    def stored_rows(self) -> int:
        """Rows that are stored, of all fields."""

    @property
    def shares_rows(self) -> bool:
        """Whether a row may be read by values of several fields."""

    def arrays(self) -> dict[str, np.ndarray]:
        """All that makes it again, with the fields: the inverse of ``from_arrays``."""

    def cut(self, model: ModelConfig, full: Params, fields: Fields) -> Cut:
        """A full model, cut to be trained."""

    def saved_as(self, full: Any) -> Any:
        """Parameters as they are saved, of a full model's; or shapes, of shapes."""

    def read_by(self, model: ModelConfig, fields: Fields) -> Embeds:
        """How ids read a table as it is saved."""

    def compact(self, model: ModelConfig, params: Params, fields: Fields) -> tuple[Params, Any]:
        """Parameters to be served, of saved ones, and how ids read them."""


@dataclasses.dataclass(frozen=True)
class RowsAndDims:
    """Some rows of a full table, and the first columns of each field.

    Attributes:
      rows: bool ``[V]``.
      dims: int32 ``[F]``, columns of each field, in 1..``D``.
    """

    rows: np.ndarray
    dims: np.ndarray

    storage, shares_rows = "float32", False

    def numbers(self, fields: Fields) -> int:
        """``sum_f rows_f * d_f``."""
        return parameters_kept(fields.rows_per_field(self.rows), self.dims)

    def linear_weights(self, model: ModelConfig, fields: Fields) -> int:
        """Those of kept rows, or all."""
        return int(self.rows.sum()) if model.mode_linear == "prune" else fields.num_features

    def rows_per_field(self, fields: Fields) -> np.ndarray:
        """Kept rows."""
        return fields.rows_per_field(self.rows)

    def numbers_per_field(self, fields: Fields) -> np.ndarray:
        """``rows_f * d_f``."""
        return fields.rows_per_field(self.rows) * np.asarray(self.dims, np.int64)

    @property
    def stored_rows(self) -> int:
        """Kept rows."""
        return int(self.rows.sum())

    def arrays(self) -> dict[str, np.ndarray]:
        """Rows and dims."""
        return {"rows": self.rows, "dims": self.dims.astype(np.int32)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], fields: Fields) -> "RowsAndDims":
        """The inverse of :meth:`arrays`."""
        del fields
        return cls(arrays["rows"], arrays["dims"])

    def pruned(self, model: ModelConfig) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Rows and dims where the mode of ``model`` prunes them, else None, as ``compact`` asks."""
        rows = self.rows if model.prunes_rows else None
        return rows, self.dims if model.searches_dims else None

    def cut(self, model: ModelConfig, full: Params, fields: Fields) -> Cut:
        """On arrays that hold only what is kept, which gives what masks give."""
        small, reading = keep(model, full, fields, *self.pruned(model))

        def saved(params: Params) -> Params:
            return expand(model, params, reading, fields, full)

        def settled(params: Params, settle: Callable[[Any], Any]) -> Params:
            whole = saved(params)
            table = settle(whole.table)
            if table is whole.table:
                return params
            again = dataclasses.replace(whole, table=table)
            return keep(model, again, fields, *self.pruned(model))[0]

        return Cut(
            small,
            reading,
            rows_of_stacks(reading, fields),
            saved,
            settled,
            functools.partial(shrink_network, model, reading=reading),
            functools.partial(expand_network, model, reading=reading),
        )

    def saved_as(self, full: Any) -> Any:
        """As they are, full."""
        return full

    def read_by(self, model: ModelConfig, fields: Fields) -> Embeds:
        """A frozen selection; of all rows where stand-ins are in the place of pruned ones."""
        return Selection(
            rows=None if model.shares_stand_in else jax.device_put(self.rows),
            dims=jax.device_put(self.dims),
            bags=bags_of(fields, model.pooling),
        )

    def compact(self, model: ModelConfig, params: Params, fields: Fields) -> tuple[Params, Any]:
        """See :func:`compact_model.compact`."""
        return compact(model, params, fields, *self.pruned(model))
