"""From the values of each field to places in its block of ids: one hash table for all fields."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.values.rule import (
    BINARY,
    BOOLEAN,
    IS_BLANK,
    LONGEST_WORD,
    MISSING_WORDS,
    MOMENT,
    NUMBER,
    Rule,
)
from optembed_jax.values.table import Texts, TextTable, joined, texts_of


@dataclasses.dataclass(frozen=True, eq=False)
class Bins:
    """The bins of a numeric field, and where they are.

    Attributes:
      edges: the inner edges, float64 ``[E]``, increasing: bin ``i`` is ``edges[i-1] <= v <
        edges[i]``.
      places: in the field's block, int32 ``[E + 2]``: of each bin, and at last of the missing
        value; 0 (the OOV row) where there is none.
    """

    edges: np.ndarray
    places: np.ndarray

    def find(self, values: np.ndarray) -> np.ndarray:
        """Places int32 ``[N]`` of numbers float64 ``[N]``, NaN where missing."""
        bins = np.searchsorted(self.edges, values, side="right")
        return self.places[np.where(np.isnan(values), len(self.edges) + 1, bins)]


@dataclasses.dataclass(frozen=True, eq=False)
class Lookup:
    """What values of the ``F`` fields have places, and how they are found.

    Attributes:
      texts: the values of all fields that are not numeric, field by field, in the order of their
        places; the missing value is the empty text.
      sizes: rows of each field's block, the OOV row at place 0 included.
      rules: which texts of each field mean the same.
      bins: of the numeric fields, None elsewhere.
    """

    texts: Texts
    sizes: tuple[int, ...]
    rules: tuple[Rule, ...]
    bins: tuple[Bins | None, ...]

    def __post_init__(self) -> None:
        if self.first[-1] != len(self.texts):
            raise InputError(f"{len(self.texts)} values, not the {self.first[-1]} of the fields")
        for size, bins in zip(self.sizes, self.bins, strict=True):
            if bins is not None:
                _check_bins(bins, size)

    @functools.cached_property
    def first(self) -> np.ndarray:
        """The number of each field's first text, int64 ``[F + 1]``."""
        counts = [
            0 if bins is not None else size - 1
            for size, bins in zip(self.sizes, self.bins, strict=True)
        ]
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @functools.cached_property
    def table(self) -> TextTable:
        """The hash table, made at first use.

        Raises:
          InputError: a field has a value twice.
        """
        return TextTable(self.texts, self.first)

    @functools.cached_property
    def _has_rule(self) -> np.ndarray:
        return np.array([not rule.is_plain for rule in self.rules], bool)

    def places(self, texts: Texts, field: np.ndarray) -> np.ndarray:
        """Places in their fields' blocks, int64 ``[N]``, 0 (OOV) for values without one.

        A text is looked up as it is, and where it has no place as its rule reads it, without blanks
        around it: what has one is written as rules write it already.

        Args:
          texts: ``N`` values, the missing one as the empty text.
          field: the number of each one's field, int64 ``[N]``.
        """
        found = self.table.find(texts, field)
        lost = np.flatnonzero(found < 0)
        if len(lost):
            blank = _have_blanks(texts, lost)
            chosen = blank | self._has_rule[field[lost]]
            lost, blank = lost[chosen], blank[chosen]
        if len(lost):
            found[lost] = self._places_by_rule(texts.take(lost), field[lost], blank)
        found += 1
        return found

    def _places_by_rule(self, texts: Texts, field: np.ndarray, blank: np.ndarray) -> np.ndarray:
        found = np.full(len(texts), -1, np.int64)
        is_word = self._reads_words[field] & (texts.lengths <= LONGEST_WORD)
        rows = np.flatnonzero(is_word)
        if len(rows):
            is_word[rows] = _WORDS.find(texts.take(rows), np.zeros(len(rows), np.int64)) >= 0
            rows = np.flatnonzero(is_word)
        if len(rows):
            found[rows] = self.table.find(texts_of([""] * len(rows)), field[rows])
        # Most texts that have no place are no other text's equal either.
        numbers = self._is_kind_of_numbers[field]
        may_change = self._is_kind_of_all[field] | numbers
        if numbers.any():
            may_change &= ~numbers | _have_sign(texts)
        rows = np.flatnonzero((may_change | blank) & ~is_word)
        if len(rows):
            written = [
                self.rules[f].canonical(text or None) or ""
                for f, text in zip(field[rows].tolist(), texts.strings(rows), strict=True)
            ]
            found[rows] = self.table.find(texts_of(written), field[rows])
        return found

    @functools.cached_property
    def _reads_words(self) -> np.ndarray:
        return np.array([rule.words for rule in self.rules], bool)

    @functools.cached_property
    def _is_kind_of_all(self) -> np.ndarray:
        return np.array([rule.kind in (BOOLEAN, MOMENT) for rule in self.rules], bool)

    @functools.cached_property
    def _is_kind_of_numbers(self) -> np.ndarray:
        return np.array([rule.kind in (NUMBER, BINARY) for rule in self.rules], bool)

    def value(self, field: int, place: int) -> str | None:
        """The text at a place of a field that is not numeric, None for the missing value.

        Args:
          field: its number.
          place: at least 1.
        """
        return self.texts.strings(np.array([self.first[field] + place - 1]))[0] or None

    def twins(self, field: int) -> Mapping[str, str]:
        """Texts that a typed value has (12, true, a day) of which another spelling has a row too.

        Args:
          field: the number of one that is not numeric; looked through once.

        Returns:
          The other spelling (12.0, True, its midnight) by such a text.
        """
        if field not in self._twins:
            texts = self.field_texts(field)
            starts, lengths = texts.starts[:-1], texts.lengths
            # Few texts can be another spelling; these bytes are there in any case.
            last, first, third, fifth = (
                texts.data[at] for at in (texts.starts[1:] - 1, starts, starts + 2, starts + 4)
            )
            may_be = (last == ord("0")) | np.isin(first, list(b"TF")) & (lengths < 6)
            for digits in (1, 2, 3):  # of an exponent, behind a sign
                at = np.maximum(texts.starts[1:] - digits - 1, 1)
                is_one = (texts.data[at] == ord("-")) | (texts.data[at] == ord("+"))
                may_be |= (texts.data[at - 1] == ord("e")) & is_one & (lengths > digits + 2)
            may_be |= (fifth == ord("-")) & (lengths > 10) | (third == ord(":")) & (lengths > 4)
            found = texts.strings(np.flatnonzero(may_be & (lengths > 0)))
            typed = {typed: text for text in found if (typed := _typed_text(text)) != text}
            has_row = np.zeros(0, bool)
            if typed:  # Seldom: the table is made at first use.
                number = np.full(len(typed), field, np.int64)
                has_row = self.table.find(texts_of(list(typed)), number) >= 0
            self._twins[field] = dict(itertools.compress(typed.items(), has_row.tolist()))
        return self._twins[field]

    @functools.cached_property
    def _twins(self) -> dict[int, Mapping[str, str]]:
        return {}

    def field_texts(self, field: int) -> Texts:
        """The texts of one field, in the order of their places."""
        begin, end = self.first[field : field + 2].tolist()
        return Texts(self.texts.data, self.texts.starts[begin : end + 1])

    def keep(self, rows: Sequence[np.ndarray]) -> "Lookup":
        """The lookup of fewer values; each field's OOV row stays.

        Args:
          rows: which rows of each field's block stay, bool ``[size]`` for each of the fields; what
            it says of the OOV row does not matter.
        """
        sizes, bins, chosen = [], [], []
        for field, (kept, own) in enumerate(zip(rows, self.bins, strict=True)):
            kept = np.concatenate([[True], np.asarray(kept, bool)[1:]])
            sizes.append(int(kept.sum()))
            places = np.where(kept, np.cumsum(kept) - 1, 0).astype(np.int32)
            bins.append(None if own is None else Bins(own.edges, places[own.places]))
            if own is None:
                chosen.append(np.flatnonzero(kept[1:]) + self.first[field])
        texts = self.texts.take(np.concatenate([np.zeros(0, np.int64), *chosen]))
        return Lookup(texts, tuple(sizes), self.rules, tuple(bins))


