"""A bundle's raw columns as inputs of an ONNX graph, and what makes ids of them.

A column of texts is an input of strings, ``""`` where a value is missing, and a ``LabelEncoder``
finds the places of its values. A column that is read as numbers, for bins or times of day, is an
input of doubles, NaN where missing.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from onnx import TensorProto

from optembed_jax.errors import InputError
from optembed_jax.targets.onnx_graph import Graph
from optembed_jax.targets.onnx_steps import NUMBER_STEPS
from optembed_jax.values.cells import Cells, in_slots
from optembed_jax.values.description import Description
from optembed_jax.values.lookup import Bins, Lookup
from optembed_jax.values.rule import Rule
from optembed_jax.values.spellings import spellings
from optembed_jax.values.table import texts_of

TEXT, NUMBER = "string", "double"

NOTHING = -1
"""The place of a slot without a value."""


def kind_of(field: Mapping[str, Any]) -> str:
    """The type of the input that a field is made of: texts, or numbers.

    Args:
      field: as ``Description.fields`` has it.

    Raises:
      InputError: the field needs a step that ONNX has no operators for.
    """
    step = field.get("step")
    if field.get("cells") is not None and (not step or step[0] != "lookup"):
        raise InputError(
            f"cells of field {field['name']!r} hold several values, for which there is no input of "
            "texts; give --takes_ids, and encode rows with the bundle"
        )
    if field.get("edges") is not None:
        return NUMBER
    if not step or step[0] == "lookup":
        return TEXT
    if step[0] in NUMBER_STEPS:
        return NUMBER
    raise InputError(
        f"field {field['name']!r} is made by the step {step[0]!r}, which ONNX has no operators "
        "for; give --takes_ids, and encode rows with the bundle"
    )


def input_name(source: str, kind: str, kinds: Iterable[str]) -> str:
    """The name of the input for a raw column: its own, or where it is read as texts and as numbers
    with ``:number`` behind it for the latter.
    """
    return source if kind == TEXT or set(kinds) == {kind} else f"{source}:number"


def inputs_of(description: Description) -> dict[str, tuple[str, str]]:
    """Raw column and type, ``TEXT`` or ``NUMBER``, of each input by its name, in order."""
    kinds: dict[str, list[str]] = {}
    for field in description.fields:
        kinds.setdefault(field["source"], []).append(kind_of(field))
    return {
        input_name(source, kind, found): (source, kind)
        for source, found in kinds.items()
        for kind in dict.fromkeys(found)
    }


class Inputs:
    """Adds the inputs of a bundle's raw columns to a graph, and finds places of their values."""

    def __init__(self, graph: Graph, description: Description, lookup: Lookup) -> None:
        self.graph, self._description, self._lookup = graph, description, lookup
        self._by_column: dict[tuple[str, str], str] = {}
        types = {TEXT: TensorProto.STRING, NUMBER: TensorProto.DOUBLE}
        for name, column in inputs_of(description).items():
            self._by_column[column] = graph.input(name, types[column[1]])

    def places(self) -> list[str]:
        """The place of each slot's value in its field's block, int64 ``[N]``; ``NOTHING`` where it
        has none.
        """
        found = []
        for number, field in enumerate(self._description.fields):
            value = self._by_column[field["source"], kind_of(field)]
            bins, step = self._lookup.bins[number], field.get("step")
            if field.get("cells") is not None:
                found += self._of_cells(value, number, field)
            elif bins is not None:
                found.append(self._in_bins(value, bins))
            elif step and step[0] in NUMBER_STEPS:
                found.append(self._of_step(value, number, step[0]))
            else:
                found.append(self._of_texts(value, number, field))
        return found

    def _in_bins(self, value: str, bins: Bins) -> str:
        """``searchsorted(edges, value, side="right")``: how many edges are not above the value."""
        graph = self.graph
        column = graph.as_column(value)
        number = graph.constant(np.int64(0))
        if len(bins.edges):
            above = graph.op("GreaterOrEqual", column, graph.constant(bins.edges[None]))
            number = graph.sum(graph.op("Cast", above, to=TensorProto.INT64), 1)
        missing = graph.op("IsNaN", value)
        last = graph.constant(np.int64(len(bins.edges) + 1))
        place = graph.op("Where", missing, last, number)
        return graph.op("Gather", graph.constant(bins.places.astype(np.int64)), place)

    def _of_step(self, value: str, number: int, step: str) -> str:
        graph = self.graph
        texts = self._texts(number)
        keys = {int(text): place for text, place in texts.items() if text}
        made = graph.op("Cast", NUMBER_STEPS[step](graph, value), to=TensorProto.INT64)
        place = graph.ml_op(
            "LabelEncoder",
            made,
            keys_int64s=list(keys) or [0],
            values_int64s=list(keys.values()) or [0],
            default_int64=0,
        )
        missing = graph.constant(np.int64(texts.get("", 0)))
        return graph.op("Where", graph.op("IsNaN", value), missing, place)

    def _of_cells(self, value: str, number: int, field: Mapping[str, Any]) -> list[str]:
        """The slots of a field whose values are looked up by a raw one, several at once."""
        slots = cell_keys(field, number, self._description, self._lookup)
        return [self._label(value, keys) for keys in slots]

    def _of_texts(self, value: str, number: int, field: Mapping[str, Any]) -> str:
        rule = self._lookup.rules[number]
        return self._label(value, label_keys(field, self._texts(number), self._description, rule))

    def _label(self, value: str, keys: dict[str | None, int]) -> str:
        default = keys.pop(None, 0)
        return self.graph.ml_op(
            "LabelEncoder",
            value,
            keys_strings=list(keys) or [""],
            values_int64s=list(keys.values()) or [default],
            default_int64=default,
        )

    def _texts(self, field: int) -> dict[str, int]:
        """Places by text, of the missing value by the empty one."""
        texts = self._lookup.field_texts(field)
        found = texts.strings(np.arange(len(texts)))
        return {text: place for place, text in enumerate(found, start=1)}


