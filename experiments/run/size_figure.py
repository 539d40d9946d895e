"""The figure of AUC against bytes: what was trained, and what a search scored, by its size.

A search's candidates are points, with their front; simple rules and its winner have names. Beside
a front each simple rule has a mark of its own, at sizes from the smallest table to the largest.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, Locator, LogLocator, MaxNLocator
from matplotlib.transforms import offset_copy

from experiments.run.figure_svg import INK, MUTED, SERIES, SURFACE, figure_of
from experiments.run.pick import pick
from optembed_jax.search.budget import BYTES_PER_PARAMETER
from optembed_jax.search.dimension_rules import DIMENSION_RULES

Summary = Mapping[str, Any]

TRAINED = ("baseline", "supernet", "retrain")
COLOUR = dict(zip((*TRAINED, "search"), SERIES, strict=True))
"""Of a phase, in all figures of a page."""
WINNER = "winner of the search"
_RULE, _WINNER = "s", "D"
"""Marks of a simple rule and of the search's own winner, whichever model or candidate that is."""
_RULES = dict(zip(DIMENSION_RULES, "^v<P", strict=True))
"""Marks of the simple rules beside a front, none of them another's."""
_LEADER = {
    **{"arrowstyle": "-", "color": MUTED, "linewidth": 0.6},
    **{"relpos": (0, 0.5), "shrinkA": 0, "shrinkB": 5},
}
"""The line from a name to its point."""


@dataclasses.dataclass(frozen=True)
class Scored:
    """Candidates as the supernet scored them.

    Attributes:
      points: float64 ``[n, 2]``, bytes and fitness of each.
      dims: int ``[n, F]``, its dimensions.
      mask: int ``[n]``, the number of its row mask.
    """

    points: np.ndarray
    dims: np.ndarray
    mask: np.ndarray


@dataclasses.dataclass(frozen=True)
class Point:
    """A model or candidate that is shown by name.

    Attributes:
      name: of the phase, the simple rules or the winner.
      size: bytes of its table.
      value: AUC, or what the search went by.
      marker: of Matplotlib.
      colour: a colour of ``figure_svg``.
    """

    name: str
    size: float
    value: float
    marker: str
    colour: str


def auc_against_bytes(summary: Summary, scored: Scored | None) -> Figure | None:
    """What was trained, by its size; and the candidates that the supernet scored, with their front.

    Args:
      summary: of the run.
      scored: the search's candidates; None without a search.
    """
    trained = trained_points(summary)
    if not trained:
        return None
    has_cloud = scored is not None and len(scored.points) > 0
    figure, axes = figure_of(4.2 if has_cloud else 3.8, 2 if has_cloud else 1)
    axes[0].set(title="validation AUC of what was trained")
    shown: list[list[Point]] = [trained]
    beside = rules_beside_front(summary.get("search", {}))
    if scored is not None and has_cloud:
        cloud, found = scored.points, named_candidates(summary, scored)
        axes[1].plot(*cloud.T, ".", color=MUTED, markersize=6, alpha=0.6, label="candidates")
        axes[1].step(
            *front_of(cloud).T,
            "o-",
            where="post",
            color=COLOUR["search"],
            markersize=4,
            label="front",
        )
        search = summary["search"]
        is_loss = search.get("fitness") == "logloss" and "front" not in search
        axes[1].set(title="candidates, as the supernet scores them")
        axes[1].set(ylabel="minus logloss" if is_loss else "AUC")
        shown.append(found)
        for point in itertools.chain(*beside):
            _draw(axes[1], point, size=5)
    for own, points in zip(axes, shown, strict=True):
        for point in points:
            _draw(own, point)
        own.set(xlabel="table, bytes (float32)")
        own.margins(x=0.1, y=0.12)
        sizes_along(own)
    axes[0].margins(x=0.3)
    _spread_labels(axes[0], trained)
    if has_cloud:
        # In a column: tables under one budget are all of one size.
        _spread_labels(axes[1], shown[1], axes[1].get_xlim()[1])
        handles = axes[1].get_legend_handles_labels()[0] + _legend_of(itertools.chain(*shown))
        handles += [_mark(rule[0].marker, rule[0].colour, rule[0].name) for rule in beside]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _draw(axes: Any, point: Point, size: float = 8) -> None:
    axes.plot(
        point.size,
        point.value,
        point.marker,
        color=point.colour,
        markersize=size,
        markeredgecolor=SURFACE,
        zorder=4 if point.marker == _WINNER else 3,
    )


def _legend_of(points: Iterable[Point]) -> list[Line2D]:
    """What the marks mean that some of the points have."""
    there = {point.marker for point in points}
    return [
        _mark(marker, colour, label)
        for marker, colour, label in (
            (_RULE, MUTED, "a simple rule"),
            (_WINNER, COLOUR["search"], WINNER),
        )
        if marker in there
    ]


def _mark(marker: str, colour: str, label: str) -> Line2D:
    return Line2D([], [], linestyle="none", marker=marker, color=colour, markersize=8, label=label)


def rules_beside_front(search: Mapping[str, Any]) -> list[list[Point]]:
    """The simple rules that a front was drawn beside, each at its sizes; of a run without, none."""
    found = []
    for rule, marker in _RULES.items():
        points = [
            Point(rule, one["table_bytes"], one["val_auc"], marker, MUTED)
            for one in search.get("rules", [])
            if one["rule"] == rule
        ]
        if points:
            found.append(points)
    return found


