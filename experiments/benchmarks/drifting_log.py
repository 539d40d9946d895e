"""A log that drifts from day to day, made up or cut of MovieLens's; and which values come back."""

import csv
import datetime
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.special import expit

_SIZES = {"user": 2_000, "item": 500, "place": 20}
_AWAY = 0.15
"""Chance of a user or item that is there today to be away tomorrow, and the other way round."""

_MOVES = 0.3
"""Share of an effect that is drawn anew every day."""


def days_of(seed: int, days: int, rows: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Each day's columns, with label, and the chance of a click of each row."""
    draw = np.random.default_rng(seed)
    effects = {name: draw.normal(0, 1, size) for name, size in _SIZES.items()}
    tastes = {name: draw.normal(0, 1, (size, 3)) for name, size in _SIZES.items()}
    is_here = {name: draw.random(size) < 0.6 for name, size in _SIZES.items()}
    for _ in range(days):
        columns, logit = {}, np.full(rows, -1.5)
        taste = np.ones((rows, 3))
        for name, size in _SIZES.items():
            here = np.flatnonzero(is_here[name])
            popular = 1 / (1 + draw.permutation(len(here))) ** 0.6
            chosen = draw.choice(here, rows, p=popular / popular.sum())
            columns[name] = np.char.add(name, chosen.astype(str))
            logit += 0.7 * effects[name][chosen]
            if name != "place":
                taste *= tastes[name][chosen]
            keeps = np.sqrt(1 - _MOVES**2)
            effects[name] = keeps * effects[name] + _MOVES * draw.normal(0, 1, size)
            tastes[name] = keeps * tastes[name] + _MOVES * draw.normal(0, 1, (size, 3))
            is_here[name] ^= draw.random(size) < _AWAY
        chance = expit(logit + 0.5 * taste.sum(axis=1))
        columns["click"] = (draw.random(rows) < chance).astype(np.int8)
        yield columns, chance


def slices_of(file: str, days: int) -> Iterator[tuple[dict[str, np.ndarray], None]]:
    """MovieLens's ratings in slices of as many rows, by time; nobody knows the truth of them."""
    with open(file, encoding="utf-8") as lines:
        rows = sorted(csv.DictReader(lines), key=lambda row: int(row["timestamp"]))
    with (pathlib.Path(file).parent / "movies.csv").open(encoding="utf-8") as lines:
        genres = {row["movieId"]: row["genres"].split("|")[0] for row in csv.DictReader(lines)}
    for part in np.array_split(np.arange(len(rows)), days):
        own = [rows[number] for number in part]
        at = [datetime.datetime.fromtimestamp(int(row["timestamp"]), datetime.UTC) for row in own]
        yield (
            {
                "user": np.array([row["userId"] for row in own]),
                "movie": np.array([row["movieId"] for row in own]),
                "genre": np.array([genres[row["movieId"]] for row in own]),
                "weekday": np.array([str(time.isoweekday()) for time in at]),
                "hour": np.array([str(time.hour) for time in at]),
                "click": np.array([float(row["rating"]) >= 4 for row in own]).astype(np.int8),
            },
            None,
        )


def returning(
    days: Sequence[Mapping[str, np.ndarray]], min_count: int, ahead: int = 0
) -> dict[str, float]:
    """What a table would serve that keeps rows of values that are away, from the second day on.

    Args:
      days: columns of each.
      min_count: how often a value has to be seen on a day to get a row.
      ahead: days from training to the rows that are scored.

    Returns:
      Of the test cells the shares whose value has no row (``without``), and of which the day before
      training had one (``yesterday``), or one of the three days before (``in_three``).
    """
    names = [name for name in days[0] if name != "click"]
    has_row, shares = [], []
    for columns in days:
        own = {}
        for name in names:
            training = columns[name][: len(columns[name]) * 8 // 10]
            values, counts = np.unique(training, return_counts=True)
            own[name] = values[counts >= min_count]
        has_row.append(own)
    for day in range(1, len(days) - ahead):
        for name in names:
            test = days[day + ahead][name]
            test = test[len(test) * 9 // 10 :]
            is_without = ~np.isin(test, has_row[day][name])
            before = [np.isin(test, own[name]) for own in has_row[max(day - 3, 0) : day]]
            served = (is_without, is_without & before[-1], is_without & np.any(before, axis=0))
            shares.append([part.mean() for part in served])
    found = np.mean(shares, axis=0).tolist()
    return dict(zip(("without", "yesterday", "in_three"), found, strict=True))
