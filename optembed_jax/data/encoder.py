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

from optembed_jax.data.formats.registry import DATASETS
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
      counts: training rows that had each value, int64 ``[V]``; None where they are not told.
    """

    dataset: str
    options: Mapping[str, Any]
    facts: Mapping[str, Any]
    columns: tuple[Column, ...]
    vocabulary: Vocabulary
    counts: np.ndarray | None

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

    def keep(self, rows: np.ndarray) -> "Encoder":
        """The encoder of the rows that are kept, bool ``[V]``, and of all OOV rows.

        A value that is not kept gets the id of its field's OOV row.
        """
        kept = np.array(rows, bool)
        kept[self.vocabulary.layout.oov_ids] = True
        counts = self.counts
        if counts is not None:
            pruned = np.where(kept, 0, counts)
            layout = self.vocabulary.layout
            counts = counts.copy()
            counts[layout.oov_ids] += np.bincount(
                layout.field_of_row, pruned, minlength=layout.num_fields
            ).astype(counts.dtype)
            counts = counts[kept]
        return dataclasses.replace(self, vocabulary=self.vocabulary.keep(kept), counts=counts)

    def write(self, description: pathlib.Path, vocabulary: pathlib.Path) -> None:
        """Write two files: JSON that says how fields are made, and Parquet with their values."""
        edges = {
            field.name: field.edges.tolist()
            for field in self.vocabulary.fields
            if field.edges is not None
        }
        places = {
            field.name: field.bin_places.tolist()
            for field in self.vocabulary.fields
            if field.bin_places is not None
        }
        written = {
            "dataset": self.dataset,
            "options": dict(self.options),
            "facts": dict(self.facts),
            "edges": edges,
        } | ({"bin_places": places} if places else {})
        # In the order it came, which the fields of some data sets go by.
        description.write_text(json.dumps(written) + "\n", encoding="utf-8")
        fields = self.vocabulary.fields
        counts: list[np.ndarray | None] = [None] * len(fields)
        if self.counts is not None:
            counts = list(np.split(self.counts, self.vocabulary.layout.offsets[1:]))
        write_vocabulary(vocabulary, zip(fields, counts, strict=True))


def read_encoder(description: pathlib.Path, vocabulary: pathlib.Path, fields: Fields) -> Encoder:
    """Read what :meth:`Encoder.write` wrote.

    Raises:
      InputError: a file is unreadable, of a data set that this package does not know, or of other
        fields.
    """
    try:
        written = json.loads(description.read_text(encoding="utf-8"))
        edges = {name: np.array(e, np.float64) for name, e in written["edges"].items()}
        made = DATASETS[written["dataset"]].columns_of(written["options"], written["facts"])
        made = in_order(made, fields)
        places = {
            name: _checked_places(name, p, edges, fields)
            for name, p in written.get("bin_places", {}).items()
        }
        column = pq.read_table(vocabulary, columns=["count"])["count"]
        values = read_vocabulary(vocabulary, fields, edges, places)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise InputError(
            f"{description} and {vocabulary.name} cannot be used: {error!r}"
        ) from error
    if len(column) != fields.num_features:
        raise InputError(f"{description} and {vocabulary.name} are of other fields")
    return Encoder(
        dataset=written["dataset"],
        options=written["options"],
        facts=written["facts"],
        columns=made,
        vocabulary=values,
        counts=None if column.null_count else column.to_numpy(),
    )


def _checked_places(
    name: str, places: Sequence[int], edges: Mapping[str, np.ndarray], fields: Fields
) -> np.ndarray:
    """Raises ValueError unless each row of a numeric field but the OOV row has one bin."""
    found = np.array(places, np.int32)
    rows = np.sort(found[found != 0])
    size = fields.sizes[fields.names.index(name)]
    if len(found) != len(edges[name]) + 2 or not np.array_equal(rows, np.arange(1, size)):
        raise ValueError(f"the bins of {name!r} do not lead to its {size - 1} rows")
    return found


def in_order(made: tuple[Column, ...], fields: Fields) -> tuple[Column, ...]:
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
