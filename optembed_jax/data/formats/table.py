"""Any table with a binary label, as one or many files of any form, or split already."""

import pathlib
from collections.abc import Mapping
from typing import Any

from optembed_jax.data.formats.description import Format
from optembed_jax.data.options import DataOptions
from optembed_jax.data.raw import labels, times
from optembed_jax.data.raw.columns import (
    NUMERIC,
    Column,
    Label,
    Weight,
    not_a_number,
    weights,
)
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.layout import Layout
from optembed_jax.data.raw.part_files import NoFiles, part_files
from optembed_jax.data.raw.sources import RawData
from optembed_jax.data.raw.table_file import source_of_parts, with_rows
from optembed_jax.data.splits import TEST, TRAIN, VALIDATION
from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells


class Table(Format):
    """A table of the user's own."""

    name = "table"
    DESCRIPTION = "A table of the user's own, with a binary label."
    CITATION = "None."
    HOMEPAGE = ""
    LICENSE = "The user's own."

    @staticmethod
    def columns_of(used: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Column, ...]:
        """The categorical columns, those of several values, then the numeric ones, as named."""
        cells = _cells(used)
        names = dict.fromkeys([*used["categorical"], *cells])
        return tuple(Column(name, name, cells=cells.get(name)) for name in names) + tuple(
            Column(name, name, NUMERIC, check=not_a_number, expected="a number")
            for name in used["numeric"]
        )

    @classmethod
    def files(cls, options: DataOptions) -> tuple[pathlib.Path, ...] | None:
        """The files of folders and patterns that have rows; None where some are gone.

        Raises:
          InputError: what there is now cannot be a table's files.
        """
        try:
            files = _files(options)
        except NoFiles:
            return None
        return tuple(file.path for file in with_rows(files, _layout(options), _wanted(options)))

    @classmethod
    def raw_data(cls, options: DataOptions) -> RawData:
        """Opens the table's files and checks that the named columns are there."""
        layout, files, wanted = _layout(options), _files(options), _wanted(options)
        time = None
        if options.time_column is not None:
            time = times.time_of(options.time_column)
        used = options.used_by(cls.name)
        filled = with_rows(files, layout, wanted)
        for split in dict.fromkeys(file.split for file in files):
            if all(file.split != split for file in filled):
                first = next(file.path for file in files if file.split == split)
                raise InputError(f"{first} and the other files beside it hold no rows")
        return RawData(
            source_of_parts(filled, tuple(wanted), layout, _numbers(options), _cells(used)),
            cls.columns_of(used, {}),
            _label(options),
            time,
            group=options.group,
            weight=_weight(options),
        )


def _layout(options: DataOptions) -> Layout:
    return Layout(options.delimiter, options.decimal, options.encoding, tuple(options.columns))


def _numbers(options: DataOptions) -> tuple[str, ...]:
    """The columns that are read as numbers."""
    compared = None if options.label_from is None else _label(options).source
    return (*options.numeric, *(name for name in (options.weight, compared) if name))


def _label(options: DataOptions) -> Label:
    if options.label_from is not None:
        if options.label is not None or options.label_positive is not None:
            raise InputError("give either label (and label_positive) or label_from, not both")
        return labels.compared(options.label_from)
    if options.label is None:
        raise InputError(
            "data set 'table' needs label: the name of the column with 0 and 1; or label_from"
        )
    if options.label_positive is not None:
        return labels.is_value(options.label, options.label_positive)
    expected = "0 or 1 (label_positive says which other value is 1, label_from compares)"
    return Label(options.label, labels.zero_or_one, expected)


def _weight(options: DataOptions) -> Weight | None:
    if options.weight is None:
        return None
    return Weight(options.weight, weights, "a weight: 0, or a number from 1e-12 to 1e12")


def _files(options: DataOptions) -> tuple[RawFile, ...]:
    parts = (options.train_file, options.validation_file, options.test_file)
    if options.table_file is not None:
        if any(parts):
            raise InputError("give either table_file or train/validation/test_file, not both")
        return part_files(options.table_file, "table_file")
    if not all(parts):
        raise InputError(
            "data set 'table' needs table_file, or all of train_file, validation_file and test_file"
        )
    if options.split == "time":
        raise InputError("split=time splits one table_file; these files are split already")
    names = ("train_file", "validation_file", "test_file")
    return tuple(
        file
        for path, name, split in zip(parts, names, (TRAIN, VALIDATION, TEST), strict=True)
        for file in part_files(str(path), name, split)
    )


def _wanted(options: DataOptions) -> list[str]:
    label, multi = _label(options).source, options.multi_of("table")
    fields = [*options.categorical, *options.numeric]
    if not fields and not multi:
        raise InputError(
            "data set 'table' needs at least one column in categorical, numeric or multi"
        )
    repeated = sorted({name for name in fields if fields.count(name) > 1})
    if repeated:
        raise InputError(f"column {repeated[0]!r} is named twice in categorical and numeric")
    if label in [*fields, *multi]:
        raise InputError(f"the label {label!r} cannot be a field as well")
    for name in options.value_weights:
        if name not in multi:
            raise InputError(
                f"column {name!r} is named in value_weights and not in multi: only values of cells "
                "that hold several have weights (weight names the column of the rows' weights)"
            )
    for name in multi:
        for option in ("numeric", "time_column", "group"):
            if name in (getattr(options, option) or ()) and (
                option == "numeric" or name == getattr(options, option)
            ):
                raise InputError(
                    f"column {name!r} is named in multi and in {option}, which needs one value in "
                    "a cell"
                )
    if options.split == "time" and options.time_column is None:
        raise InputError("split=time needs time_column for data set 'table'")
    if options.group == label:
        raise InputError(f"the label {label!r} cannot be the group as well")
    for name, others in (
        ("a field", [*fields, *multi]),
        ("the label", [label]),
        ("the group", [options.group]),
        ("the time", [options.time_column]),
    ):
        if options.weight in others and options.weight is not None:
            raise InputError(f"the weight {options.weight!r} cannot be {name} as well")
    wanted = [label, *fields, *multi]
    beside = [options.time_column, options.group, options.weight]
    return list(dict.fromkeys(wanted + [name for name in beside if name]))


def _cells(used: Mapping[str, Any]) -> dict[str, Cells]:
    """How the columns are read whose cells hold several values."""
    weighted = used.get("value_weights") or ()
    return {
        name: Cells(used["separator"], used["max_values"], name in weighted)
        for name in used.get("multi") or ()
    }
