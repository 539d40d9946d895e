"""KDD Cup 2012 track 2: advertisements beside search results (Tencent's soso.com)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from optembed_jax.data.options import DataOptions
from optembed_jax.data.preparing.builder import BlockBuilder
from optembed_jax.data.raw.columns import Column, Label
from optembed_jax.data.raw.sources import RawData, find_files
from optembed_jax.data.raw.text import Dialect, TextSource

_FIELDS = (
    "impression",
    "display_url",
    "ad_id",
    "advertiser_id",
    "depth",
    "position",
    "query_id",
    "keyword_id",
    "title_id",
    "description_id",
    "user_id",
)
_COLUMNS = ("click", *_FIELDS)


class Kdd12(BlockBuilder):
    """The KDD Cup 2012 track 2 data."""

    DESCRIPTION = (
        "Search advertising sessions, 149,639,105 rows; the label says whether the ad was clicked "
        "at least once. A row stands for several impressions and is NOT expanded: it is one "
        "example whatever its number of impressions, which is a field (as in the OptEmbed "
        "authors' code; it is not known before the ad is shown)."
    )
    CITATION = (
        "Tencent: KDD Cup 2012, Track 2, predict the click-through rate of ads given the query "
        "and user information. https://www.kaggle.com/c/kddcup2012-track2"
    )
    HOMEPAGE = "https://www.kaggle.com/c/kddcup2012-track2"
    LICENSE = "Kaggle's competition rules: to be read and accepted where the data are downloaded."
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put training.txt of KDD Cup 2012 track 2 (tab-separated, no header, 12 columns; plain, "
        ".gz, or several training*.txt parts) into a folder and name it with raw_dir."
    )

    @staticmethod
    def columns_of(used: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Column, ...]:
        """The 11 columns besides the clicks."""
        return tuple(Column(name, name) for name in _FIELDS)

    @classmethod
    def raw_data(cls, options: DataOptions) -> RawData:
        """Opens the raw files."""
        files = find_files(
            options.raw_dir,
            ("training.txt", "training.txt.gz", "training*.txt*", "training*.gz", "part*"),
            cls.MANUAL_DOWNLOAD_INSTRUCTIONS,
        )
        dialect = Dialect(_COLUMNS, "\t", quoted=False, header=False)
        source = TextSource(tuple(files), dialect, _COLUMNS)
        label = Label("click", _clicked, "a number of clicks")
        return RawData(source, cls.columns_of({}, {}), label)


def _clicked(values: pa.StringArray) -> np.ndarray:
    """1 where there was a click, 0 where there was none, 255 where that is not told."""
    return np.array([_label(value) for value in values.to_pylist()], np.uint8)


def _label(value: str | None) -> int:
    if value is None or not value.isascii() or not value.isdigit():
        return 255
    return int(value.lstrip("0") != "")
