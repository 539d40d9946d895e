"""KDD Cup 2012 track 2: advertisements beside search results (Tencent's soso.com).

A row tells how often an ad was shown under the same circumstances and how often it was clicked. It
stands for so many examples: those clicked and those not clicked, each a row weighted by how many
they are. The number of impressions is then no field: it is not known when an ad is shown. The
authors of OptEmbed take a row for one example, clicked or not, and the impressions for a field.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from optembed_jax.data.formats.description import Format
from optembed_jax.data.options import DataOptions
from optembed_jax.data.raw.columns import Column, Label, Weight
from optembed_jax.data.raw.dialect import Dialect
from optembed_jax.data.raw.files import find_files
from optembed_jax.data.raw.sources import RawData
from optembed_jax.data.raw.text import TextSource
from optembed_jax.errors import InputError

_IMPRESSIONS = "impression"
_FIELDS = (
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
_COLUMNS = ("click", _IMPRESSIONS, *_FIELDS)


class Kdd12(Format):
    """The KDD Cup 2012 track 2 data."""

    name = "kdd12"
    DESCRIPTION = (
        "Search advertising sessions, 149,639,105 rows. A row stands for its impressions, of which "
        "some were clicked: for an example of label 1 weighted by the clicks, and one of label 0 "
        "weighted by the other impressions. With weight=none it is one example, clicked at least "
        "once or never, and its impressions are a field (as in the OptEmbed authors' code)."
    )
    CITATION = (
        "Tencent: KDD Cup 2012, Track 2, predict the click-through rate of ads given the query "
        "and user information. https://www.kaggle.com/c/kddcup2012-track2"
    )
    HOMEPAGE = "https://www.kaggle.com/c/kddcup2012-track2"
    LICENSE = "Kaggle's competition rules: to be read and accepted where the data are downloaded."
    RAW_FILES = ("training.txt", "training.txt.gz", "training*.txt*", "training*.gz", "part*")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put training.txt of KDD Cup 2012 track 2 (tab-separated, no header, 12 columns; plain, "
        ".gz, or several training*.txt parts) into a folder and name it with raw_dir."
    )

    VERSION = "3.0.0"

    @staticmethod
    def columns_of(used: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Column, ...]:
        """The 10 columns besides clicks and impressions; the latter too where rows are one example.

        What was prepared before version 3 has no such fact, and impressions as a field.
        """
        names = _FIELDS if facts.get("weighted") else (_IMPRESSIONS, *_FIELDS)
        return tuple(Column(name, name) for name in names)

    @classmethod
    def raw_data(cls, options: DataOptions) -> RawData:
        """Opens the raw files.

        Raises:
          InputError: they are missing, or `weight` is neither "impression" nor "none".
        """
        if options.weight not in (None, _IMPRESSIONS, "none"):
            raise InputError(
                f"weight of data set 'kdd12' is {_IMPRESSIONS} (what it does without) or none, not "
                f"{options.weight!r}"
            )
        weighted = options.weight != "none"
        files = find_files(options.raw_dir, cls.RAW_FILES, cls.MANUAL_DOWNLOAD_INSTRUCTIONS)
        dialect = Dialect(_COLUMNS, "\t", quoted=False, header=False)
        source = TextSource(tuple(files), dialect, _COLUMNS)
        clicks, facts = "a number of clicks", {"weighted": weighted}
        columns = cls.columns_of({}, facts)
        if not weighted:
            return RawData(source, columns, Label("click", _clicked, clicks), facts=facts)
        return RawData(
            source,
            columns,
            Label("click", _clicked, clicks, count=_numbers),
            facts=facts,
            weight=Weight(_IMPRESSIONS, _numbers, "a number of impressions"),
        )


def _clicked(values: pa.StringArray) -> np.ndarray:
    """1 where there was a click, 0 where there was none, 255 where that is not told."""
    clicks = _numbers(values)
    return np.where(np.isnan(clicks), 255, clicks > 0).astype(np.uint8)


def _numbers(values: pa.StringArray) -> np.ndarray:
    """Whole numbers from 0 to 10**9, float64; NaN elsewhere."""
    return np.array([_number(value) for value in values.to_pylist()], np.float64)


def _number(value: str | None) -> float:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 18:
        return math.nan
    found = int(value)
    return found if found <= 10**9 else math.nan
