"""A prepared data set: what it is of, its rows as arrays, and what is to be told of it.

Its folder holds ArrayRecord shards (blocks of shuffled rows, see `blocks.py`),
`vocabulary.parquet`, `prepared.json` (`manifest.py`), the files of tensorflow-datasets, and
`rejects.csv` where bad rows were tolerated.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from optembed_jax.data import blocks, vocabulary
from optembed_jax.data.encoder import Encoder, expected_of, in_order
from optembed_jax.data.manifest import VOCABULARY, Shard, WeightSums
from optembed_jax.data.options import PATH_OPTIONS
from optembed_jax.data.raw.columns import Column
from optembed_jax.data.raw.files import FileIdentity
from optembed_jax.data.splits import SPLITS, check_split
from optembed_jax.data.vocabulary import Vocabulary
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.values.cells import with_slots
from optembed_jax.values.rule import TEXT, Rule
from optembed_jax.values.unseen import Expected


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedData:
    """A prepared data set.

    Attributes:
      name: the data set's name.
      path: its folder.
      fields: names, sizes and offsets of the ``F`` fields.
      counts: occurrences of each row in the training split, int64 ``[V]``.
      num_rows: rows of each split.
      label_rate: mean label of each split, weighted where rows are.
      unseen: rows of each split whose value has no row (those of the OOV row), by field's name.
      options: the options it was prepared with, as plain values.
      facts: what the data set tells beyond that, such as the planted truth of `synthetic`.
      rejected: rows that were set aside as unusable, in `rejects.csv`.
      cut: values of cells beyond `max_values`, which are not read, by field's name where there are.
      sources: the raw files.
      shards: the shards of each split.
      weights: where rows are weighted, the sums of the weights of each split, and of their squares.
      weightless: rows that were left out because they count nothing.
      negative_share: of the training rows with label 0 (of their weight), the share that was drawn.
      fingerprint: hexadecimal; equal exactly when options, vocabulary and rows are equal.
    """

    name: str
    path: pathlib.Path
    fields: Fields
    counts: np.ndarray
    num_rows: Mapping[str, int]
    label_rate: Mapping[str, float]
    unseen: Mapping[str, Mapping[str, int]]
    options: Mapping[str, Any]
    facts: Mapping[str, Any]
    rejected: int
    cut: Mapping[str, int]
    sources: tuple[FileIdentity, ...]
    shards: Mapping[str, tuple[Shard, ...]]
    fingerprint: str
    columns: tuple[Column, ...]
    _edges: Mapping[str, np.ndarray]
    _rules: Mapping[str, Rule]
    weights: Mapping[str, WeightSums] | None = None
    weightless: int = 0
    negative_share: float = 1.0

    @property
    def is_weighted(self) -> bool:
        """Whether some rows count more than others."""
        return self.weights is not None

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """Raw values to ids and back; read from the folder at first use."""
        return vocabulary.read_vocabulary(
            self.path / VOCABULARY, self.fields, self._edges, self._rules
        )

    @functools.cached_property
    def expected(self) -> Expected:
        """What share of new rows should have a value without a row, from the training counts."""
        return expected_of(self.columns, self.fields, self.counts, int(self.options["min_count"]))

    def surprises(self) -> list[str]:
        """A line for each field of which a later split has far more unseen values than expected."""
        found = []
        for split in SPLITS[1:]:
            rows = self.num_rows[split]
            unseen = np.array([self.unseen[split][name] for name in self.fields.names], np.int64)
            for field in self.expected.surprising(unseen, rows).tolist():
                found.append(f"{split}: {self.expected.line(field, int(unseen[field]), rows)}")
        return found

    def doubts(self) -> list[str]:
        """What may have been meant otherwise, a line each.

        Values that are written in two ways, each of which got a row, as where a file has both 12
        and 12.0; and cells that a separator divides nowhere.
        """
        plain = [
            number
            for number, column in enumerate(self.columns)
            if column.is_plain and self._rules.get(column.name, Rule()).kind == TEXT
        ]
        lines = []
        for number in plain:
            # Read for this alone, field by field: training does not need it.
            field = vocabulary.read_field(self.path / VOCABULARY, self.fields, number)
            twins = Vocabulary.of([field]).lookup.twins(0)
            lines += [
                f"field {self.columns[number].name!r}: {len(twins):,} of its values are "
                f"written in two ways, such as {one!r} and {other!r}, and are two values each; "
                "write the column in one way if they mean the same"
                for one, other in [*twins.items()][:1]
            ]
        for column, slots in zip(self.columns, self.fields.slots, strict=True):
            cells = column.cells
            if slots == 1 and cells is not None and cells.separator and cells.max_values > 1:
                lines.append(
                    f"field {column.name!r}: no cell holds more than one value; is "
                    f"separator={cells.separator!r} what stands between them?"
                )
        return lines

    def left_out(self) -> list[str]:
        """What of the raw files is not in the data, a line each: values cut, rows set aside."""
        lines = [
            f"field {name!r}: {count:,} values were cut from cells that hold more than "
            f"max_values={self.options['max_values']}"
            for name, count in self.cut.items()
        ]
        if self.rejected:
            lines.append(f"{self.rejected:,} unusable rows set aside in rejects.csv")
        if self.weightless:
            lines.append(f"{self.weightless:,} rows of weight 0 left out")
        return lines

    def clicks(self, split: str) -> int:
        """Rows of a split whose label is 1; of weighted ones, how many alike would say as much.

        Raises:
          InputError: there is no such split.
        """
        if self.weights is not None:
            sums = self.weights[check_split(split)]
            return max(1, round(sums.sum[1] ** 2 / sums.squares[1]))
        return round(self.label_rate[check_split(split)] * self.num_rows[split])

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """A whole split in stored order: ids int32 ``[N, F]`` and labels float32 ``[N]``.

        Of fields with several values ids are ``[N, S]``, ``V`` in slots without a value; where
        values have weights ``[N, S + W]`` (`fields.Fields`).

        Raises:
          InputError: there is no such split.
        """
        rows = self.num_rows[check_split(split)]
        ids = np.empty((rows, self.fields.num_columns), np.int32)
        labels = np.empty(rows, np.float32)
        first = 0
        for part in self._parts(split):
            ids[first : first + len(part.ids)] = part.ids
            labels[first : first + len(part.ids)] = part.labels
            first += len(part.ids)
        return ids, labels

    def weights_of(self, split: str) -> np.ndarray | None:
        """How much the rows of a split count, float32 ``[N]`` above 0, as `arrays` has them.

        None where all count alike.

        Raises:
          InputError: there is no such split.
        """
        check_split(split)
        if not self.is_weighted:
            return None
        return np.concatenate([blocks.weights_of(part) for part in self._parts(split)])

    @functools.cached_property
    def weight_of_values(self) -> np.ndarray | None:
        """What the training rows that have each value weigh together, float64 ``[V]``.

        None where all rows count alike. Read from the shards at first use.
        """
        if not self.is_weighted:
            return None
        total = np.zeros(self.fields.num_features + 1)  # the last of slots without a value
        for part in self._parts("train"):
            weights = blocks.weights_of(part).astype(np.float64)
            np.add.at(total, part.ids[:, : self.fields.num_slots], weights[:, None])
        return total[:-1]

    def groups(self, split: str) -> np.ndarray:
        """What the rows of a split are grouped by, in stored order, as `arrays` has them.

        Returns:
          Hashes of the values of the column that `group` names, int64 ``[N]``; 0 where missing.

        Raises:
          InputError: there is no such split, or the data were prepared without groups.
        """
        if self.options.get("group") is None:
            raise InputError(f"{self.path} was prepared without group: its rows are in no groups")
        parts = [np.zeros(0, np.int64)]
        for part in self._parts(check_split(split)):
            if part.groups is None:
                raise InputError(
                    f"the {split} split in {self.path} has no groups; prepare it again"
                )
            parts.append(part.groups)
        return np.concatenate(parts)

    def _parts(self, split: str) -> Iterator[blocks.Part]:
        """The records of a split in stored order."""
        for shard in self.shards[split]:
            reader = blocks.ShardReader(self.path / shard.file, self.fields.num_columns)
            for number in range(blocks.num_blocks(shard.rows)):
                yield from reader.read([number])

    def encode(self, rows: Mapping[str, Sequence[Any]] | pa.Table) -> np.ndarray:
        """Encodes new rows with this vocabulary, by the code that encoded the prepared ones.

        Args:
          rows: the raw columns by name, ``N`` values each, as they stand in the raw files (strings
            or numbers; None or "" where missing). Columns that are not needed are ignored.

        Returns:
          Ids int32 ``[N, F]``; values without a row get their field's OOV id. Of fields with
          several values ``[N, S]``: of a cell that has more than any here, the first ones.

        Raises:
          InputError: a column is missing, lengths differ, or a value is unusable.
        """
        encoder, fields = encoder_of(self), self.fields
        ids = encoder.encode(rows)
        return with_slots(ids, encoder.slots, fields.slots, fields.num_features, fields.weighted)


def encoder_of(prepared: PreparedData) -> Encoder:
    """The encoder of a prepared data set."""
    return Encoder(
        dataset=prepared.name,
        options={k: v for k, v in prepared.options.items() if k not in PATH_OPTIONS},
        facts=prepared.facts,
        columns=in_order(prepared.columns, prepared.fields),
        vocabulary=prepared.vocabulary,
        expected=prepared.expected,
    )
