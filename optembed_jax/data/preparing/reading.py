"""The first stage of preparation: raw text decoded, coded, assigned to splits, block by block."""

import csv
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from optembed_jax.data import bins, splits
from optembed_jax.data.options import DataOptions
from optembed_jax.data.preparing.spill import SpilledRows
from optembed_jax.data.preparing.tally import SplitTally, Tally
from optembed_jax.data.raw.bags import CodedBag
from optembed_jax.data.raw.coding import CodedRows, code_rows
from optembed_jax.data.raw.columns import NUMERIC, Coded
from optembed_jax.data.raw.sources import Block, RawData, Reject
from optembed_jax.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """How blocks are read.

    Attributes:
      data: the rows and their meaning.
      options: seed, split, what counts for the vocabulary.
      by_file: whether files say which split their rows belong to.
      by_time: whether splits are by time: they are known when all rows have been read.
      index: split numbers by row number, uint8, where they were given.
    """

    data: RawData
    options: DataOptions
    by_file: bool
    by_time: bool
    index: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class CodedBlock:
    """A block that has been read.

    Attributes:
      rows: its rows; those of negatives that were not drawn are left out.
      split: their split numbers, uint8 ``[N]``; None where they wait for the times.
      counts: for each field int32 ``[K, values]``, see `merge_field`; None likewise.
      tally: what is known of the rows.
    """

    rows: CodedRows
    split: np.ndarray | None
    counts: list[np.ndarray] | None
    tally: Tally


def reading_of(data: RawData, options: DataOptions) -> Reading:
    """How the blocks of a data set are read.

    Raises:
      InputError: splits that cannot be.
    """
    by_file = bool(data.source.files) and all(f.split is not None for f in data.source.files)
    by_time = not by_file and options.split_index is None and options.split == "time"
    if by_time and data.time is None:
        raise InputError("split=time: this data set has no time column; use split=random")
    index = splits.read_split_index(options.split_index) if options.split_index else None
    return Reading(data, options, by_file, by_time, index)


def code_block(how: Reading, block: Block) -> CodedBlock:
    """Reads a block.

    Raises:
      InputError: it cannot be decoded, or a row is in no split.
    """
    data, options, files = how.data, how.options, how.data.source.files
    name = str(files[block.file].path) if files else "generated data"
    # How values are written is learned where the model learns: not from other splits' files.
    decides = not how.by_file or files[block.file].split == splits.TRAIN
    coded = code_rows(data, data.source.read(block), name, how.by_time, decides)
    split: np.ndarray | None = None
    if how.by_file:
        split = np.full(len(coded.labels), files[block.file].split, np.uint8)
    elif how.index is not None:
        split = _indexed(how.index, coded.rows, options)
    elif not how.by_time:
        split = splits.random_split(coded.rows, options.data_seed)
    counts, of_split, times = None, None, None
    if split is not None:
        stays, negatives = _drawn(split, coded.labels, coded.rows, coded.weights, options)
        if stays is not None:
            coded, split = coded.of(stays), split[stays]
        sized = [(f.codes, len(f.values)) if isinstance(f, Coded) else None for f in coded.fields]
        counts = _value_counts(sized, split, options)
        numeric = {f: v for f, v in enumerate(coded.fields) if isinstance(v, np.ndarray)}
        of_split = _split_tally(
            numeric, coded.rows, coded.labels, split, coded.weights, negatives, options
        )
    else:
        assert coded.times is not None
        times = np.unique(coded.times, return_counts=True)
    bags = [f if isinstance(f, CodedBag) else None for f in coded.fields]
    tally = Tally(
        file=block.file,
        rows=len(coded.labels),
        end=block.end,
        position=block.position,
        rejects=coded.rejects,
        weightless=coded.weightless,
        sizes=np.array([len(f.values) if isinstance(f, Coded) else 0 for f in coded.fields]),
        slots=np.array([1 if bag is None else bag.codes.shape[1] for bag in bags]),
        cut=np.array([0 if bag is None else int(bag.cut.sum()) for bag in bags]),
        forms=coded.forms,
        times=times,
        time_forms=coded.time_forms,
        split=of_split,
    )
    return CodedBlock(coded, split, counts, tally)


