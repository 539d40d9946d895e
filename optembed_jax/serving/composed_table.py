"""A model whose table is composed of fewer rows than values: trained, saved and served as those."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from optembed_jax.fields import Fields
from optembed_jax.method.embedding import Table
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Embeds
from optembed_jax.serving.kept_table import Cut
from optembed_jax.table.compact import CompactTable
from optembed_jax.table.composed import ComposedIndex, fields_of_stack, index_of, reading_of
from optembed_jax.table.composition import Composition, composition_of, rows_read
from optembed_jax.table.memory import rows_of_table
from optembed_jax.table.stacks import Stacks

_FACTORS = (0.5, 1.5)
"""Between which factors begin: near the one that changes nothing."""


@dataclasses.dataclass(frozen=True)
class ComposedTable:
    """A :class:`kept_table.KeptTable` of which every value reads a product of stored rows.

    Attributes:
      composition: which.
      dim: ``D``, columns of all rows.
      seed: of what factors begin with.
    """

    composition: Composition
    dim: int
    seed: int

    storage = "float32"

    @property
    def rows(self) -> np.ndarray:
        """All values read something, bool ``[V]``."""
        return np.ones(sum(self.composition.sizes), bool)

    @property
    def dims(self) -> np.ndarray:
        """``D`` of each field, int32 ``[F]``."""
        return np.full(len(self.composition.sizes), self.dim, np.int32)

    def numbers(self, fields: Fields) -> int:
        """``R * D``."""
        del fields
        return self.composition.rows * self.dim

    def linear_weights(self, model: ModelConfig, fields: Fields) -> int:
        """One of each stored row."""
        del model, fields
        return self.composition.rows

    def rows_per_field(self, fields: Fields) -> np.ndarray:
        """Stored rows that its values read."""
        del fields
        return rows_read(self.composition)

    def numbers_per_field(self, fields: Fields) -> np.ndarray:
        """``D`` of each stored row that its values read."""
        return self.rows_per_field(fields) * self.dim

    @property
    def stored_rows(self) -> int:
        """``R``."""
        return self.composition.rows

    @property
    def shares_rows(self) -> bool:
        """Whether values of several fields may read a row."""
        return self.composition.crosses_fields

    def arrays(self) -> dict[str, np.ndarray]:
        """A line about it, as bytes, and two numbers."""
        line = json.dumps(self.composition.described()).encode()
        return {
            "composition": np.frombuffer(line, np.uint8).copy(),
            "dim": np.array(self.dim, np.int64),
            "seed": np.array(self.seed, np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], fields: Fields) -> "ComposedTable":
        """The inverse of :meth:`arrays`."""
        described = json.loads(arrays["composition"].tobytes())
        composition = composition_of(fields.sizes, described)
        return cls(composition, int(arrays["dim"]), int(arrays["seed"]))

    def cut(self, model: ModelConfig, full: Params, fields: Fields) -> Cut:
        """One stack of the stored rows.

        A row begins with what the full table has for the first value that reads it, times that
        value's sign; a factor, which changes what another row says, with numbers about 1, so that
        its values begin near where those of the full table would.
        """
        stack = fields_of_stack(self.composition, fields)
        stacks = Stacks((self._begun(full.table),), (stack,))

        def saved(params: Params) -> Params:
            return dataclasses.replace(params, table=params.table.stacks[0])

        return Cut(
            Params(table=stacks, thresholds=None, network=full.network),
            reading_of(self.composition, fields, self.dim, model.pooling),
            rows_of_table(stack, self.dim),
            saved,
            lambda params, settle: params,  # There is no value without a row.
        )

    def _begun(self, table: Table) -> Table:
        places, signs = self.composition.places, self.composition.signs
        rows = np.zeros((self.composition.rows, self.dim), np.float32)
        linear = None if table.linear is None else np.zeros(len(rows), np.float32)
        # Backwards: the first value is written last.
        sign = 1 if signs is None else signs[::-1, None]
        rows[places[0][::-1]] = np.asarray(table.rows)[::-1] * sign
        rng = np.random.default_rng(self.seed)
        for factor in places[1:]:
            which = np.unique(factor[factor < len(rows)])
            rows[which] = rng.uniform(*_FACTORS, (len(which), self.dim)).astype(np.float32)
            if linear is not None:
                linear[which] = 1.0
        return Table(rows=rows, linear=linear)  # type: ignore[arg-type]

    def saved_as(self, full: Any) -> Any:
        """With a table of the stored rows alone."""
        count, table = self.composition.rows, full.table

        def of_rows(array: Any) -> Any:
            return jax.ShapeDtypeStruct((count, *array.shape[1:]), array.dtype)

        stored = Table(
            rows=of_rows(table.rows),
            linear=None if table.linear is None else of_rows(table.linear),
        )
        return dataclasses.replace(full, table=stored)

    def read_by(self, model: ModelConfig, fields: Fields) -> Embeds:
        """As in training."""
        return reading_of(self.composition, fields, self.dim, model.pooling)

    def compact(
        self, model: ModelConfig, params: Params, fields: Fields
    ) -> tuple[Params, ComposedIndex]:
        """One array of the stored rows."""
        table: Any = params.table
        linear = None if table.linear is None else jax.device_put(table.linear)
        served = CompactTable(rows=(jax.device_put(table.rows),), linear=linear)
        index = index_of(self.composition, fields, self.dim, model.pooling)
        return Params(table=served, thresholds=None, network=params.network), index
