"""Two vocabularies of the same fields matched by value: which row a value had before.

Values are the same where their texts are, as the rule of the earlier column reads them. The bins of
a numeric field have edges of their own in each: a bin is matched with the one that held its middle
(of the two outer ones: what lies just beyond their edge), so that several may have the same.
"""

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.values.lookup import Bins, Lookup


def rows_before(now: Lookup, before: Lookup, names: tuple[str, ...]) -> np.ndarray:
    """The row that each row's value had in an earlier vocabulary, int64 ``[V]``; -1 of new values.

    A field's OOV row is matched with that of the same field.

    Args:
      now: the later vocabulary.
      before: the earlier one, of the same fields in the same order.
      names: of the ``F`` fields, to be told.

    Raises:
      InputError: a field is numeric in only one of them.
    """
    fields = len(now.sizes)
    if len(before.sizes) != fields:
        raise InputError(f"{fields} fields cannot be matched with {len(before.sizes)}")
    first = np.concatenate([[0], np.cumsum(now.sizes)]).astype(np.int64)
    first_before = np.concatenate([[0], np.cumsum(before.sizes)]).astype(np.int64)
    counts = np.diff(now.first)
    field_of_text = np.repeat(np.arange(fields), counts)
    places = before.places(now.texts, field_of_text)
    found = np.full(first[-1], -1, np.int64)
    for field, name in enumerate(names):
        own, theirs = now.bins[field], before.bins[field]
        if (own is None) != (theirs is None):
            kinds = [("numeric", "categorical")[bins is None] for bins in (own, theirs)]
            raise InputError(f"field {name!r} is {kinds[0]} now and was {kinds[1]} before")
        if own is None or theirs is None:
            place = places[now.first[field] : now.first[field + 1]]
        else:
            place = _places_of_bins(own, theirs, now.sizes[field])
        block = slice(first[field] + 1, first[field + 1])
        found[block] = np.where(place > 0, first_before[field] + place, -1)
        found[first[field]] = first_before[field]
    return found


def _places_of_bins(now: Bins, before: Bins, size: int) -> np.ndarray:
    """The earlier place of each bin and of the missing value, int64 ``[size - 1]``; 0 of none."""
    edges = now.edges
    middles = np.array([0.0])  # Of the only bin, where there are no edges.
    if len(edges):
        inner = edges[:-1] / 2 + edges[1:] / 2  # Halved first: their sum may overflow.
        middles = np.concatenate([[np.nextafter(edges[0], -np.inf)], inner, [edges[-1]]])
    found = np.zeros(size, np.int64)
    found[now.places] = before.find(np.concatenate([middles, [np.nan]]))
    return found[1:]
