"""MovieLens: ratings of films by users; the label says whether the rating is 4 or more.

The layouts of ml-latest-small, ml-20m and ml-25m (`ratings.csv`, `movies.csv`) and of ml-1m and
ml-10m (`ratings.dat`, `movies.dat`, and `users.dat` where there is one) are recognised by their
files. No field is made from ratings, so none leaks the label.

Fields: user, movie, the movie's genres (several values; with an empty ``multi`` each combination is
one), its first genre, its year, and the rating's year, month, weekday and hour (UTC); with
`users.dat` also gender, age group, occupation and zip code.
"""

import functools
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optembed_jax.data.formats.description import Format
from optembed_jax.data.options import DataOptions
from optembed_jax.data.raw.columns import NO_TIME, Column, Label, Time, code, not_an_integer
from optembed_jax.data.raw.dialect import Dialect
from optembed_jax.data.raw.files import RawFile, find_files
from optembed_jax.data.raw.layout import UTF8
from optembed_jax.data.raw.sources import RawData
from optembed_jax.data.raw.text import TextSource
from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells
from optembed_jax.values.rule import NUMBER, Rule

_COLUMNS = ("userId", "movieId", "rating", "timestamp")
_MOVIE_COLUMNS = ("movieId", "title", "genres")
_USER_COLUMNS = ("userId", "gender", "age", "occupation", "zip_code")
_LIKED = 4.0
_MOVIE_FIELDS = ("genres", "first_genre", "movie_year")
_USER_FIELDS = ("gender", "age", "occupation", "zip_code")
_TIME_FIELDS = {
    "rating_year": (pc.year, "year"),
    "rating_month": (pc.month, "month"),
    "rating_weekday": (
        functools.partial(pc.day_of_week, count_from_zero=False),
        "weekday_of_second",
    ),
    "rating_hour": (pc.hour, "hour"),
}


class MovieLens(Format):
    """The MovieLens data."""

    name = "movielens"
    DESCRIPTION = "Ratings of films by users; the label says whether the rating is 4 or more."
    CITATION = (
        "F. Maxwell Harper and Joseph A. Konstan. The MovieLens Datasets: History and Context. "
        "ACM Transactions on Interactive Intelligent Systems 5, 4, 2015."
    )
    HOMEPAGE = "https://grouplens.org/datasets/movielens/"
    LICENSE = "GroupLens's own terms (no commercial use without permission); see their README."
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack a MovieLens archive (ml-latest-small, ml-1m, ml-10m, ml-20m or ml-25m) and name "
        "the folder that holds its ratings file with raw_dir."
    )

    @staticmethod
    def columns_of(used: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Column, ...]:
        """The 9 fields, or 13 with users.dat; `facts` holds the movies and users by id."""
        number = Rule(NUMBER)
        columns = [Column("user", "userId", rule=number), Column("movie", "movieId", rule=number)]
        for place, name in enumerate(_MOVIE_FIELDS):
            look_up = _lookup(facts["movies"], place)
            step = ("lookup", "movies", place)
            columns.append(
                Column(
                    name,
                    "movieId",
                    transform=look_up,
                    rule=number,
                    step=step,
                    cells=Cells("|", used["max_values"]) if name in used.get("multi", ()) else None,
                )
            )
        for name, (part, step_name) in _TIME_FIELDS.items():
            columns.append(
                Column(
                    name,
                    "timestamp",
                    transform=functools.partial(_time_part, part),
                    check=_no_seconds,
                    expected="seconds since 1970",
                    step=(step_name,),
                )
            )
        if facts["users"]:
            for place, name in enumerate(_USER_FIELDS):
                look_up = _lookup(facts["users"], place)
                step = ("lookup", "users", place)
                columns.append(Column(name, "userId", transform=look_up, rule=number, step=step))
        return tuple(columns)

    @classmethod
    def raw_data(cls, options: DataOptions) -> RawData:
        """Opens the ratings and reads movies and users."""
        used = options.used_by(cls.name)
        if set(options.multi_of(cls.name)) - {"genres"}:
            raise InputError(f"multi of movielens is genres or nothing, not {used['multi']}")
        patterns = ("ratings.csv", "ratings.csv.gz", "ratings.dat", "ratings.dat.gz")
        found = find_files(options.raw_dir, patterns, cls.MANUAL_DOWNLOAD_INSTRUCTIONS)
        ratings = found[0].path
        as_csv = ".csv" in ratings.name
        movies = ratings.parent / ("movies.csv" if as_csv else "movies.dat")
        users = ratings.parent / "users.dat"
        with_users = not as_csv and users.is_file()
        facts = {"movies": _movies(movies), "users": _users(users) if with_users else {}}
        return RawData(
            TextSource((RawFile(ratings),), _dialect(ratings, _COLUMNS), _COLUMNS),
            cls.columns_of(used, facts),
            Label("rating", _liked, "a rating from 0.5 to 5"),
            Time("timestamp", _seconds, "seconds since 1970"),
            facts,
            beside=(RawFile(movies), *((RawFile(users),) if with_users else ())),
        )


