"""Rows that a bundle is compared on with what it was written as: ids, and raw columns."""

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.values.description import Description
from optembed_jax.values.lookup import Lookup

ROWS = 2048
TOLERANCE = 1e-5
"""Largest difference in a logit, relative to the larger of 1 and the logit."""

UNSEEN = "\u2047 never seen"


def probe_ids(fields: Fields, rows: int = ROWS) -> np.ndarray:
    """Ids int32 ``[rows, S]``, the same ones for the same fields; the first row is all stand-ins,
    the second has each field's last id, the others are drawn. Of the slots of a cell the first
    ones have values, of the third row none.
    """
    rng, of_slot = np.random.default_rng(0), fields.field_of_slot
    sizes, slots = np.array(fields.sizes)[of_slot], np.array(fields.slots)
    local = rng.integers(0, sizes, (rows, len(sizes)))
    local[0] = 0
    local[min(1, rows - 1)] = sizes - 1
    ids = local + fields.offsets[of_slot]
    filled = rng.integers(0, slots + 1, (rows, len(slots)))
    filled[2:3] = 0
    number = np.arange(len(of_slot)) - (np.cumsum(slots) - slots)[of_slot]
    ids[(number >= filled[:, of_slot]) & (slots > 1)[of_slot]] = fields.num_features
    return ids.astype(np.int32)


def probe_columns(
    description: Description, lookup: Lookup, rows: int = ROWS
) -> dict[str, list[Any]]:
    """Raw values by column, ``rows`` of each: such as have rows, others, and missing ones.

    Args:
      description: how fields are made of columns.
      lookup: their values.
      rows: how many; the same ones for the same bundle.
    """
    rng = np.random.default_rng(1)
    candidates: dict[str, list[Any]] = {}
    for number, field in enumerate(description.fields):
        found = candidates.setdefault(field["source"], [])
        if not found or isinstance(found[0], str) == (_kind(field) == "text"):
            found += _candidates(number, field, description, lookup, rng)
    return {
        source: [found[at] for at in rng.integers(0, len(found), rows).tolist()]
        for source, found in candidates.items()
    }


def _kind(field: Mapping[str, Any]) -> str:
    step = field.get("step")
    if field.get("edges") is not None:
        return "number"
    return "text" if not step or step[0] == "lookup" else "number"


def _candidates(
    number: int,
    field: Mapping[str, Any],
    description: Description,
    lookup: Lookup,
    rng: np.random.Generator,
) -> list[Any]:
    bins, step = lookup.bins[number], field.get("step")
    if bins is not None:
        edges = bins.edges if len(bins.edges) else np.zeros(1)
        near = np.concatenate([edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)])
        return [*near.tolist(), float(edges[0]) - 1.0, float(edges[-1]) + 1.0, None]
    if step and step[0] == "lookup":
        known = list(description.facts[step[1]])
        return [*rng.permutation(known)[:ROWS].tolist(), UNSEEN]
    if not step:
        texts = lookup.field_texts(number)
        chosen = rng.permutation(len(texts))[:ROWS]
        return [*texts.strings(chosen), UNSEEN, ""]
    if step[0] == "log_bucket":
        return [*range(-3, 12), *rng.integers(12, 10**7, 200).tolist(), None]
    start = datetime.datetime(2013, 12, 28)
    hours = [start + datetime.timedelta(hours=int(h)) for h in rng.integers(0, 20000, 400)]
    if field.get("expected", "").startswith("YYMMDDHH") or step[0] in _AVAZU:
        return [int(moment.strftime("%y%m%d%H")) for moment in hours]
    return rng.integers(-(10**9), 2 * 10**9, 400).tolist()


_AVAZU = ("hour_of_day", "weekday", "is_weekend")


def check_equal(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Compares logits.

    Raises:
      InputError: one differs; ``what`` says what gives the first.
    """
    if found.shape != expected.shape:
        raise InputError(f"{what} gives {found.shape} logits for {expected.shape} of the bundle")
    difference = np.abs(found - expected) / np.maximum(np.abs(expected), 1.0)
    if not (difference <= TOLERANCE).all():
        row = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
        raise InputError(
            f"{what} gives {found[row]} for row {row} of those tried, the bundle {expected[row]}; "
            "nothing was written"
        )
