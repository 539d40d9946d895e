"""Columns whose cells hold several values, for whole Arrow arrays; `optembed_jax.values.cells`."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optembed_jax.data.raw.columns import Coded, code
from optembed_jax.data.raw.missing import null_where
from optembed_jax.values.cells import (
    LEAST_WEIGHT,
    MARK,
    MOST_WEIGHT,
    WEIGHT,
    WEIGHT_MARK,
    Cells,
)
from optembed_jax.values.rule import BLANKS, HIVE_MISSING


@dataclasses.dataclass(frozen=True)
class CodedBag(Coded):
    """A column of cells as distinct values and their numbers.

    Attributes:
      codes: int32 ``[N, W]``, positions in `values`; behind a cell's last value `len(values)`.
      values: the distinct values of all cells, of which one may be null (missing).
      cut: values of each cell that were left out, int64 ``[N]``.
      weights: of the values, float32 ``[N, W]``, 0 behind a cell's last; None where all are 1.
    """

    cut: np.ndarray
    weights: np.ndarray | None = None

    def of_rows(self, chosen: np.ndarray) -> "CodedBag":
        """Some of the rows."""
        weights = None if self.weights is None else self.weights[chosen]
        return CodedBag(self.codes[chosen], self.values, self.cut[chosen], weights)


def split_cells(raw: Coded, cells: Cells) -> CodedBag:
    """The values of coded cells, each cell's first `max_values`."""
    count = len(raw.values)
    flat, parents = _parts(raw.values, cells)
    weights = None
    if cells.weighted:
        flat, weights, is_value = _weighed(flat)
        flat, parents = flat.filter(pa.array(is_value)), parents[is_value]
        weights = weights[is_value]
    coded = code(flat)
    values, codes = coded.values, coded.codes.astype(np.int64)
    keys = parents * max(len(values), 1) + codes
    _, first, same = np.unique(keys, return_index=True, return_inverse=True)
    if weights is not None:
        weights = np.bincount(same, weights, len(first))[np.argsort(first)]
    first.sort()
    codes, parents = codes[first], parents[first]
    found = np.bincount(parents, minlength=count)
    rank = np.arange(len(parents)) - (np.cumsum(found) - found)[parents]
    empty = np.flatnonzero(found == 0)
    if len(empty):
        values = pa.concat_arrays([values, pa.nulls(1, pa.string())])
    width = max(1, min(int(np.max(found, initial=1)), cells.max_values))
    table = np.full((count, width), len(values), np.int32)
    is_read = rank < width
    table[parents[is_read], rank[is_read]] = codes[is_read]
    table[empty, 0] = len(values) - 1
    cut = np.maximum(found - cells.max_values, 0)
    if weights is None:
        return CodedBag(table[raw.codes], values, cut[raw.codes])
    weighs = np.zeros((count, width), np.float32)
    weighs[parents[is_read], rank[is_read]] = weights[is_read]
    weighs[empty, 0] = 1.0
    return CodedBag(table[raw.codes], values, cut[raw.codes], weighs[raw.codes])


def has_bad_weight(texts: pa.Array, cells: Cells) -> np.ndarray:
    """Which cells have a weight that cannot be used, bool ``[N]``, of cells with weights."""
    flat, parents = _parts(texts, cells)
    _, weights, _ = _weighed(flat)
    bad = np.zeros(len(texts), bool)
    bad[parents[np.isnan(weights)]] = True
    return bad


def _parts(texts: pa.Array, cells: Cells) -> tuple[pa.Array, np.ndarray]:
    """What cells name, one after another, and the cell that each is of, int64."""
    of_list = pc.fill_null(pc.starts_with(texts, MARK), False)
    split = texts
    if cells.separator is not None:
        marked = pc.replace_substring(texts, cells.separator, MARK)
        split = pc.if_else(of_list, texts, marked)
    lists = pc.split_pattern(split, MARK)
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    flat = lists.flatten()
    is_value = pc.not_equal(flat, "")
    if cells.separator is not None:
        from_list = of_list.take(pa.array(parents))
        flat = pc.if_else(from_list, flat, pc.utf8_trim(flat, BLANKS))
        is_missing = pc.and_not(pc.equal(flat, HIVE_MISSING), from_list)
        is_value = pc.and_not(pc.not_equal(flat, ""), is_missing)
    is_value = is_value.to_numpy(zero_copy_only=False)
    return flat.filter(pa.array(is_value)), parents[is_value].astype(np.int64)


def _weighed(flat: pa.Array) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Values, their weights float64 (NaN where it cannot be used), and which of them are any."""
    is_item = pc.match_substring(flat, WEIGHT_MARK)
    colon = pc.split_pattern(flat, ":", max_splits=1, reverse=True)
    mark = pc.split_pattern(flat, WEIGHT_MARK, max_splits=1, reverse=True)
    texts, numbers = [], []
    for lists in (colon, mark):
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
        ends = np.cumsum(lengths)
        parts = lists.flatten()
        texts.append(parts.take(pa.array(ends - lengths)))
        numbers.append(parts.take(pa.array(ends - 1, mask=lengths == 1)))
    values = pc.utf8_trim(pc.if_else(is_item, texts[1], texts[0]), BLANKS)
    weight = pc.fill_null(pc.if_else(is_item, numbers[1], numbers[0]), "1")
    is_number = pc.match_substring_regex(weight, f"^(?:{WEIGHT})$")
    readable = null_where(pc.utf8_trim(weight, BLANKS), pc.invert(is_number))
    found = pc.cast(readable, pa.float64()).to_numpy(zero_copy_only=False)
    is_value = pc.not_equal(values, "").to_numpy(zero_copy_only=False)
    from_list = is_item.to_numpy(zero_copy_only=False)
    usable = (found == 0) | ((found >= LEAST_WEIGHT) & (found <= MOST_WEIGHT))
    usable &= is_value
    # An item of a list without a value is none, whatever its weight.
    weights = np.where(usable, found, np.where(from_list & ~is_value, 0.0, np.nan))
    return values, weights, is_value
