"""Raw columns to ids, away from the prepared data set: what a serving artifact carries along.

The same code as in preparation; only the vocabulary, the data set's name and the options that say
how its fields are made travel.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from optembed_jax.data.prepared import PATH_OPTIONS, PreparedData
from optembed_jax.data.raw import coding, columns
from optembed_jax.data.raw.columnar import as_array, as_strings
from optembed_jax.data.raw.columns import Column
from optembed_jax.data.vocabulary import Vocabulary, read_vocabulary, write_vocabulary
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields

RawColumns: TypeAlias = Mapping[str, Sequence[Any]] | pa.Table
"""Raw columns by name, ``N`` values each: strings or numbers, None or "" where missing."""


@dataclasses.dataclass(frozen=True, eq=False)
class Encoder:
    """How raw columns become ids.

    Attributes:
      dataset: name of the data set.
      options: it was prepared with, without the paths of raw files.
      facts: what the data set found in its raw files and its fields need, such as movies by id.
      columns: the ``F`` fields.
      vocabulary: their values.
      counts: training rows that had each value, int64 ``[V]``.
    """

    dataset: str
    options: Mapping[str, Any]
    facts: Mapping[str, Any]
    columns: tuple[Column, ...]
    vocabulary: Vocabulary
    counts: np.ndarray

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the raw columns that are read."""
        return tuple(dict.fromkeys(column.source for column in self.columns))

    def encode(self, rows: RawColumns, first_row: int = 0) -> np.ndarray:
        """Ids int32 ``[N, F]`` of raw rows; values without a row get their field's OOV id.

        Args:
          rows: the raw columns; those that are not needed are ignored.
          first_row: number of the first row, for messages.

        Raises:
          InputError: a column is missing, lengths differ, or a value is unusable.
        """
        arrays = raw_columns(rows, self.sources)
        coded = columns.code_sources(arrays, list(arrays))
        fault = coding.first_fault(self.columns, coded)
        if fault is not None:
            raise InputError(f"row {first_row + fault[0]}: {fault[1]}")
        return self.vocabulary.encode(coding.code_fields(self.columns, coded))

    def write(self, description: pathlib.Path, vocabulary: pathlib.Path) -> None:
        """Write two files: JSON that says how fields are made, and Parquet with their values."""
        edges = {
            field.name: field.edges.tolist()
            for field in self.vocabulary.fields
            if field.edges is not None
        }
        written = {
            "dataset": self.dataset,
            "options": dict(self.options),
            "facts": dict(self.facts),
            "edges": edges,
        }
        # In the order it came, which the fields of some data sets go by.
        description.write_text(json.dumps(written) + "\n", encoding="utf-8")
        fields = self.vocabulary.fields
        counts = np.split(self.counts, self.vocabulary.layout.offsets[1:])
        write_vocabulary(vocabulary, zip(fields, counts, strict=True))


def encoder_of(prepared: PreparedData) -> Encoder:
    """The encoder of a prepared data set."""
    return Encoder(
        dataset=prepared.name,
        options={k: v for k, v in prepared.options.items() if k not in PATH_OPTIONS},
        facts=prepared.facts,
        columns=_in_order(prepared.columns, prepared.fields),
        vocabulary=prepared.vocabulary,
        counts=prepared.counts,
    )


def read_encoder(description: pathlib.Path, vocabulary: pathlib.Path, fields: Fields) -> Encoder:
    """Read what :meth:`Encoder.write` wrote.

    Raises:
      InputError: a file is unreadable, of a data set that this package does not know, or of other
        fields.
    """
    # Here, because tensorflow-datasets takes long to import and only raw columns need it.
    from optembed_jax.data.catalog import DATASETS

    try:
        written = json.loads(description.read_text(encoding="utf-8"))
        edges = {name: np.array(e, np.float64) for name, e in written["edges"].items()}
        made = DATASETS[written["dataset"]].columns_of(written["options"], written["facts"])
        made = _in_order(made, fields)
        counts = pq.read_table(vocabulary, columns=["count"])["count"].to_numpy()
        values = read_vocabulary(vocabulary, fields, edges)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise InputError(
            f"{description} and {vocabulary.name} cannot be used: {error!r}"
        ) from error
    if len(counts) != fields.num_features:
        raise InputError(f"{description} and {vocabulary.name} are of other fields")
    return Encoder(
        dataset=written["dataset"],
        options=written["options"],
        facts=written["facts"],
        columns=made,
        vocabulary=values,
        counts=counts,
    )


def _in_order(made: tuple[Column, ...], fields: Fields) -> tuple[Column, ...]:
    """Columns in the order of the fields, whatever order the description came in.

    Raises:
      KeyError: a field has no column.
    """
    by_name = {column.name: column for column in made}
    return tuple(by_name[name] for name in fields.names)


def raw_columns(rows: RawColumns, wanted: Sequence[str]) -> dict[str, pa.Array]:
    """Raw columns as strings, null where missing.

    Raises:
      InputError: a column is missing, or lengths differ.
    """
    names = rows.column_names if isinstance(rows, pa.Table) else list(rows)
    arrays = {}
    for name in wanted:
        if name not in names:
            raise InputError(f"column {name!r} is missing; the rows have {', '.join(names)}")
        column = rows[name]
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        arrays[name] = as_strings(column if isinstance(column, pa.Array) else as_array(column))
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) > 1:
        raise InputError(f"the columns have different lengths: {sorted(lengths)}")
    return arrays