def label_keys(
    field: Mapping[str, Any], places: Mapping[str, int], description: Description, rule: Rule
) -> dict[str | None, int]:
    """The places of all texts that are looked up for a field; None stands for any other text.

    Args:
      field: as ``Description.fields`` has it; without a step, or with a table to look up.
      places: of the values that have rows, by text.
      description: with the facts that tables are among.
      rule: of the values that have rows.
    """
    found: dict[str | None, int] = {None: 0}
    step = field.get("step")
    if not step:
        for text, place in places.items():
            for key in spellings(rule, text or None):
                found.setdefault(key, place)
        return found
    read = Rule(**field["read"]) if field.get("read") else Rule()
    found[None] = places.get("", 0)  # what is not in the table is a missing value
    for raw, made in description.facts[step[1]].items():
        place = places.get(made[int(step[2])] or "", 0) if made else found[None]
        for key in spellings(read, raw or None):
            found.setdefault(key, place)
    return found


def cell_keys(
    field: Mapping[str, Any], number: int, description: Description, lookup: Lookup
) -> list[dict[str | None, int]]:
    """Of each slot of a field of looked-up cells what :func:`label_keys` gives.

    Args:
      field: as ``Description.fields`` has it, with ``cells`` and a table to look up.
      number: of the field.
      description: with the facts that tables are among.
      lookup: of the values that have rows.
    """
    cells, step = Cells(**field["cells"]), field["step"]
    read = Rule(**field["read"]) if field.get("read") else Rule()
    made: dict[str | None, str | None] = {None: None}
    for raw, parts in description.facts[step[1]].items():
        for key in spellings(read, raw or None):
            made.setdefault(key, parts[int(step[2])] if parts else None)
    own = {cell: cells.values(cell)[: cells.max_values] for cell in set(made.values())}
    texts = [value or "" for values in own.values() for value in values]
    places = lookup.places(texts_of(texts), np.full(len(texts), number, np.int64)).tolist()
    wide = np.full((len(own), cells.max_values), NOTHING, np.int64)
    for row, values in zip(wide, own.values(), strict=True):
        row[: len(values)] = places[: len(values)]
        del places[: len(values)]
    rows = dict(zip(own, in_slots(wide, cells.max_values, 0, NOTHING).tolist(), strict=True))
    return [
        {key: rows[cell][slot] for key, cell in made.items()} for slot in range(cells.max_values)
    ]