def sizes_along(axes: Any) -> None:
    """Bytes on the horizontal axis, logarithmic, with a few numbers, however far they range."""
    axes.set_xscale("log")
    low, high = axes.dataLim.minposx, axes.dataLim.xmax  # Bars begin at 0.
    numbers: Locator = LogLocator(subs=(1, 2, 5))
    is_positive = axes.dataLim.xmin > 0 or axes.patches
    if is_positive and high < 3 * low:
        numbers = MaxNLocator(3)  # Of four the last two are neighbours, on this scale.
    elif high > 100 * low:
        numbers = LogLocator(numticks=6)
    axes.xaxis.set_major_locator(numbers)
    axes.xaxis.set_major_formatter(EngFormatter("B"))
    axes.xaxis.set_minor_formatter("")


def front_of(scored: np.ndarray) -> np.ndarray:
    """Of points float64 ``[n, 2]`` of size and fitness those that no smaller one equals."""
    order = np.lexsort((-scored[:, 1], scored[:, 0]))
    points = scored[order]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(points[:-1, 1])])
    return np.asarray(points[points[:, 1] > before])


def trained_points(summary: Summary) -> list[Point]:
    """Each model that was trained; those of the short list by the name of what they are."""
    found = []
    retrained = summary.get("retrain", {})
    kept, finalists = retrained.get("kept"), retrained.get("finalists", [])
    for phase in TRAINED:
        result = summary.get(phase)
        if result is not None and "val_auc" in result:
            of_kept = [one for one in finalists if phase == "retrain" and one["name"] == kept]
            name = ": ".join([phase, *map(_name_of, of_kept)])
            marker = _marker_of(of_kept[0]) if of_kept else "o"
            found.append(_trained(name, result, marker, COLOUR[phase]))
    for one in finalists:
        if one["name"] not in (kept, *TRAINED):  # A supernet is there as a phase.
            is_winner = one["name"] == "search"
            colour = COLOUR["search"] if is_winner else MUTED
            found.append(_trained(_name_of(one), one, _marker_of(one), colour))
    return found


def _trained(name: str, result: Mapping[str, Any], marker: str, colour: str) -> Point:
    size = float(BYTES_PER_PARAMETER * result["table_parameters"])
    return Point(name, size, float(result["val_auc"]), marker, colour)


def named_candidates(summary: Summary, scored: Scored) -> list[Point]:
    """The search's winner, and the simple rules of the short list, where they were scored.

    A search records no names. The short list has them beside the dimensions, by which a rule's
    candidate is found again: a search under a budget scores all rules at that budget. Without a
    short list only the winner is known, and of a front only what was picked of it is one.
    """
    winner = search = summary["search"]
    if "front" in search:
        if "retrain" not in summary:
            return []
        winner = pick(search["front"], summary["flags"]["pick"])
    alone = {"name": "search", "rules": [], "dims": winner["dims"]}
    if search.get("strategy") in DIMENSION_RULES:
        alone = {**alone, "name": search["strategy"], "rules": [search["strategy"]]}
    found = []
    same_rows = scored.mask == winner.get("mask", 0)  # The short list keeps the winner's rows.
    for one in summary.get("retrain", {}).get("finalists", [alone]):
        wanted = np.array(list(one["dims"].values()))
        for place in np.flatnonzero(same_rows & (scored.dims == wanted).all(axis=1))[:1]:
            size, value = scored.points[place].tolist()
            colour = COLOUR["search"] if one["name"] == "search" else MUTED
            found.append(Point(_name_of(one), size, value, _marker_of(one), colour))
    return found


def _name_of(finalist: Mapping[str, Any]) -> str:
    """The simple rules that it is of, and whether it is the winner; of many names the first two,
    since a name as long as its axes leaves them no room.
    """
    own = [] if finalist["rules"] else [finalist["name"]]
    if finalist["name"] == "search":
        own = [WINNER]
    names = [*own, *finalist["rules"]]
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return " = ".join(names[:2]) + more


def _marker_of(finalist: Mapping[str, Any]) -> str:
    if finalist["name"] == "search":
        return _WINNER
    return _RULE if finalist["rules"] else "o"


def _spread_labels(axes: Any, points: Sequence[Point], column: float = 0.0) -> None:
    """Names of points, one below the other where they are neighbours, none below the axis.

    Each is right of its point and of those beside it, and of ``column``, in bytes.
    """
    low, high = axes.get_ylim()
    apart = 0.06 * (high - low)
    ordered = sorted(points, key=lambda point: -point.value)
    places, at = [], np.inf
    for point in ordered:
        at = min(point.value, at - apart)
        places.append(at)
    floor = low + apart / 2
    for number in reversed(range(len(places))):
        places[number] = max(places[number], floor)
        floor = places[number] + apart
    right_of = offset_copy(axes.transData, axes.figure, x=12, units="points")
    for point, place in zip(ordered, places, strict=True):
        beside = [
            other.size
            for other in points
            if abs(other.value - point.value) < 2 * apart and other.size <= 1.3 * point.size
        ]
        axes.annotate(
            point.name,
            (point.size, point.value),
            xytext=(max(column, *beside), place),
            textcoords=right_of,
            color=INK,
            fontsize=9,
            va="center",
            arrowprops=_LEADER,
        )