def split_block(
    how: Reading, block: SpilledRows, sizes: Sequence[int], limits: tuple[int, int]
) -> tuple[list[np.ndarray], SplitTally]:
    """Assigns the splits, by time, of a block that has been read already, and counts its values.

    Args:
      how: as it was read.
      block: its rows.
      sizes: values in its dictionary of each field.
      limits: as of `splits.time_split`.

    Returns:
      The counts, as of `CodedBlock`, and the tally.
    """
    rows, labels = block.column("row"), block.column("label")
    split = splits.time_split(block.column("time"), limits)
    weights = block.column("weight") if how.data.weight is not None else None
    drawn, negatives = _drawn(split, labels, rows, weights, how.options)
    stays = slice(None) if drawn is None else drawn
    split = split[stays]
    is_numeric = [column.kind == NUMERIC for column in how.data.columns]
    fields = [
        None if is_numeric[f] else (block.field(f)[stays], size) for f, size in enumerate(sizes)
    ]
    counts = _value_counts(fields, split, how.options)
    numeric = {f: block.field(f)[stays] for f in np.flatnonzero(is_numeric).tolist()}
    weights = None if weights is None else weights[stays]
    rows, labels = rows[stays], labels[stays]
    return counts, _split_tally(numeric, rows, labels, split, weights, negatives, how.options)


def _indexed(index: np.ndarray, rows: np.ndarray, options: DataOptions) -> np.ndarray:
    outside = rows >= len(index)
    split = index[np.where(outside, 0, rows)]
    lost = outside | (split == 255)
    if lost.any():
        raise InputError(
            f"split_index {options.split_index}: data row {int(rows[lost][0])} (from 0) is in none "
            "of the index files; do they belong to this raw file?"
        )
    return split


def _value_counts(
    fields: list[tuple[np.ndarray, int] | None], split: np.ndarray, options: DataOptions
) -> list[np.ndarray]:
    """Occurrences of the values of each field, given as codes and number of values.

    As `merge_field` wants them; nothing for a numeric field (None).
    """
    rest = np.flatnonzero(split != splits.TRAIN)  # the smaller part
    counts = []
    for field in fields:
        codes, size = field if field is not None else (np.empty(0, np.int32), 0)
        everything = _bincount(codes, size)
        trained = everything - _bincount(codes[rest] if size else codes, size)
        deciding = [everything] if options.vocab_from == "all" else []
        counts.append(np.stack([*deciding, trained]).astype(np.int32))
    return counts


def _bincount(codes: np.ndarray, size: int) -> np.ndarray:
    """Occurrences int64 ``[size]``; what is no value in a cell of several comes behind them."""
    return np.bincount(codes.reshape(-1), minlength=size)[:size]


def _split_tally(
    numeric: Mapping[int, np.ndarray],
    rows: np.ndarray,
    labels: np.ndarray,
    split: np.ndarray,
    weights: np.ndarray | None,
    negatives: np.ndarray,
    options: DataOptions,
) -> SplitTally:
    of_class = split * 2 + labels
    weighs = None
    if weights is not None:
        exact = weights.astype(np.float64)
        powers = [np.bincount(of_class, exact**power, minlength=6) for power in (1, 2)]
        weighs = np.stack([power.reshape(3, 2) for power in powers], axis=2)
    training = split == splits.TRAIN if numeric else None
    numbers = {
        field: bins.drawn(options.data_seed, rows[training], values[training])
        for field, values in numeric.items()
    }
    found = np.bincount(of_class, minlength=6).reshape(3, 2)
    return SplitTally(found, weighs, negatives, numbers)


def _drawn(
    split: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray | None,
    options: DataOptions,
) -> tuple[np.ndarray | None, np.ndarray]:
    """Which rows stay, bool ``[N]``, None for all, and what is added to `RowsRead.negatives`."""
    if options.draw_negatives == 1:
        return None, np.zeros(2)
    stays = splits.drawn(split, labels, rows, options.draw_negatives, options.data_seed)
    weighs = np.ones(len(rows)) if weights is None else weights.astype(np.float64)
    weighs = np.where((split == splits.TRAIN) & (labels == 0), weighs, 0.0)
    return stays, np.array([weighs[stays].sum(), weighs.sum()])


def write_rejects(path: pathlib.Path, rejects: list[Reject]) -> None:
    """Writes the rows that were set aside as CSV: file, line, reason, text."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "line", "reason", "text"])
        writer.writerows([r.file, r.line, r.reason, r.text] for r in rejects)