def _lookup(table: Mapping[str, Any], place: int) -> Any:
    def look_up(values: pa.StringArray) -> pa.StringArray:
        return pa.array([table.get(v, _NOTHING)[place] for v in values.to_pylist()], pa.string())

    return look_up


_NOTHING = (None,) * 4


def _time_part(part: Any, values: pa.StringArray) -> pa.StringArray:
    found = _seconds(values)
    seconds = pa.array(found, pa.int64(), mask=found == NO_TIME)
    return pc.cast(part(pc.cast(seconds, pa.timestamp("s"))), pa.string())


# Of the years 1 to 9999.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799


def _seconds(values: pa.StringArray) -> np.ndarray:
    bad = not_an_integer(values)  # Arrow would read 0x1f as well
    try:
        found = pc.fill_null(pc.cast(values, pa.int64()), NO_TIME).to_numpy()
    except pa.ArrowInvalid:  # one of them is no integer, or beyond all times
        found = np.array([_second(v, no) for v, no in zip(values.to_pylist(), bad, strict=True)])
    valid = ~bad & (found >= _FIRST_SECOND) & (found <= _LAST_SECOND)
    return np.where(valid, found, NO_TIME).astype(np.int64)


def _second(value: str | None, is_bad: bool) -> int:
    if value is None or is_bad or len(value.lstrip("+-0")) > 18:
        return int(NO_TIME)
    return int(value)


def _no_seconds(values: pa.StringArray) -> np.ndarray:
    return np.asarray(_seconds(values) == NO_TIME)


def _liked(values: pa.StringArray) -> np.ndarray:
    try:
        ratings = pc.fill_null(pc.cast(values, pa.float64()), -1.0).to_numpy()
    except pa.ArrowInvalid:
        ratings = np.array([_rating(value) for value in values.to_pylist()])
    valid = (ratings >= 0.5) & (ratings <= 5.0)
    return np.where(valid, ratings >= _LIKED, 255).astype(np.uint8)


def _rating(value: str | None) -> float:
    try:
        return float(value or "nan")
    except ValueError:
        return float("nan")


def _movies(path: pathlib.Path) -> dict[str, tuple[str | None, str | None, str | None]]:
    """For each movie its genres, its first genre and its year (the last one in brackets)."""
    movies = {}
    for movie, title, genres in _read(path, _MOVIE_COLUMNS):
        years = re.findall(r"\((\d{4})\)", title)
        known = None if genres in ("", "(no genres listed)") else genres
        first = known.split("|")[0] if known else None
        movies[movie] = (known, first, years[-1] if years else None)
    return movies


def _users(path: pathlib.Path) -> dict[str, tuple[str | None, ...]]:
    return {row[0]: tuple(v or None for v in row[1:]) for row in _read(path, _USER_COLUMNS)}


def _read(path: pathlib.Path, names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The rows of a file beside the ratings, read as these are.

    Raises:
      InputError: it is missing or empty, has another header, or a row that cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; it belongs beside the ratings")
    # The older archives are Latin-1, which reads any byte.
    encoding = UTF8 if path.suffix == ".csv" else "latin-1"
    source = TextSource((RawFile(path),), _dialect(path, names), names, encoding=encoding)
    rows: list[tuple[str, ...]] = []
    for block in source.blocks():
        found = source.read(block)
        if found.rejects:
            raise InputError(str(found.rejects[0]))
        columns = []
        for name in names:
            raw = code(found.columns[name])
            values = raw.values.to_pylist()
            columns.append([values[number] or "" for number in raw.codes.tolist()])
        rows += zip(*columns, strict=True)
    return rows


def _dialect(path: pathlib.Path, names: tuple[str, ...]) -> Dialect:
    """How a file is written, by its name: the newer archives are CSV with a header."""
    as_csv = ".csv" in path.name
    return Dialect(names, "," if as_csv else "::", quoted=as_csv, header=as_csv)
