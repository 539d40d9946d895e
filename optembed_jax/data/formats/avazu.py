"""Avazu click-through rate prediction (Kaggle 2014): ten days of mobile advertising."""

from collections.abc import Mapping
from typing import Any

from optembed_jax.data.formats.description import Format
from optembed_jax.data.options import DataOptions
from optembed_jax.data.raw import transforms
from optembed_jax.data.raw.columns import Column, Label, Time
from optembed_jax.data.raw.dialect import Dialect
from optembed_jax.data.raw.files import find_files
from optembed_jax.data.raw.labels import zero_or_one
from optembed_jax.data.raw.sources import RawData
from optembed_jax.data.raw.text import TextSource

_PLAIN = (
    "C1",
    "banner_pos",
    "site_id",
    "site_domain",
    "site_category",
    "app_id",
    "app_domain",
    "app_category",
    "device_id",
    "device_ip",
    "device_model",
    "device_type",
    "device_conn_type",
    *(f"C{i}" for i in range(14, 22)),
)
_COLUMNS = ("id", "click", "hour", *_PLAIN)
_HOUR = "an hour as YYMMDDHH"
_FROM_HOUR = {
    "hour": transforms.hour_of_day,
    "weekday": transforms.weekday,
    "is_weekend": transforms.is_weekend,
}


class Avazu(Format):
    """The Avazu data."""

    name = "avazu"
    DESCRIPTION = (
        "Ten days of mobile advertising by Avazu, 40,428,967 rows; the label says whether the ad "
        "was clicked. `id` is dropped; `hour` becomes hour of day, weekday and is_weekend."
    )
    CITATION = (
        "Avazu: Click-Through Rate Prediction. Kaggle, 2014. "
        "https://www.kaggle.com/c/avazu-ctr-prediction"
    )
    HOMEPAGE = "https://www.kaggle.com/c/avazu-ctr-prediction"
    LICENSE = "Kaggle's competition rules: to be read and accepted where the data are downloaded."
    RAW_FILES = ("train.csv", "train.csv.gz", "train*.csv*", "train*.gz", "part*")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put train.csv of Kaggle's Avazu competition (with its header; plain, .gz, or several "
        "train*.csv parts) into a folder and name it with raw_dir."
    )

    @staticmethod
    def columns_of(used: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Column, ...]:
        """The 24 fields."""
        return tuple(
            Column(
                name,
                "hour",
                transform=transform,
                check=transforms.not_an_hour,
                expected=_HOUR,
                step=(transform.__name__,),
            )
            for name, transform in _FROM_HOUR.items()
        ) + tuple(Column(name, name) for name in _PLAIN)

    @classmethod
    def raw_data(cls, options: DataOptions) -> RawData:
        """Opens the raw files."""
        files = find_files(options.raw_dir, cls.RAW_FILES, cls.MANUAL_DOWNLOAD_INSTRUCTIONS)
        dialect = Dialect(_COLUMNS, ",", quoted=False, header=True)
        return RawData(
            TextSource(tuple(files), dialect, _COLUMNS[1:]),
            cls.columns_of({}, {}),
            Label("click", zero_or_one),
            Time("hour", transforms.hours_since_2000, _HOUR),
        )
