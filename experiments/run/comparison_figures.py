"""The figures of a comparison's page, of its summary; each None where there is nothing to see."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.run.comparison_grid import FULL, is_optembed
from experiments.run.figure_svg import INK, MUTED, SERIES, SURFACE
from experiments.run.size_figure import front_of, sizes_along
from optembed_jax.rivals.registry import OPTEMBED

Summary = Mapping[str, Any]

_LOOKS = tuple(
    (colour, marker, dash)
    for (marker, dash) in (("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."))
    for colour in SERIES
)
"""Colour, mark and line: colours come again after four methods, with another mark."""

_FRONT: dict[str, Any] = {"color": MUTED, "alpha": 0.35, "linewidth": 9, "zorder": 1}
"""A band that methods' own lines are drawn on."""


def against_bytes(summary: Summary) -> Figure | None:
    """Test AUC and logloss against bytes of the bundle, with the spread of the seeds.

    A band runs through the front: what no bundle as small or smaller equals.
    """
    done = [one for one in summary["methods"] if one["seeds"]]
    if not done:
        return None
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    axes, looks = figure.subplots(1, 2), _looks(summary)
    for own, key, name in zip(axes, ("test_auc", "test_logloss"), ("AUC", "logloss"), strict=True):
        own.plot(*front(summary, key).T, label="front", **_FRONT)
        for method, (colour, marker, dash) in looks.items():
            points = [one for one in done if one["method"] == method]
            points.sort(key=lambda one: float(one["bundle_bytes"]))
            own.errorbar(
                [one["bundle_bytes"] for one in points],
                [one[key] for one in points],
                [one[f"{key}_sd"] or 0.0 for one in points],
                marker=marker,
                linestyle=dash,
                color=colour,
                markeredgecolor=SURFACE,
                linewidth=2.6 if is_optembed(method) else 1.6,
                markersize=_size_of(marker),
                elinewidth=1.0,
                capsize=2,
            )
        own.set(title=f"test {name}", xlabel="bundle, bytes (vocabulary and network with it)")
        own.margins(x=0.1, y=0.1)
        sizes_along(own)
    handles = [Line2D([], [], **_FRONT)]
    handles += [
        Line2D(
            [],
            [],
            color=colour,
            marker=marker,
            markersize=_size_of(marker),
            linestyle=dash,
            markeredgecolor=SURFACE,
        )
        for colour, marker, dash in looks.values()
    ]
    names = ["front", *map(_named, looks)]
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    return figure


def front(summary: Summary, key: str) -> np.ndarray:
    """The means over the seeds that no mean of a bundle as small or smaller equals.

    Over all methods, the full table too.

    Args:
      summary: of ``comparison_report.summarise``.
      key: ``test_auc``, of which more is better, or ``test_logloss``, of which less is.

    Returns:
      float64 ``[n, 2]``, bytes and the figure, the smallest bundle first.
    """
    sign = np.array([1.0, -1.0 if key == "test_logloss" else 1.0])
    points = [(one["bundle_bytes"], one[key]) for one in summary["methods"] if one["seeds"]]
    return sign * front_of(sign * np.array(points, np.float64).reshape(-1, 2))


def differences(summary: Summary) -> Figure | None:
    """OptEmbed's test AUC less each rival's under each budget, with 95 % intervals."""
    found = [one for one in summary["against"] if one["test_auc"]["half_width"] is not None]
    if not found:
        return None
    looks = _looks(summary)
    figure = Figure(figsize=(9.0, 1.4 + 0.3 * len(found)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0.0, color=MUTED, linewidth=1.5)
    for place, one in enumerate(reversed(found)):
        colour, marker, _ = looks[one["method"]]
        axes.errorbar(
            one["test_auc"]["mean"],
            place,
            xerr=one["test_auc"]["half_width"],
            marker=marker,
            color=colour,
            markeredgecolor=SURFACE,
            markersize=7,
            capsize=3,
        )
    labels = [f"{one['method']}, {100 * one['share']:g} %" for one in reversed(found)]
    axes.set_yticks(range(len(found)), labels)
    axes.set(xlabel="test AUC of OptEmbed less the rival's")
    return figure


def _looks(summary: Summary) -> dict[str, tuple[str, str, Any]]:
    """How each method is drawn, the same in every figure."""
    methods = list(dict.fromkeys(one["method"] for one in summary["methods"] if one["seeds"]))
    ours = next((method for method in methods if is_optembed(method)), OPTEMBED)
    rivals = [method for method in methods if method not in (ours, FULL)]
    found: dict[str, tuple[str, str, Any]] = dict(
        zip(rivals, itertools.cycle(_LOOKS), strict=False)
    )
    own: dict[str, tuple[str, str, Any]] = {ours: (INK, "o", "-"), FULL: (MUTED, "*", "none")}
    return {method: own.get(method) or found[method] for method in methods}


def _size_of(marker: str) -> float:
    """In points; a star is mostly gaps."""
    return 14.0 if marker == "*" else 7.0


def _named(method: str) -> str:
    chosen_by, _, storage = method.partition(":")
    known = {OPTEMBED: "OptEmbed", FULL: "the full table"}
    return f"{known.get(chosen_by, chosen_by)} {storage}".rstrip()
