"""What a person chooses about a data set: one frozen dataclass, one field per data flag.

The field names are the names of the flags of `experiments/`. Every data set uses some of them
(`USED_BY`); choosing one that the data set does not use is an error rather than a silence.
"""

import dataclasses
from collections.abc import Sequence

from optembed_jax.data.raw.layout import Layout
from optembed_jax.errors import InputError
from optembed_jax.values.cells import SPELLED_TAB, Cells

SPLITS = ("random", "time")
VOCAB_SOURCES = ("train", "all")

_LATER = frozenset({"group", "weight", "draw_negatives", "label_positive", "label_from"}) | {
    "delimiter",
    "decimal",
    "encoding",
    "columns",
    "value_weights",
}
"""Options that came later: left out where they are not given, since what was prepared before there
were such options would otherwise have had other ones."""

_COMMON = frozenset({"split", "min_count", "vocab_from", "data_seed", "group", "draw_negatives"})
_FILES = frozenset({"raw_dir", "max_bad_rows"})

USED_BY: dict[str, frozenset[str]] = {
    "flights": _COMMON,
    "synthetic": (_COMMON - {"split"})
    | {
        "synthetic_rows",
        "synthetic_signal_fields",
        "synthetic_noise_fields",
        "synthetic_field_size",
    },
    "movielens": _COMMON | _FILES | {"multi", "max_values"},
    "criteo_display": (_COMMON | _FILES | {"split_index"}),
    "avazu": _COMMON | _FILES | {"split_index"},
    "kdd12": _COMMON | _FILES | {"weight"},
    "table": _COMMON
    | {
        "table_file",
        "train_file",
        "validation_file",
        "test_file",
        "label",
        "label_positive",
        "label_from",
        "categorical",
        "numeric",
        "numeric_bins",
        "multi",
        "separator",
        "max_values",
        "value_weights",
        "time_column",
        "weight",
        "delimiter",
        "decimal",
        "encoding",
        "columns",
        "max_bad_rows",
    },
}
"""The data sets by name, and the options that each of them reads."""

MULTI = {"movielens": ("genres",)}
"""What is several values in a cell where nothing else is said."""


PATH_OPTIONS = (
    "raw_dir",
    "table_file",
    "train_file",
    "validation_file",
    "test_file",
    "split_index",
)
"""Options that say where raw files are, not what is in them."""


_USUAL = {"iso8859-1": "latin-1"}
"""The usual name of an encoding, where Python's own is another."""


