"""Columns whose cells hold several values, for whole Arrow arrays; `optembed_jax.values.cells`."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optembed_jax.data.raw.columns import Coded, code
from optembed_jax.values.cells import MARK, Cells
from optembed_jax.values.rule import BLANKS


@dataclasses.dataclass(frozen=True)
class CodedBag(Coded):
    """A column of cells as distinct values and their numbers.

    Attributes:
      codes: int32 ``[N, W]``, positions in `values`; behind a cell's last value `len(values)`.
      values: the distinct values of all cells, of which one may be null (missing).
      cut: values of each cell that were left out, int64 ``[N]``.
    """

    cut: np.ndarray

    def of_rows(self, chosen: np.ndarray) -> "CodedBag":
        """Some of the rows."""
        return CodedBag(self.codes[chosen], self.values, self.cut[chosen])


def split_cells(raw: Coded, cells: Cells) -> CodedBag:
    """The values of coded cells, each cell's first `max_values`."""
    texts, count = raw.values, len(raw.values)
    of_list = pc.fill_null(pc.starts_with(texts, MARK), False)
    split = texts
    if cells.separator is not None:
        marked = pc.replace_substring(texts, cells.separator, MARK)
        split = pc.if_else(of_list, texts, marked)
    lists = pc.split_pattern(split, MARK)
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    flat = lists.flatten()
    if cells.separator is not None:
        trimmed = pc.utf8_trim(flat, BLANKS)
        flat = pc.if_else(of_list.take(pa.array(parents)), flat, trimmed)
    is_value = pc.not_equal(flat, "").to_numpy(zero_copy_only=False)
    flat, parents = flat.filter(pa.array(is_value)), parents[is_value].astype(np.int64)
    coded = code(flat)
    values, codes = coded.values, coded.codes.astype(np.int64)
    _, first = np.unique(parents * max(len(values), 1) + codes, return_index=True)
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
    return CodedBag(table[raw.codes], values, cut[raw.codes])
