"""The first stage of preparation: raw text decoded, coded, assigned to splits, and spilled."""

import csv
import dataclasses
import pathlib

import numpy as np

from optembed_jax.data import bins, splits
from optembed_jax.data.options import DataOptions
from optembed_jax.data.parallel import ordered_map
from optembed_jax.data.preparing.free_memory import give_back
from optembed_jax.data.preparing.spill import Spill
from optembed_jax.data.progress import Callback, Stage
from optembed_jax.data.raw.bags import CodedBag
from optembed_jax.data.raw.coding import CodedRows, code_rows
from optembed_jax.data.raw.columns import NUMERIC, Coded
from optembed_jax.data.raw.sources import Block, RawData, Reject
from optembed_jax.data.splits import SPLITS
from optembed_jax.errors import InputError

_BLOCKS_TO_TRIM = 8  # after so many blocks free memory is given back, lest it add up


@dataclasses.dataclass
class RowsRead:
    """What reading leaves behind besides the spilled blocks.

    Attributes:
      rejects: rows set aside.
      samples: of the training values of each numeric field, by its position.
      labels: rows of each split with label 0 and 1, int64 ``[3, 2]``.
      time_limits: where validation and test begin, if the rows are split by time.
      weights: of the rows of each split with label 0 and 1, their sum and that of their squares,
        float64 ``[3, 2, 2]``.
      weightless: rows left out because they count nothing.
      negatives: training rows with label 0, or what they weigh: those drawn, and all, float64 [2].
      slots: the most values of a cell of each field; 1 where it is no field of several.
      cut: values of cells of each field that were left out, int64 ``[F]``.
      forms: the ways in which the values of each field are written in the files that training rows
        come from; nothing for fields of which that is not asked.
    """

    rejects: list[Reject]
    samples: dict[int, bins.NumericSample]
    labels: np.ndarray
    forms: list[frozenset[str]]
    slots: list[int]
    cut: np.ndarray
    weights: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((3, 2, 2)))
    weightless: int = 0
    negatives: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))
    time_limits: tuple[int, int] | None = None


_Work = tuple[CodedRows, np.ndarray | None, np.ndarray, list[np.ndarray] | None, int]


_Accounted = tuple[dict[int, np.ndarray], np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]
"""Numbers of each numeric field, row numbers, labels, splits and weights."""

_Split = tuple[list[np.ndarray], np.ndarray, _Accounted]


def read_rows(
    data: RawData, options: DataOptions, spill: Spill, threads: int, progress: Callback | None
) -> RowsRead:
    """Reads all rows into a spill.

    Args:
      data: the rows and their meaning.
      options: seed, split, what counts for the vocabulary, bad rows tolerated.
      spill: gets the coded blocks, their dictionaries, and the counts of their values.
      threads: that work at once.
      progress: told about the progress; may be None.

    Raises:
      InputError: a row that cannot be used, or splits that cannot.
    """
    by_file = all(file.split is not None for file in data.source.files) and data.source.files
    by_time = not by_file and options.split_index is None and options.split == "time"
    if by_time and data.time is None:
        raise InputError("split=time: this data set has no time column; use split=random")
    index = splits.read_split_index(options.split_index) if options.split_index else None
    files = data.source.files

    def work(item: tuple[int, Block]) -> _Work:
        number, block = item
        name = str(files[block.file].path) if files else "generated data"
        # How values are written is learned where the model learns: not from other splits' files.
        decides = not by_file or files[block.file].split == splits.TRAIN
        coded = code_rows(data, data.source.read(block), name, by_time, decides)
        split: np.ndarray | None = None
        if by_file:
            split = np.full(len(coded.labels), files[block.file].split, np.uint8)
        elif index is not None:
            split = _indexed(index, coded.rows, options)
        elif not by_time:
            split = splits.random_split(coded.rows, options.data_seed)
        counts, negatives = None, np.zeros(2)
        if split is not None:
            stays, negatives = _drawn(split, coded.labels, coded.rows, coded.weights, options)
            if stays is not None:
                coded, split = coded.of(stays), split[stays]
            sized = [
                (f.codes, len(f.values)) if isinstance(f, Coded) else None for f in coded.fields
            ]
            counts = _value_counts(sized, split, options)
        spill.write_rows(number, coded, split)
        return coded, split, negatives, counts, block.position

    stage = Stage(progress, "reading", data.source.size, "bytes")
    forms = [frozenset[str]()] * len(data.columns)
    result = RowsRead(
        [],
        _samples(data, options),
        np.zeros((3, 2), np.int64),
        forms,
        [1] * len(data.columns),
        np.zeros(len(data.columns), np.int64),
    )
    times = splits.TimeCounts()
    found = ordered_map(work, enumerate(data.source.blocks()), threads)
    for number, (coded, split, negatives, counts, position) in enumerate(found):
        _tolerate(result.rejects, coded.rejects, options.max_bad_rows)
        result.weightless += coded.weightless
        result.negatives += negatives
        spill.append_values(coded.fields)
        for f, field in enumerate(coded.fields):
            if isinstance(field, CodedBag):
                result.slots[f] = max(result.slots[f], field.codes.shape[1])
                result.cut[f] += field.cut.sum()
        result.forms = [a | b for a, b in zip(result.forms, coded.forms, strict=True)]
        if split is None or counts is None:
            assert coded.times is not None
            times.add(coded.times)
        else:
            spill.append_counts(counts)
            numeric = {f: v for f, v in enumerate(coded.fields) if isinstance(v, np.ndarray)}
            _account(result, numeric, coded.rows, coded.labels, split, coded.weights)
        stage.report(position, len(coded.labels))
        if number % _BLOCKS_TO_TRIM == _BLOCKS_TO_TRIM - 1:
            give_back()
    if by_time:
        weighted = data.weight is not None
        _split_by_time(result, times, spill, len(data.columns), options, weighted, threads)
    _check_labels(result, data, options.label_positive)
    return result