def usual_encoding(name: str) -> str:
    """The one name of an encoding.

    Raises:
      InputError: there is no such encoding.
    """
    found = Layout(encoding=name).encoding
    return _USUAL.get(found, found)


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """How a data set is read, split, and turned into ids.

    Attributes:
      raw_dir: folder with the raw files of `movielens`, `criteo_display`, `avazu` or `kdd12`, as
        their publishers lay them out (plain or `.gz`).
      table_file: delimited text, JSON lines, libffm (plain, gzip or Zstandard) or Parquet, that is
        split here: a file, a folder of part files, a pattern, or several with commas between them.
      train_file: together with `validation_file` and `test_file`, a table that is split already.
      validation_file: see `train_file`.
      test_file: see `train_file`.
      label: the table's column with the 0/1 label.
      label_positive: where that holds other values: the one that is 1; all others are 0.
      label_from: instead of `label`: a column, a comparison and a number, such as "rating>=4".
      categorical: the table's columns whose every distinct value may get a row of its own.
      numeric: the table's columns that are cut into quantile bins of the training split.
      multi: columns whose cells hold several values, each of which may get a row of its own; they
        need not be named in `categorical` too. None: as the data set has it, `genres` of movielens;
        there an empty list makes a category of each combination.
      separator: what stands between the values of a text in `multi`, such as ``|``.
      max_values: of a cell in `multi` that are read, at least 1; further ones are cut.
      value_weights: those of `multi` whose values have a weight each, ``value:weight`` in a text.
      time_column: the table's column that `split="time"` sorts by: a number or an ISO 8601 date.
      split: "random" (8:1:1 by a seeded draw) or "time" (the first 80 %, the next 10 %, the last).
      split_index: folder with index files (`train`, `valid`, `test`; row numbers from 0) that say
        which row belongs to which split, as Criteo_x4 and Avazu_x4 do. Replaces `split`.
      min_count: a value gets a row of its own when it occurs at least this often; rarer ones share
        the field's OOV row. Numeric bins are never filtered. At least 1.
      vocab_from: count values on the "train" split only, or on "all" splits (the reference's way,
        which lets validation and test leak into the vocabulary).
      group: raw column, such as that of the user, within whose values rows are ranked: the AUC is
        then also told as a mean over them. None tells none.
      weight: raw column that says how much each row counts, in the loss and in every metric: a row
        of weight 2 as the row given twice, of weight 0 as none. None counts all rows alike, but
        those of `kdd12` by their impressions, unless it is "none".
      draw_negatives: share of the training rows with label 0 that are drawn, in (0, 1]; the others
        are left out. Validation and test keep all rows.
      delimiter: of text files, one character; None finds it in the first line.
      decimal: sign of text files, "." or ",".
      encoding: of text files; its names in Python, such as UTF8 and utf-8, are one.
      columns: names of all columns, of text files without a header.
      data_seed: of the random split, the stored order of rows, and the synthetic data.
      numeric_bins: most bins of a numeric column, at least 2.
      max_bad_rows: how many unusable rows are set aside in a rejects file before preparation stops.
      synthetic_rows: rows of the synthetic data over all splits, at least 100.
      synthetic_signal_fields: synthetic fields that the label depends on, at least 1.
      synthetic_noise_fields: synthetic fields that the label ignores, 0 or more.
      synthetic_field_size: distinct values of each synthetic field, at least 2.

    Raises:
      InputError: a value outside what is described above; the message names the option.
    """

    raw_dir: str | None = None
    table_file: str | None = None
    train_file: str | None = None
    validation_file: str | None = None
    test_file: str | None = None
    label: str | None = None
    label_positive: str | None = None
    label_from: str | None = None
    categorical: Sequence[str] = ()
    numeric: Sequence[str] = ()
    multi: Sequence[str] | None = None
    separator: str | None = None
    max_values: int = 16
    value_weights: Sequence[str] = ()
    time_column: str | None = None
    split: str = "random"
    split_index: str | None = None
    min_count: int = 2
    vocab_from: str = "train"
    data_seed: int = 0
    group: str | None = None
    weight: str | None = None
    draw_negatives: float = 1.0
    delimiter: str | None = None
    decimal: str = "."
    encoding: str = "utf-8"
    columns: Sequence[str] = ()
    numeric_bins: int = 32
    max_bad_rows: int = 0
    synthetic_rows: int = 60_000
    synthetic_signal_fields: int = 4
    synthetic_noise_fields: int = 4
    synthetic_field_size: int = 1_000

    def __post_init__(self) -> None:
        for name in ("categorical", "numeric", "columns", "value_weights"):
            value = getattr(self, name) or ()
            if isinstance(value, str):
                raise InputError(f"{name}: give a list of column names, not the string {value!r}")
            object.__setattr__(self, name, _names(value))
        for name in PATH_OPTIONS:  # The path of nothing is the current folder.
            if isinstance(value := getattr(self, name), str) and not value.strip():
                raise InputError(f"{name} must be a path, not an empty text")
        for name in ("label", "time_column", "group", "weight"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, value.strip())
        if self.multi is not None:
            if isinstance(self.multi, str):
                raise InputError(f"multi: give a list of column names, not {self.multi!r}")
            object.__setattr__(self, "multi", _names(self.multi))
            repeated = sorted({name for name in self.multi if self.multi.count(name) > 1})
            if repeated:
                raise InputError(f"multi names column {repeated[0]!r} twice")
        # UTF8 and utf-8 are one option: options are compared, and hashed, as they are written.
        object.__setattr__(self, "encoding", usual_encoding(self.encoding))
        if self.separator in SPELLED_TAB:  # A shell makes it hard to give one.
            object.__setattr__(self, "separator", "\t")
        if self.separator is not None and not self.multi:
            raise InputError("separator is set, but no column is named in multi that it is for")
        Cells(self.separator, self.max_values)
        _one_of("split", self.split, SPLITS)
        _one_of("vocab_from", self.vocab_from, VOCAB_SOURCES)
        if not 0 < self.draw_negatives <= 1:
            raise InputError(f"draw_negatives must be in (0, 1], got {self.draw_negatives}")
        for name, least in (
            ("min_count", 1),
            ("data_seed", 0),
            ("numeric_bins", 2),
            ("max_bad_rows", 0),
            ("synthetic_rows", 100),
            ("synthetic_signal_fields", 1),
            ("synthetic_noise_fields", 0),
            ("synthetic_field_size", 2),
        ):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def used_by(self, dataset: str) -> dict[str, object]:
        """The options that `dataset` reads, by name, as plain values that JSON can hold.

        Raises:
          InputError: there is no such data set, or an option that it does not read was set.
        """
        if dataset not in USED_BY:
            raise InputError(f"no data set {dataset!r}; there are: {', '.join(sorted(USED_BY))}")
        used: dict[str, object] = {}
        multi = self.multi_of(dataset) if "multi" in USED_BY[dataset] else ()
        if not multi and self.max_values != DataOptions.max_values:
            raise InputError("max_values is set, but no column is named in multi that it is for")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _LATER and value == field.default:
                continue
            if field.name == "multi":
                value = multi or value or None
            is_unsaid = value in (None, DataOptions.max_values)
            if field.name in ("multi", "separator", "max_values") and not multi and is_unsaid:
                continue  # likewise
            if field.name in USED_BY[dataset]:
                used[field.name] = list(value) if isinstance(value, tuple) else value
            elif value != field.default:
                raise InputError(
                    f"{field.name} is set, but data set {dataset!r} does not use it; leave it out"
                )
        return used

    def multi_of(self, dataset: str) -> tuple[str, ...]:
        """The columns of a data set whose cells hold several values."""
        return MULTI.get(dataset, ()) if self.multi is None else tuple(self.multi)


def _names(given: Sequence[str]) -> tuple[str, ...]:
    """Columns' names without the blanks around them, as they are found in files."""
    return tuple(name.strip() for name in given)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
