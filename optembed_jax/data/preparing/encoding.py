"""Coded rows to rows of ids, each in the bucket that it is scattered into."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from optembed_jax.data import splits
from optembed_jax.data.options import DataOptions
from optembed_jax.data.preparing.shards import RowForm, firsts
from optembed_jax.data.preparing.spill import SpilledRows
from optembed_jax.data.splits import SPLITS
from optembed_jax.fields import Fields
from optembed_jax.values.cells import in_weighted_slots
from optembed_jax.values.lookup import Bins

_SCATTER = 1  # sets apart the draws that share the data's seed


@dataclasses.dataclass(frozen=True, eq=False)
class Encoding:
    """How blocks are encoded.

    Attributes:
      options: the seed, and the share of negatives that is drawn.
      layout: names and sizes of the fields.
      form: what a row is.
      buckets: of each split, how many there are.
      bins: of the numeric fields, by their position.
      time_limits: as of `splits.time_split`; None where blocks know their rows' splits.
    """

    options: DataOptions
    layout: Fields
    form: RowForm
    buckets: tuple[int, ...]
    bins: Mapping[int, Bins]
    time_limits: tuple[int, int] | None


class EncodedTally(NamedTuple):
    """What is counted of a block's rows while they are encoded.

    Attributes:
      rows: how many there are.
      binned: the training counts of each numeric field's rows, int64, by the field's position.
      unseen: rows of each split that read each field's OOV row, int64 ``[3, F]``.
    """

    rows: int
    binned: Mapping[int, np.ndarray]
    unseen: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedBlock:
    """The rows of a block.

    Attributes:
      rows: int32 ``[N, width]``, those of the first bucket first, in the block's order.
      ends: where each bucket's rows end, int64 ``[buckets]``.
      tally: what is counted of them.
    """

    rows: np.ndarray
    ends: np.ndarray
    tally: EncodedTally


def encode_block(
    how: Encoding, block: SpilledRows, places: Callable[[int], np.ndarray]
) -> EncodedBlock:
    """Encodes a block.

    Args:
      how: the vocabulary's layout and the buckets.
      block: the coded rows.
      places: given a field that is not numeric, the place in its vocabulary of each value of the
        block's dictionary, int32.
    """
    layout, form, options = how.layout, how.form, how.options
    first = firsts(how.buckets)
    offsets, num_fields = layout.offsets, layout.num_fields
    # Where the slots of each field begin, behind the label.
    columns, nothing = 1 + np.cumsum(layout.slots) - layout.slots, layout.num_features
    of_weights = np.where(layout.weighted, layout.slots, 0)
    weight_columns = 1 + layout.num_slots + np.cumsum(of_weights) - of_weights
    split = (
        block.column("split")
        if how.time_limits is None
        else splits.time_split(block.column("time"), how.time_limits)
    )
    draws = splits.mix(options.data_seed * 3 + _SCATTER, block.column("row"))
    bucket = first[split] + (draws % np.array(how.buckets, np.uint64)[split]).astype(np.int64)
    order = np.argsort(bucket.astype(np.uint16), kind="stable")
    stays = splits.drawn(
        split,
        block.column("label"),
        block.column("row"),
        options.draw_negatives,
        options.data_seed,
    )
    if not stays.all():
        order = order[stays[order]]
    training = order[split[order] == splits.TRAIN] if how.bins else None
    table = np.empty((form.width, len(order)), np.int32)
    form.fill(table, block, order)
    binned = {}
    for f in range(num_fields):
        field, own = block.field(f), slice(columns[f], columns[f] + layout.slots[f])
        if f in how.bins:
            found = how.bins[f].find(field)
            binned[f] = np.bincount(found[training], minlength=layout.sizes[f])
            table[columns[f]] = found[order] + offsets[f]
            continue
        ids = places(f) + offsets[f]
        if field.ndim == 1:
            np.take(ids, field[order], out=table[columns[f]], mode="clip")
            continue
        cells = np.append(ids, np.int32(nothing))[field[order]]
        weights = block.weights(f)
        in_place, weighs = in_weighted_slots(
            cells,
            None if weights is None else weights[order],
            layout.slots[f],
            int(offsets[f]),
            nothing,
        )
        table[own] = in_place.T
        if weights is not None:
            begin = weight_columns[f]
            table[begin : begin + layout.slots[f]] = weighs.view(np.int32).T
    ends = np.searchsorted(bucket[order], np.arange(first[-1]), side="right")
    ordered = split[order]
    unseen = [
        np.bincount(
            ordered[(table[start : start + slots] == offset).any(axis=0)],
            minlength=len(SPLITS),
        )
        for start, slots, offset in zip(columns, layout.slots, offsets, strict=True)
    ]
    tally = EncodedTally(len(order), binned, np.stack(unseen, axis=1))
    return EncodedBlock(np.ascontiguousarray(table.T), ends, tally)