def _tolerate(rejects: list[Reject], more: tuple[Reject, ...], allowed: int) -> None:
    rejects.extend(more)
    if len(rejects) <= allowed:
        return
    if allowed == 0:
        raise InputError(
            f"{rejects[0]}; correct the row, or set max_bad_rows to set such rows aside"
        )
    raise InputError(
        f"more than max_bad_rows={allowed} unusable rows; the first is {rejects[0]}; "
        f"the last so far is {rejects[-1]}"
    )


def _samples(data: RawData, options: DataOptions) -> dict[int, bins.NumericSample]:
    numeric = (f for f, column in enumerate(data.columns) if column.kind == NUMERIC)
    return {f: bins.NumericSample(options.data_seed) for f in numeric}


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


def _account(
    result: RowsRead,
    numeric: dict[int, np.ndarray],
    rows: np.ndarray,
    labels: np.ndarray,
    split: np.ndarray,
    weights: np.ndarray | None,
) -> None:
    of_class = split * 2 + labels
    result.labels += np.bincount(of_class, minlength=6).reshape(3, 2)
    if weights is not None:
        exact = weights.astype(np.float64)
        for power in (1, 2):
            sums = np.bincount(of_class, exact**power, minlength=6)
            result.weights[:, :, power - 1] += sums.reshape(3, 2)
    training = split == splits.TRAIN
    for number, sample in result.samples.items():
        sample.add(rows[training], numeric[number][training])


def _split_by_time(
    result: RowsRead,
    times: splits.TimeCounts,
    spill: Spill,
    num_fields: int,
    options: DataOptions,
    weighted: bool,
    threads: int,
) -> None:
    """Assigns the splits of blocks that have been read already, and counts their values."""
    limits = splits.time_limits(*times.counts())
    sizes = np.stack([spill.sizes(field) for field in range(num_fields)], axis=1)
    result.time_limits = limits

    def work(number: int) -> _Split:
        block = spill.read_rows(number)
        rows, labels = block.column("row"), block.column("label")
        split = splits.time_split(block.column("time"), limits)
        weights = block.column("weight") if weighted else None
        drawn, negatives = _drawn(split, labels, rows, weights, options)
        stays = slice(None) if drawn is None else drawn
        split = split[stays]
        fields = [
            None if f in result.samples else (block.field(f)[stays], int(sizes[number, f]))
            for f in range(num_fields)
        ]
        counts = _value_counts(fields, split, options)
        numeric = {f: block.field(f)[stays] for f in result.samples}
        weights = None if weights is None else weights[stays]
        return counts, negatives, (numeric, rows[stays], labels[stays], split, weights)

    for counts, negatives, found in ordered_map(work, range(spill.num_blocks), threads):
        spill.append_counts(counts)
        result.negatives += negatives
        _account(result, *found)


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


def _check_labels(result: RowsRead, data: RawData, positive: str | None) -> None:
    """Refuses data on which training or its evaluation is undefined."""
    labels, without = result.labels, ""
    if result.weightless and data.weight is not None:
        column = data.weight.source
        without = f"; {result.weightless} rows are left out, whose weight in {column!r} is 0"
    by_file = {file.split: str(file.path) for file in data.source.files if file.split is not None}
    if labels.sum() == 0:
        raise InputError(f"the table is empty: it has no usable row{without}")
    if positive is not None and not labels[:, 1].any():
        raise InputError(
            f"no row has label_positive={positive} in column {data.label.source!r}; it is to be a "
            f"whole cell as it is written{without}"
        )
    for number, name in enumerate(SPLITS):
        zeros, ones = labels[number].tolist()
        where = f" ({by_file[number]})" if number in by_file else ""
        if zeros + ones == 0:
            raise InputError(f"the {name} split{where} has no rows{without}")
        if zeros == 0 or ones == 0:
            what = "its AUC is undefined" if number else "nothing can be learned from it"
            if number == splits.TRAIN and zeros == 0 and result.negatives[1]:
                what = "draw_negatives left none of the others; draw more of them"
            raise InputError(
                f"all {zeros + ones} rows of the {name} split{where} have label {int(ones > 0)}: "
                f"{what}; give more rows, or another split or data_seed{without}"
            )


def write_rejects(path: pathlib.Path, rejects: list[Reject]) -> None:
    """Writes the rows that were set aside as CSV: file, line, reason, text."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "line", "reason", "text"])
        writer.writerows([r.file, r.line, r.reason, r.text] for r in rejects)
