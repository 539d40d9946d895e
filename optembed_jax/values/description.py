"""How raw columns become fields, as JSON: all that a reader needs besides the values themselves."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells
from optembed_jax.values.lookup import Bins
from optembed_jax.values.lookup_tables import LookupTable
from optembed_jax.values.rows import RowField
from optembed_jax.values.rule import Rule
from optembed_jax.values.steps import make_step
from optembed_jax.values.unseen import Expected


@dataclasses.dataclass(frozen=True)
class Description:
    """What is made of which raw column.

    Attributes:
      dataset: name of the data set.
      options: it was prepared with, without the paths of raw files.
      facts: what the data set found in its raw files and its fields need, such as movies by id.
      fields: of each of the ``F`` fields its ``name``, ``source``, ``step``, ``cells`` (how what
        that gives is several values), ``read`` (the rule that raw values are read by before the
        step), ``expected`` (a usable value), ``rule`` (of the values that have rows), and of a
        numeric one ``edges`` and ``places``; None where there is nothing to say.
      expected: what share of the rows should have a value without a row.
    """

    dataset: str
    options: Mapping[str, Any]
    facts: Mapping[str, Any]
    fields: Sequence[Mapping[str, Any]]
    expected: Expected

    @property
    def tables(self) -> dict[str, LookupTable]:
        """The facts that fields look values up in, by name, but for empty ones."""
        named = dict.fromkeys(step[1] for step in self._lookups)
        return {name: self.facts[name] for name in named if self.facts[name]}

    @property
    def _lookups(self) -> list[Sequence[Any]]:
        steps = [field.get("step") or [""] for field in self.fields]
        return [step for step in steps if step[0] == "lookup"]

    def as_json(self) -> bytes:
        """The file's content, without :attr:`tables`."""
        tables = self.tables
        written = {
            "dataset": self.dataset,
            "options": dict(self.options),
            "facts": {name: fact for name, fact in self.facts.items() if name not in tables},
            "fields": [{k: v for k, v in field.items() if v is not None} for field in self.fields],
            "expected": {
                "rows": self.expected.rows,
                "unseen": [round(float(share), 6) for share in self.expected.shares],
            },
        }
        # In the order it came, which the fields of some data sets go by.
        return (json.dumps(written, separators=(",", ":")) + "\n").encode()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Which values of each field mean the same."""
        return tuple(_rule(field.get("rule")) or Rule() for field in self.fields)

    @property
    def bins(self) -> tuple[Bins | None, ...]:
        """The bins of the numeric fields, None elsewhere."""
        return tuple(_bins(field) for field in self.fields)

    @property
    def slots(self) -> tuple[int, ...]:
        """The most values of a cell of each field."""
        cells = (_cells(field.get("cells")) for field in self.fields)
        return tuple(1 if own is None else own.max_values for own in cells)

    @property
    def weighted(self) -> tuple[bool, ...]:
        """Whether the values of each field have weights."""
        cells = (_cells(field.get("cells")) for field in self.fields)
        return tuple(own is not None and own.weighted for own in cells)

    def row_fields(self) -> tuple[RowField, ...]:
        """How each field is made of one value.

        Raises:
          InputError: a field needs what this version does not have; the field is named.
        """
        made = []
        for field in self.fields:
            try:
                step = make_step(field.get("step") or (), self.facts)
            except (KeyError, ValueError, TypeError, IndexError) as error:
                raise InputError(
                    f"field {field['name']!r} needs the step {field['step']!r}, which is known "
                    "with pyarrow alone; serve with optembed_jax.bundle, or give ids"
                ) from error
            read, expected = _rule(field.get("read")), field.get("expected", "")
            cells = _cells(field.get("cells"))
            made.append(RowField(field["name"], field["source"], step, read, expected, cells))
        return tuple(made)


def read_description(
    content: bytes, names: Sequence[str], tables: Mapping[str, LookupTable] | None = None
) -> Description:
    """What `Description.as_json` wrote.

    Args:
      content: of the file.
      names: of the fields that it has to be about, in order.
      tables: that fields look values up in; None where the file has them, as it once had.

    Raises:
      InputError: it is no such file, or is about other fields.
    """
    try:
        written = json.loads(content)
        shares = np.array(written["expected"]["unseen"], np.float64)
        rows = written["expected"]["rows"]
        if type(rows) is not int or rows < 1 or shares.shape != (len(names),):
            raise ValueError(f"{rows} rows with shares {shares}")
        if not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"shares {shares}")
        if not isinstance(written["facts"], dict) or not isinstance(written["options"], dict):
            raise ValueError("facts or options are no tables")
        found = Description(
            dataset=written["dataset"],
            options=written["options"],
            facts={**written["facts"], **(tables or {})},
            fields=written["fields"],
            expected=Expected(tuple(names), shares, rows),
        )
        told = [field["name"] for field in found.fields]
        if told != list(names):
            raise ValueError(f"the fields are {told}, not {list(names)}")
        for field in found.fields:
            texts = [field["source"], field.get("expected", "")]
            if not all(isinstance(text, str) for text in texts):
                raise ValueError(f"field {field['name']!r} is described by other than texts")
        if tables is not None and set(tables) != set(found.tables):
            raise ValueError(f"its tables are {sorted(found.tables)}, not {sorted(tables)}")
        for step in found._lookups:
            _check_places(found.facts[step[1]], step[2])
        _ = (
            found.slots,
            found.rules,
            found.bins,
            [_rule(field.get("read")) for field in found.fields],
        )
    except (
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise InputError(f"it does not say how fields are made: {error}") from error
    return found


def describe_field(
    name: str,
    source: str,
    *,
    step: Sequence[Any],
    read: Rule | None,
    expected: str,
    rule: Rule | None,
    bins: Bins | None,
    cells: Cells | None = None,
) -> dict[str, Any]:
    """A field as `Description.fields` has it; None where there is nothing to say."""
    return {
        "name": name,
        "source": source,
        "step": list(step) or None,
        "read": None if read is None else dataclasses.asdict(read),
        "expected": expected or None,
        "rule": None if rule is None or rule.is_plain else dataclasses.asdict(rule),
        "edges": None if bins is None else bins.edges.tolist(),
        "places": None if bins is None else bins.places.tolist(),
        "cells": None if cells is None else _described(cells),
    }


def _check_places(table: LookupTable, place: int) -> None:
    """That each row of a table has texts, and a place."""
    if type(place) is not int or not 0 <= place < min(map(len, table.values()), default=place + 1):
        raise ValueError(f"a table has no place {place!r}")
    for key, row in table.items():
        if type(row) not in (list, tuple) or not all(isinstance(v, str | None) for v in row):
            raise ValueError(f"a table has other than texts of {key!r}")


def _described(cells: Cells) -> dict[str, Any]:
    """Without what older versions of this package do not know, where it says nothing."""
    return {k: v for k, v in dataclasses.asdict(cells).items() if k != "weighted" or v}


def _cells(described: Mapping[str, Any] | None) -> Cells | None:
    return None if described is None else Cells(**described)


def _rule(described: Mapping[str, Any] | None) -> Rule | None:
    return None if described is None else Rule(**described)


def _bins(field: Mapping[str, Any]) -> Bins | None:
    if field.get("edges") is None:
        return None
    places = np.array(field["places"])
    if places.dtype.kind != "i" or places.ndim != 1:
        raise ValueError(f"field {field['name']!r} has the places {field['places']}")
    edges = np.array(field["edges"], np.float64)
    if edges.ndim != 1 or not np.isfinite(edges).all():
        raise ValueError(f"field {field['name']!r} has the edges {field['edges']}")
    return Bins(edges, places.astype(np.int32))
