"""Flags of data: one for each attribute of `DataOptions`, and what the library is told by them."""

import dataclasses
from typing import Any

from absl import flags

from optembed_jax.data.options import DataOptions
from optembed_jax.data.raw.layout import Layout
from optembed_jax.storage.object_store import in_file_system

_DATA = DataOptions()

DATASET = flags.DEFINE_string(
    "dataset",
    "flights",
    "flights (comes with the project), synthetic (planted truth), movielens, criteo_display, "
    "avazu, kdd12 (from --raw_dir), or table (any CSV, JSON lines, libffm or Parquet).",
)
DATA_DIR = flags.DEFINE_string(
    "data_dir", "~/.cache/optembed_jax", "Folder in which prepared data sets are kept."
)
flags.DEFINE_string("raw_dir", _DATA.raw_dir, "Folder with the raw files, as published.")
flags.DEFINE_string(
    "table_file",
    _DATA.table_file,
    "table: delimited text, JSON lines, libffm or Parquet, split here: a file, a folder of parts, "
    "a pattern, or several of these with commas between them.",
)
flags.DEFINE_string("train_file", _DATA.train_file, "table: the training rows, if already split.")
flags.DEFINE_string("validation_file", _DATA.validation_file, "table: the validation rows.")
flags.DEFINE_string("test_file", _DATA.test_file, "table: the test rows.")
flags.DEFINE_string("label", _DATA.label, "table: the column with the 0/1 label.")
flags.DEFINE_string(
    "label_positive",
    _DATA.label_positive,
    "table: the value of --label that is 1, such as yes; all others are 0.",
)
flags.DEFINE_string(
    "label_from",
    _DATA.label_from,
    "table, instead of --label: a column compared with a number, such as 'rating>=4'.",
)
flags.DEFINE_string(
    "delimiter",
    _DATA.delimiter,
    "table, predict: what stands between cells, or tab; None finds it in the first line.",
)
flags.DEFINE_string("decimal", _DATA.decimal, "table, predict: the decimal sign, . or , (a comma).")
flags.DEFINE_string(
    "encoding", _DATA.encoding, "table, predict: of text files, such as latin-1 or utf-16."
)
flags.DEFINE_list(
    "columns",
    list(_DATA.columns),
    "table, predict: the names of all columns, of text files without a header.",
)
flags.DEFINE_list("categorical", list(_DATA.categorical), "table: the categorical columns.")
flags.DEFINE_list("numeric", list(_DATA.numeric), "table: the numeric columns.")
flags.DEFINE_list(
    "multi",
    _DATA.multi,
    "table: the columns whose cells hold several values (genres: war|sci, or a list in Parquet). "
    "movielens: genres by default, with --multi= each combination is a value.",
)
flags.DEFINE_string(
    "separator", _DATA.separator, "table: what stands between the values of a text in --multi."
)
flags.DEFINE_integer(
    "max_values", _DATA.max_values, "Values of a cell in --multi that are read; more are cut."
)
flags.DEFINE_list(
    "value_weights",
    list(_DATA.value_weights),
    "table: those columns of --multi whose values have weights (tags: red:0.5|old:2, or in Parquet "
    "lists of structs {value, weight}, or maps).",
)
flags.DEFINE_string("time_column", _DATA.time_column, "table: the column that orders rows in time.")
flags.DEFINE_string("split", _DATA.split, "random (8:1:1 rows) or time.")
flags.DEFINE_string("split_index", _DATA.split_index, "Folder of row-number files, one per split.")
flags.DEFINE_integer(
    "min_count", _DATA.min_count, "A value seen less often shares its field's OOV row."
)
flags.DEFINE_string("vocab_from", _DATA.vocab_from, "Count values on the train split, or on all.")
flags.DEFINE_integer("data_seed", _DATA.data_seed, "Seed of the random split and the row order.")
flags.DEFINE_string(
    "group",
    _DATA.group,
    "A column, such as that of the user: also report the AUC within each of its values (GAUC).",
)
flags.DEFINE_string(
    "weight",
    _DATA.weight,
    "table: the column that says how much a row counts, in training and in every metric. kdd12 "
    "weighs by its impressions; none: a row is one example (the reference).",
)
flags.DEFINE_float(
    "draw_negatives",
    _DATA.draw_negatives,
    "Share of the training rows without a click that are drawn, in (0, 1]. Validation and test "
    "keep all rows, and models predict the probabilities of all rows.",
)
flags.DEFINE_integer("numeric_bins", _DATA.numeric_bins, "table: bins of a numeric column.")
flags.DEFINE_integer(
    "max_bad_rows", _DATA.max_bad_rows, "Unusable rows set aside before preparation stops."
)
flags.DEFINE_integer("synthetic_rows", _DATA.synthetic_rows, "synthetic: rows of all splits.")
flags.DEFINE_integer(
    "synthetic_signal_fields", _DATA.synthetic_signal_fields, "synthetic: fields that matter."
)
flags.DEFINE_integer(
    "synthetic_noise_fields", _DATA.synthetic_noise_fields, "synthetic: fields that do not."
)
flags.DEFINE_integer(
    "synthetic_field_size", _DATA.synthetic_field_size, "synthetic: distinct values of a field."
)


def data_options() -> DataOptions:
    """What the data flags say."""
    for name in ("raw_dir", "table_file", "train_file", "validation_file", "test_file"):
        if flags.FLAGS[name].value:
            in_file_system(flags.FLAGS[name].value, f"--{name}")
    return DataOptions(**values_of(DataOptions))


def layout() -> Layout:
    """How text files are written, as the flags say."""
    return Layout(**values_of(Layout))


def names_of(dataclass: type) -> list[str]:
    """The attributes of a dataclass that flags are called as."""
    fields = dataclasses.fields(dataclass)
    return [field.name for field in fields if field.metadata.get("is_flag", True)]


def values_of(dataclass: type) -> dict[str, Any]:
    """What the flags say that are called as the attributes of a dataclass."""
    return {name: flags.FLAGS[name].value for name in names_of(dataclass)}