def lookup_of(
    fields: Sequence[Texts | Bins], sizes: Sequence[int], rules: Sequence[Rule]
) -> Lookup:
    """A lookup of the values of each field."""
    texts = [field for field in fields if isinstance(field, Texts)]
    bins = tuple(field if isinstance(field, Bins) else None for field in fields)
    return Lookup(joined(texts), tuple(sizes), tuple(rules), bins)


def all_bins(edges: np.ndarray, has_missing: bool) -> Bins:
    """The bins of a numeric field in their order, at last that of the missing value if any."""
    places = np.arange(1, len(edges) + 3, dtype=np.int32)
    if not has_missing:
        places[-1] = 0
    return Bins(np.asarray(edges, np.float64), places)


def _typed_text(text: str) -> str:
    """The text of the number, truth or time that a text may be a spelling of."""
    if text in ("True", "TRUE", "False", "FALSE"):
        return text.lower()
    return Rule(MOMENT).canonical(Rule(NUMBER).canonical(text)) or text


def _have_sign(texts: Texts) -> np.ndarray:
    """Which texts are more than digits, bool ``[N]``."""
    data = texts.data[: texts.starts[-1]]
    other = np.concatenate([[0], np.cumsum((data < ord("0")) | (data > ord("9")))])
    return other[texts.starts[1:]] > other[texts.starts[:-1]]


def _have_blanks(texts: Texts, rows: np.ndarray) -> np.ndarray:
    """Which of some texts begin or end with a blank, bool of the length of their numbers."""
    begin, end = texts.starts[rows], texts.starts[rows + 1]
    found = IS_BLANK[texts.data[begin]] | IS_BLANK[texts.data[end - 1]]
    return found & (end > begin)


_WORDS = TextTable(texts_of(sorted(MISSING_WORDS)), np.array([0, len(MISSING_WORDS)]))


def _check_bins(bins: Bins, size: int) -> None:
    edges, places = bins.edges, bins.places
    if len(places) != len(edges) + 2 or not (np.diff(edges) > 0).all():
        raise InputError(f"{len(edges)} edges that do not rise or do not fit {len(places)} bins")
    used = np.sort(places[places > 0])
    if not np.array_equal(used, np.arange(1, size)) or places.min() < 0:
        raise InputError(f"the places of bins are {places.tolist()}, not those of {size} rows")
