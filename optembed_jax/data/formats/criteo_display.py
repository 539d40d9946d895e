"""Criteo display advertising (Kaggle 2014): 13 counts and 26 categories per impression."""

from collections.abc import Mapping
from typing import Any

from optembed_jax.data.formats.description import Format
from optembed_jax.data.options import DataOptions
from optembed_jax.data.raw import transforms
from optembed_jax.data.raw.columns import BUCKET, Column, Label, not_an_integer
from optembed_jax.data.raw.dialect import Dialect
from optembed_jax.data.raw.files import find_files
from optembed_jax.data.raw.labels import zero_or_one
from optembed_jax.data.raw.sources import RawData
from optembed_jax.data.raw.text import TextSource

_INTEGERS = tuple(f"I{i}" for i in range(1, 14))
_CATEGORIES = tuple(f"C{i}" for i in range(1, 27))
_COLUMNS = ("label", *_INTEGERS, *_CATEGORIES)


class CriteoDisplay(Format):
    """The Criteo display advertising data."""

    name = "criteo_display"
    DESCRIPTION = (
        "A week of display advertising by Criteo, 45,840,617 rows; the label says whether the ad "
        "was clicked. Integers become buckets (floor(ln(v)^2) above 2), which are never filtered."
    )
    CITATION = (
        "Criteo Labs: Display Advertising Challenge. Kaggle, 2014. "
        "https://www.kaggle.com/c/criteo-display-ad-challenge"
    )
    HOMEPAGE = "https://www.kaggle.com/c/criteo-display-ad-challenge"
    LICENSE = "Criteo's own terms: to be read and accepted where the data are downloaded."
    RAW_FILES = ("train.txt", "train.txt.gz", "train*.txt*", "train*.gz", "part*")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put train.txt of the Criteo display advertising challenge (tab-separated, no header, "
        "40 columns; plain, .gz, or several train*.txt parts) into a folder and name it with "
        "raw_dir."
    )

    @staticmethod
    def columns_of(used: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Column, ...]:
        """I1 .. I13 as buckets, C1 .. C26 as they are."""
        return tuple(
            Column(
                name,
                name,
                BUCKET,
                transforms.log_bucket,
                not_an_integer,
                "an integer",
                step=("log_bucket",),
            )
            for name in _INTEGERS
        ) + tuple(Column(name, name) for name in _CATEGORIES)

    @classmethod
    def raw_data(cls, options: DataOptions) -> RawData:
        """Opens the raw files."""
        files = find_files(options.raw_dir, cls.RAW_FILES, cls.MANUAL_DOWNLOAD_INSTRUCTIONS)
        dialect = Dialect(_COLUMNS, "\t", quoted=False, header=False)
        source = TextSource(tuple(files), dialect, _COLUMNS)
        return RawData(source, cls.columns_of({}, {}), Label("label", zero_or_one))
